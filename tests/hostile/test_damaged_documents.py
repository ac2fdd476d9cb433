"""Whatever stands in a document below ``target/``: one sentence and an exit code, or no matter.

Each field of each document gets each of some values. The default run takes a few of all pairs,
``SEEKNAL_FUZZ=1000`` takes so many.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli, write
from support.engines import open_lab

_EXIT_CODES = {0, 1, 2, 3, 4, 5}
_DEEP: Any = None
for _ in range(500):
    _DEEP = [_DEEP]
#: What a field holds instead of what it should.
_VALUES: tuple[Any, ...] = (
    None, True, -1, 10**40, 1.5, "", "x" * 100_000, "../../../etc/passwd", "\x1b[31m\u202e\x00",
    [], [[]], [1], {}, {"": {}}, _DEEP, float("nan"),
)  # fmt: skip
_MISSING = object()

#: Which commands look at a kind of document.
_COMMANDS = (
    ("run",),
    ("env", "list"),
    ("env", "show", "dev"),
    ("env", "plan", "dev"),
    ("env", "apply", "dev"),
    ("env", "diff", "dev"),
    ("env", "status", "prod"),
    ("env", "promote", "dev", "--dry-run"),
    ("env", "promote", "dev", "--abort"),
    ("env", "rollback", "prod"),
    ("query", "SELECT * FROM big"),
    ("gc",),
    ("state", "recover"),
)
_KINDS = {
    "environments": (0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 12),
    "manifests": (3, 5, 7),
    "plans": (4, 2, 11),
    "promotions": (8, 9, 11, 1),
    "snapshots": (0, 5, 10, 11),
    "aliases": (0, 11),
    "cache": (0, 3),
    "state": (0, 3),
}


def kind_of(path: Path) -> str:
    return next(part for part in reversed(path.parts[:-1]) if part in _KINDS)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every field of a document; of long lists the first two."""
    if above:
        yield above
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*above, key))
    elif isinstance(value, list):
        for number in range(min(len(value), 2)):
            yield from places(value[number], (*above, number))


def damaged(document: Any, place: tuple[Any, ...], value: Any) -> str:
    made = copy.deepcopy(document)
    inside = made
    for key in place[:-1]:
        inside = inside[key]
    if value is _MISSING:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return json.dumps(made)


@pytest.fixture
def used(project: Path, seeknal: Cli) -> Path:
    """A project with one document of every kind below its ``target``."""
    write(project, {"seeknal/more.sql": "SELECT customer FROM transform.totals\n"})
    totals = (project / "seeknal/totals.sql").read_text("utf-8")
    totals = totals.replace("GROUP BY ALL", "GROUP BY customer")
    write(project, {"seeknal/totals.sql": totals})
    seeknal("run")
    big = (project / "seeknal/big.yml").read_text("utf-8")
    write(project, {"seeknal/big.yml": big.replace("15", "5")})
    seeknal("env", "plan", "dev")
    seeknal("env", "apply", "dev")
    seeknal("env", "promote", "dev")
    # An additive change, for an alias.
    more = totals.replace("AS total", "AS total, upper(customer) AS n")
    write(project, {"seeknal/totals.sql": more})
    seeknal("env", "plan", "dev")
    seeknal("run", "--env", "dev")
    seeknal("env", "plan", "dev")
    return project


def documents(project: Path) -> dict[Path, Any]:
    found = {}
    for path in sorted((project / "target").rglob("*")):
        if not path.is_file():
            continue
        try:
            found[path] = json.loads(path.read_text("utf-8"))
        except ValueError:
            continue
    return {path: value for path, value in found.items() if isinstance(value, (dict, list))}


def test_every_field_of_every_document(used: Path, seeknal: Cli, tmp_path: Path) -> None:
    found = documents(used)
    assert {kind_of(path) for path in found} >= {
        "environments", "manifests", "plans", "promotions", "snapshots", "aliases", "cache",
    }  # fmt: skip
    pairs = [
        (path, place, value)
        for path, document in found.items()
        for place in places(document)
        for value in (*_VALUES, _MISSING)
    ]
    random.Random(14).shuffle(pairs)
    shutil.copytree(used / "target", tmp_path / "kept", symlinks=True)
    failures = []
    for number, (path, place, value) in enumerate(pairs[: int(os.environ.get("SEEKNAL_FUZZ", 20))]):
        commands = _KINDS[kind_of(path)]
        command = _COMMANDS[commands[number % len(commands)]]
        path.unlink()
        path.write_text(damaged(found[path], place, value), "utf-8")
        what = f"{path.relative_to(used)} {place} = {value!r:.40}: {command}"
        try:
            ended = seeknal(*command, code=None)
        except AssertionError as error:
            failures.append(f"{what}: {str(error)[-1500:]}")
        else:
            if ended.code not in _EXIT_CODES or (ended.code and "Next: " not in ended.err):
                failures.append(f"{what}: exit {ended.code}: {ended.said[-600:]}")
        shutil.rmtree(used / "target")
        shutil.copytree(tmp_path / "kept", used / "target", symlinks=True)
    assert not failures, "\n\n".join(failures)


def test_every_field_of_a_snapshot_s_document_that_says_that_it_is_sound(tmp_path: Path) -> None:
    """The digest of the document itself is made anew: only what is meant by it can be wrong."""
    key = "ab" + "0" * 62
    with open_lab(tmp_path) as lab:
        with lab.store.staging() as staging:
            lab.engine.compute_sql("transform.a", ["SELECT 1 AS a"], {}, staging)
            lab.store.commit(staging, "transform.a", key, "2:x", ["a note"])
        folder = lab.store.root / key[:2] / key
        shutil.copytree(folder, tmp_path / "kept")
        document = json.loads((folder / "snapshot.json").read_text("utf-8"))
        for place in places(document):
            for value in (*_VALUES, _MISSING):
                made = json.loads(damaged(document, place, value))
                made.pop("check", None)
                text = json.dumps(made, sort_keys=True)
                made["check"] = hashlib.sha256(text.encode()).hexdigest()
                (folder / "snapshot.json").write_text(json.dumps(made), "utf-8")
                lab.store.contains(key)
                lab.store.notes_of(key)
                lab.store.digest_of(key)
                found = lab.store.find("transform.a", key, verify=True)
                if found is not None:
                    assert isinstance(found.row_count, int)
                    assert found.files == (str(folder / "data_0.parquet"),)
                else:
                    shutil.copytree(tmp_path / "kept", folder)
