"""Documents below ``target/``: state, plans, manifests, promotions, snapshots, caches."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fuzz.target import Run, Target
from seeknal_core.engine import snapshotdoc
from seeknal_core.engine.aliases import Aliases
from seeknal_core.files.cache import Cache
from seeknal_core.files.sealed import read_sealed, write_sealed
from seeknal_core.graph.texts import Texts
from seeknal_core.plan.document import as_document, load_plan
from seeknal_core.project.parsed import unpack
from seeknal_core.state import promotions as promotion
from seeknal_core.state.documents import fields_of, to_json, write_atomically
from seeknal_core.state.manifest import load_manifest
from seeknal_core.state.store import StateStore

_KEY = "ab" + "0" * 62
_WORDS = (
    '{"schema_version": ', '"nodes"', '"targets"', '"content_key"', "null", "true", "-1", "1e999", "NaN",
    "Infinity", '"\\ud800"', "[]", "{}", '""', '"2026-01-02T03:04:05+00:00"', '"version"', '"entries"',
    f'"{_KEY}"', "9" * 30, "[[[[", '"check"',
)  # fmt: skip

_Reader = Callable[[Path, bytes], object]


def _put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _record(folder: Path, content: bytes) -> None:
    _put(folder / "environments" / "dev.json", content)
    (folder / "environments" / "dev.journal").unlink(missing_ok=True)
    state = StateStore(folder)
    state.documents_of(_KEY)
    state.holds("transform.a", _KEY)
    record = state.load("dev")
    assert record is not None
    to_json(fields_of(record))


def _journal(folder: Path, content: bytes) -> None:
    (folder / "environments" / "dev.json").unlink(missing_ok=True)
    _put(folder / "environments" / "dev.journal", content)
    state = StateStore(folder)
    state.holds("transform.a", _KEY)
    record = state.load("dev")
    to_json(fields_of(record) if record else {})


def _manifest(folder: Path, content: bytes) -> None:
    state = StateStore(folder)
    _put(state.document_path("manifests", "dev"), content)
    to_json({"nodes": load_manifest(state, "dev")})


def _plan(folder: Path, content: bytes) -> None:
    plan = load_plan(_put(folder / "dev.json", content))
    assert plan is not None
    as_document(plan)
    assert plan.has_changes in (True, False)


def _promotion(folder: Path, content: bytes) -> None:
    state = StateStore(folder)
    _put(state.document_path("promotions", "prod.current"), content)
    state.unfinished("prod")
    found = promotion.load(state, "prod")
    assert found is not None
    promotion.save(state, found)


def _snapshot(folder: Path, content: bytes) -> None:
    """The document's own digest is made anew: only what is meant by it can be wrong."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(content)
        if isinstance(document, dict):
            rest = {key: value for key, value in document.items() if key != "check"}
            made = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
            content = json.dumps({**rest, "check": made}).encode()
    _put(folder / snapshotdoc.NAME, content)
    found = snapshotdoc.read(folder, _KEY)
    if found is not None:
        assert found.files


def _alias(folder: Path, content: bytes) -> None:
    aliases = Aliases(folder)
    _put(folder / "aliases" / _KEY[:2] / _KEY, content)
    aliases.get(_KEY)
    aliases.keep([_KEY])


def _cache(folder: Path, content: bytes) -> None:
    """The seal is made anew: whoever can write the file can write its seal."""
    path = folder / "nodes.json"
    written = content.decode("utf-8", "ignore")
    write_sealed(path, written, write_atomically)
    assert read_sealed(path) == written.encode()
    cache = Cache()
    cache.open(path, ["2"])
    cache.get(_KEY)
    texts = Texts()
    entry = None
    with contextlib.suppress(ValueError, RecursionError):
        entry = json.loads(written)
    with contextlib.suppress(ValueError):
        unpack(entry)
    texts.remember(entry, "sql", "SELECT 1")
    assert texts.sql("SELECT 1").canonical
    cache.put(_KEY, "1")
    cache.save(write_atomically)


def _target(name: str, read: _Reader) -> Target:
    @contextlib.contextmanager
    def opened(folder: Path) -> Iterator[Run]:
        def run(data: bytes) -> None:
            read(folder, data)

        yield run

    return Target(name=name, open=opened, longest=4_000, words=_WORDS)


_READERS: Mapping[str, Any] = {
    "record": _record,
    "journal": _journal,
    "manifest": _manifest,
    "plan": _plan,
    "promotion": _promotion,
    "snapshot_document": _snapshot,
    "alias": _alias,
    "cache": _cache,
}

TARGETS = tuple(_target(name, read) for name, read in _READERS.items())
