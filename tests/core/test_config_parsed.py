"""The cache of parsed files: the same nodes, whatever was remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from seeknal_core import project as config
from seeknal_core.contract.errors import ConfigError
from seeknal_core.files.cache import Cache
from seeknal_core.files.sealed import write_sealed
from seeknal_core.project import documents, parsed
from seeknal_core.project.specs import AnyNode
from seeknal_core.state.documents import write_atomically
from support.cli import Cli, write

FILES = {
    "seeknal_project.yml": "name: shop\n",
    "seeknal/orders.yml": """\
kind: source
name: orders
description: "what was bought \U0001f331"
owner: ada
tags: [raw, daily]
source: postgres
table: raw.orders
contract: true
columns:
  id: {description: the key, dtype: integer}
params: {connection: warehouse, deep: {a: [1, 2.5, null, {b: true}]}}
freshness: {warn_after: 2h, error_after: 1d, column: at}
changes: assume-unchanged 10m
max_rows: 12345678901234567890
audits:
  - {type: accepted_values, columns: [state], values: [1, x, 2.5], severity: warn}
---
kind: source
name: files
source: csv
table: data/x.csv
""",
    "seeknal/a.sql": """\
/* ---
materializations:
  - {type: postgresql, connection: warehouse, table: a.b, mode: upsert_by_key, unique_keys: [id]}
  - {type: iceberg, connection: lake, table: c.d, mode: incremental_by_time, time_column: at,
     partition_by: [day(at)], on_schema_change: fail, enabled: false}
--- */
SELECT 1 AS id
""",
    "seeknal/b.yml": "kind: transform\ndescription: beside its SQL\n",
    "seeknal/b.sql": "\n\nSELECT * FROM transform.a\n",
    "seeknal/plain.sql": "SELECT 2 AS id",
    "seeknal/listed.yml": """\
kind: transform
name: listed
inputs: [{ref: transform.a}]
transform: |
  SELECT * FROM transform.a
""",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


def whole(nodes: tuple[AnyNode, ...]) -> list[object]:
    """Return all there is of nodes, with their places, which they do not compare."""
    return [(type(node), attrs.asdict(node)) for node in nodes]


def load(root: Path) -> tuple[config.LoadedProject, Cache]:
    cache = config.open_parsed(root / "nodes.json")
    loaded = config.load_project(root, cache=cache)
    cache.save(write_atomically)
    return loaded, cache


def entries(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / "nodes.json").read_text("utf-8"))["entries"]
    return found


def test_what_is_remembered_is_what_was_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = load(root)
    assert len(entries(root)) == 5

    def parse(*args: object, **options: object) -> None:
        raise AssertionError("parsed again")

    # The project file is read by another name.
    monkeypatch.setattr("seeknal_core.project.documents.parse", parse)
    second, _ = load(root)
    assert whole(second.nodes) == whole(first.nodes)
    assert [node.id for node in second.nodes] == [node.id for node in first.nodes]


def test_one_changed_file_parses_one_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(root)
    asked = []
    parse = documents.parse  # type: ignore[attr-defined]

    def noted(text: str, file: str, **options: Any) -> object:
        asked.append(file)
        return parse(text, file, **options)

    monkeypatch.setattr("seeknal_core.project.documents.parse", noted)
    write(root, {"seeknal/listed.yml": FILES["seeknal/listed.yml"].replace("1 AS", "3 AS") + "\n"})
    load(root)
    assert asked == ["seeknal/listed.yml"]
    asked.clear()
    # Of two that belong together, either may change.
    write(root, {"seeknal/b.sql": "SELECT 5 AS five\n"})
    loaded, _ = load(root)
    assert asked == ["seeknal/b.yml"]
    assert {getattr(node, "sql", "") for node in loaded.nodes} >= {"SELECT 5 AS five\n"}
    asked.clear()
    (root / "seeknal" / "b.yml").unlink()
    loaded, _ = load(root)
    assert asked == []
    assert all(node.description != "beside its SQL" for node in loaded.nodes)


def test_a_text_elsewhere_is_another_node(root: Path) -> None:
    load(root)
    (root / "seeknal" / "plain.sql").rename(root / "seeknal" / "moved.sql")
    loaded, _ = load(root)
    assert "transform.moved" in {node.id for node in loaded.nodes}
    assert "transform.plain" not in {node.id for node in loaded.nodes}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("seeknal/bad.yml", "kind: transform\nname: bad\ntransfrom: SELECT 1\n"),
        ("seeknal/bad.yml", "kind: [\n"),
        ("seeknal/bad.yml", "kind: metric\nname: m\n"),
    ],
)
def test_a_mistake_is_told_every_time(root: Path, file: str, text: str) -> None:
    write(root, {file: text})
    told = []
    for _ in range(3):
        cache = config.open_parsed(root / "nodes.json")
        with pytest.raises(ConfigError) as caught:
            config.load_project(root, cache=cache)
        cache.save(write_atomically)
        told.append(caught.value.problems)
    assert told[0] == told[1] == told[2]


def test_legacy_fields_are_warned_of_every_time(root: Path) -> None:
    write(root, {"seeknal/old.yml": "kind: transform\nname: old\ntransform: SELECT 1\nmeta: {}\n"})
    assert load(root)[0].warnings == load(root)[0].warnings != ()


def test_what_is_skipped_stays_skipped(root: Path) -> None:
    write(root, {"seeknal/m.yml": "kind: metric\nname: m\n"})
    for _ in range(2):
        cache = config.open_parsed(root / "nodes.json")
        found = config.load_project(root, cache=cache, ignore_unsupported=True)
        cache.save(write_atomically)
        assert list(found.skipped) == ["metric.m"]


def test_a_value_that_json_lacks_is_read_from_the_text(root: Path) -> None:
    text = "kind: source\nname: dated\nsource: postgres\ntable: a.b\nparams: {since: 2026-01-02}\n"
    write(root, {"seeknal/dated.yml": text})
    first, _ = load(root)
    second, _ = load(root)
    assert len(entries(root)) == 5
    assert whole(first.nodes) == whole(second.nodes)


@pytest.mark.parametrize("damage", [1, [[4, 99, {}]], [[4, 0, {}]], [[9]], [None], [{"a": 1}], "x"])
def test_a_damaged_entry_is_no_entry(root: Path, damage: object) -> None:
    first, _ = load(root)
    document = json.loads((root / "nodes.json").read_text("utf-8"))
    document["entries"] = dict.fromkeys(document["entries"], damage)
    write_sealed(root / "nodes.json", json.dumps(document), write_atomically)
    second, _ = load(root)
    assert whole(second.nodes) == whole(first.nodes)
    assert damage not in entries(root).values()


def test_another_version_reads_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(root)
    document = json.loads((root / "nodes.json").read_text("utf-8"))
    document["entries"] = {key: [] for key in document["entries"]}
    write_sealed(root / "nodes.json", json.dumps(document), write_atomically)
    assert load(root)[0].nodes == ()
    monkeypatch.setattr(parsed, "VERSION", parsed.VERSION + 1)
    assert len(load(root)[0].nodes) == 6


def test_a_plan_and_a_run_use_it_in_any_environment(project: Path, seeknal: Cli) -> None:
    cache = project / "target" / "cache" / "nodes.json"
    seeknal("run", "--dry-run")
    assert not cache.exists()
    seeknal("env", "plan", "dev")
    before = cache.stat().st_mtime_ns
    seeknal("run")
    seeknal("run", "--env", "dev")
    assert cache.stat().st_mtime_ns == before
