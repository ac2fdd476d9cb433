"""What an environment's record holds, and how it survives a crash.

One JSON document per environment, replaced atomically at the end of a command,
and beside it a journal: a line for each node and target as it is finished. A
command that died leaves its journal, and whoever comes next folds it in, so
only what was not finished is done again. The stores' own ledgers decide what
was really written; the record only spares asking them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs

from seeknal_core.contract.errors import StateError
from seeknal_core.files.own import make_folder, open_own
from seeknal_core.files.regular import read_regular, refuse_irregular
from seeknal_core.state.documents import (
    damaged,
    exclusive_lock,
    fields_of,
    free_name,
    read_document,
    state_error,
    sync_folder,
    to_json,
    write_atomically,
    write_document,
)

#: Without ``--debug`` what is of level warning goes to standard error, and nothing else.
log = logging.getLogger("seeknal")

#: Raised when an earlier version could not read what is written.
_VERSION = 2
_ID = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(r"[0-9A-Za-z_-]{4,}")


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class NodeRecord:
    """A node as an environment holds it: a reference to a stored snapshot.

    ``definition`` and ``content_key`` are fingerprints; ``binding`` tells where
    a source was read; ``read_at`` is when (ISO 8601, UTC); ``audits`` is the
    fingerprint of the audits that passed on this content key. ``inputs`` are the
    content keys of what it was computed of, by node; ``proof`` says why the stored
    rows are the node's although its inputs changed, empty where they were computed.
    ``covers`` is the time that these rows are complete for, templates expanded; empty
    where the node does not say, and in records of older versions. ``stored`` is the digest
    of the snapshot's document, which has those of its files.
    """

    definition: str
    content_key: str
    rows: int
    binding: str = ""
    read_at: str = ""
    audits: str = ""
    inputs: Mapping[str, str] = attrs.field(factory=dict)
    proof: str = ""
    covers: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    stored: str = ""


@attrs.frozen(kw_only=True)
class TargetRecord:
    """A target as an environment wrote it last.

    ``bindings`` digests where its connection led; ``identity`` is physical. ``mark`` is
    what the store marks the table by since then; ``run_id`` is the command that wrote it.
    Both may be empty. ``parts`` are the name's. ``link`` is the table that the target is a
    link to, empty where it is a table of its own; ``copied`` is how many bytes of another
    environment's rows were copied into it.
    """

    node: str
    name: str
    type: str
    connection: str
    bindings: str
    identity: str
    fingerprint: str
    content_key: str
    version: str
    rows: int
    written_at: str
    mark: str = ""
    run_id: str = ""
    parts: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    link: str = ""
    copied: int = 0


@attrs.frozen(kw_only=True)
class EnvironmentRecord:
    """Everything remembered of one environment. Times are ISO 8601, UTC.

    ``status`` is ``applied`` (wholly, without a failure), ``failed``,
    ``interrupted`` or ``partial`` (a selection ran, never all). ``generation``
    counts the promotions into it. ``base`` names the environment it was planned
    upon, and ``base_state`` digests what that one was then (`moved_digest`).
    ``rolled_back`` digests the definitions that a rollback took away. ``protected``
    is what its profile said last, and ``given_profile`` is that file where the user
    named it.
    """

    name: str
    profile: str = ""
    created_at: str = ""
    last_run_at: str = ""
    last_run_id: str = ""
    status: str = ""
    generation: int = 0
    base: str = ""
    base_state: str = ""
    rolled_back: str = ""
    protected: bool = False
    given_profile: str = ""
    nodes: Mapping[str, NodeRecord] = attrs.field(factory=dict)
    targets: Mapping[str, TargetRecord] = attrs.field(factory=dict)


_TYPES: Mapping[str, type] = {
    "rows": int,
    "copied": int,
    "parts": list,
    "covers": list,
    "generation": int,
    "protected": bool,
    "nodes": dict,
    "targets": dict,
    "inputs": dict,
}

#: Fields that hold a time with its zone, or nothing.
_TIMES = frozenset({"read_at", "written_at", "created_at", "last_run_at"})

_R = TypeVar("_R", NodeRecord, TargetRecord, EnvironmentRecord)


class Journal:
    """The lines of one running command. Thread-safe.

    Lines are flushed to the operating system, not to the disk: they must
    survive the process, and losing one costs work, not correctness. The file is
    made by the first line: a command that is refused leaves none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def node(self, id: str, record: NodeRecord) -> None:
        """Note a node that is finished."""
        self._append({"node": id, "record": record})

    def target(self, key: str, record: TargetRecord) -> None:
        """Note a target that is written."""
        self._append({"target": key, "record": record})

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _append(self, entry: Mapping[str, object]) -> None:
        line = to_json(entry) + "\n"
        try:
            with self._lock:
                if self._descriptor is None:
                    self._descriptor = self._open()
                os.write(self._descriptor, line.encode())
        except OSError as error:
            raise state_error(error, self._path) from error

    def _open(self) -> int:
        make_folder(self._path.parent)
        refuse_irregular(self._path)
        descriptor = open_own(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if os.fstat(descriptor).st_size:
            # The command that left it may have died inside a line.
            os.write(descriptor, b"\n")
        return descriptor


class StateStore:
    """The state folder of one checkout, ``target/state``.

    Reading never writes: a command that only looks leaves no trace.
    """

    def __init__(self, folder: Path) -> None:
        #: Journals whose unreadable lines were told.
        self._warned: set[Path] = set()
        self._folder = folder
        self._environments = folder / "environments"
        self._nodes: tuple[dict[str, set[str]], set[tuple[str, str]]] | None = None
        self._nodes_lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self._folder

    def state_id(self, *, create: bool) -> str:
        """Return the id of this state folder, making it on the first write."""
        path = self._folder / "id"
        try:
            found = read_regular(path).decode("utf-8", "replace").strip()
        except FileNotFoundError:
            found = ""
        except OSError as error:
            raise state_error(error, path) from error
        if _ID.fullmatch(found):
            return found
        # Missing or damaged: as after the folder was deleted.
        fresh = uuid.uuid4().hex
        if not create:
            return fresh
        made = path.with_name(f".id.{free_name()}")
        write_atomically(made, fresh + "\n")
        try:
            if path.exists():
                os.replace(made, path)
            else:
                # Of two first commands at once the second takes the first one's id.
                with contextlib.suppress(FileExistsError):
                    os.link(made, path)
                made.unlink()
        except OSError as error:
            raise state_error(error, path) from error
        return self.state_id(create=False)

    def names(self) -> tuple[str, ...]:
        """List the recorded environments."""
        if not self._environments.is_dir():
            return ()
        # A command that died in an environment's first run left a journal alone.
        paths = self._environments.iterdir()
        return tuple(sorted({p.stem for p in paths if p.suffix in (".json", ".journal")}))

    def load(self, name: str) -> EnvironmentRecord | None:
        """Load an environment's record, what a dead command left included."""
        path = self._environments / f"{name}.json"
        data = read_document(path, _VERSION)
        record = record_of(data, path) if data is not None else None
        entries = list(self._journal_entries(name))
        if not entries:
            return record
        record = record or EnvironmentRecord(name=name)
        nodes, targets = dict(record.nodes), dict(record.targets)
        for id, held in entries:
            if isinstance(held, NodeRecord):
                nodes[id] = held
            else:
                targets[id] = held
        return attrs.evolve(record, nodes=nodes, targets=targets)

    def documents_of(self, content_key: str, *, anew: bool = False) -> Collection[str]:
        """Return the digests of a snapshot's documents that any environment recorded.

        Args:
            anew: look at the records again, which other commands may have changed.
        """
        return self._known_nodes(anew)[0].get(content_key, ())

    def holds(self, node: str, content_key: str, *, anew: bool = False) -> bool:
        """Return whether any environment recorded a content key as a node's."""
        return (node, content_key) in self._known_nodes(anew)[1]

    def _known_nodes(self, anew: bool) -> tuple[dict[str, set[str]], set[tuple[str, str]]]:
        with self._nodes_lock:
            if self._nodes is None or anew:
                documents: dict[str, set[str]] = {}
                keys: set[tuple[str, str]] = set()
                for id, key, document in self._recorded_nodes():
                    keys.add((id, key))
                    if document:
                        documents.setdefault(key, set()).add(document)
                self._nodes = documents, keys
            return self._nodes

    def _recorded_nodes(self) -> Iterator[tuple[str, str, str]]:
        """Yield each recorded node with its content key and its snapshot's document.

        Who needs a record in full says what is wrong with it.
        """
        for name in self.names():
            with contextlib.suppress(
                OSError, ValueError, RecursionError, AttributeError, TypeError
            ):
                data = json.loads(read_regular(self._environments / f"{name}.json"))
                for id, node in data["nodes"].items() if "nodes" in data else ():
                    yield id, str(node.get("content_key")), str(node.get("stored") or "")
            with contextlib.suppress(StateError):
                for id, held in self._journal_entries(name):
                    if isinstance(held, NodeRecord):
                        yield id, held.content_key, held.stored

    def save(self, record: EnvironmentRecord) -> None:
        """Replace an environment's record and forget its journal."""
        write_document(self._environments / f"{record.name}.json", _VERSION, fields_of(record))
        with contextlib.suppress(FileNotFoundError):
            self._journal_path(record.name).unlink()

    def forget(self, name: str) -> None:
        """Remove all that is remembered of an environment; its record goes last."""
        for path in (
            self.document_path("plans", name),
            self.document_path("manifests", name),
            self._journal_path(name),
            self._environments / f"{name}.json",
        ):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def document_path(self, kind: str, name: str) -> Path:
        """Return where a document beside the record stands: ``plans``, ``manifests``, ..."""
        return self._folder / kind / f"{name}.json"

    def read(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """Read a document beside the record; None where there is none.

        Raises:
            StateError: it is damaged or newer than this version.
        """
        return read_document(self.document_path(kind, name), _VERSION)

    def write(self, kind: str, name: str, data: Mapping[str, object]) -> None:
        """Write a document beside the record, atomically."""
        write_document(self.document_path(kind, name), _VERSION, data)

    def remove(self, kind: str, name: str) -> None:
        """Remove a document beside the record, if it is there."""
        path = self.document_path(kind, name)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)

    def unfinished(self, environment: str) -> Mapping[str, Any] | None:
        """Return what is written down of a promotion into an environment that did not end."""
        return self.read("promotions", f"{environment}.current")

    def all(self, kind: str) -> tuple[str, ...]:
        """List the names that have a document of a kind."""
        return tuple(sorted(p.stem for p in (self._folder / kind).glob("*.json")))

    def journal(self, name: str) -> Journal:
        """Open the journal of a command on an environment."""
        return Journal(self._journal_path(name))

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep every other command away from an environment."""
        with exclusive_lock(self._environments / f"{name}.lock", f"environment {name!r}"):
            yield

    def _journal_path(self, name: str) -> Path:
        return self._environments / f"{name}.journal"

    def _journal_entries(self, name: str) -> Iterator[tuple[str, NodeRecord | TargetRecord]]:
        path = self._journal_path(name)
        try:
            lines = read_regular(path).splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise state_error(error, path) from error
        unreadable: list[int] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            entry = self._entry(line)
            if entry is not None:
                yield entry
            else:
                unreadable.append(number)
        if unreadable and path not in self._warned:
            self._warned.add(path)
            listed = ", ".join(map(str, unreadable[:5])) + (", …" if len(unreadable) > 5 else "")
            log.warning(
                "warning: %s: line %s cannot be read, as a command that died in the middle of "
                "writing leaves it; what it said is done again",
                path,
                listed,
            )

    @staticmethod
    def _entry(line: bytes) -> tuple[str, NodeRecord | TargetRecord] | None:
        """Return what a journal's line says; None where it cannot be read."""
        try:
            entry = json.loads(line.decode("utf-8"))
            if "node" in entry:
                return str(entry["node"]), _checked(NodeRecord, entry["record"])
            return str(entry["target"]), _checked(TargetRecord, entry["record"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def record_of(data: Mapping[str, Any], path: Path) -> EnvironmentRecord:
    """Make a record of a JSON document's values.

    Args:
        path: where they stood, for the message.

    Raises:
        StateError: they are no record's.
    """
    try:
        nodes = {id: _checked(NodeRecord, value) for id, value in data["nodes"].items()}
        targets = {key: _checked(TargetRecord, value) for key, value in data["targets"].items()}
        rest = {key: value for key, value in data.items() if key != "schema_version"}
        return _checked(EnvironmentRecord, {**rest, "nodes": nodes, "targets": targets})
    except KeyError as error:
        raise damaged(path, f"it lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise damaged(path, "a record in it is not one") from error


def _checked(cls: type[_R], value: Mapping[str, Any]) -> _R:
    """Make a record of plain values.

    Raises:
        TypeError, ValueError: they are not this record's.
    """
    record = cls(**value)
    for name, found in value.items():
        if not isinstance(found, _TYPES.get(name, str)):
            raise TypeError(name)
        if name in _TIMES and found and datetime.fromisoformat(str(found)).tzinfo is None:
            raise ValueError(name)
    key = value.get("content_key")
    if key is not None and not _KEY.fullmatch(key):
        raise ValueError("content_key")
    return record
