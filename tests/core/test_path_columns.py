"""Columns of ``key=value`` folders: only where asked, only below the path's fixed part."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.contract.errors import ConfigError, EngineError
from seeknal_core.engine.files.find import resolve_files
from seeknal_core.project.specs import SourceNode
from support.cli import Cli, write
from support.engines import Lab, file_source, open_lab, rows

if TYPE_CHECKING:
    from support.lake import LakeServer

KINDS = ["csv", "jsonl", "json", "parquet"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    # The folder above the project has the form of a partition.
    root = tmp_path / "day=1999-01-01" / "project"
    root.mkdir(parents=True)
    with open_lab(root) as opened:
        yield opened


def put(lab: Lab, kind: str, path: str, **row: object) -> None:
    file = lab.root / f"{path}.{kind}"
    file.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "csv":
            file.write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
        case "parquet":
            pq.write_table(pa.Table.from_pylist([row]), file)
        case _:
            file.write_text(json.dumps(row) + "\n")
    os.utime(file, (1_600_000_000, 1_600_000_000))


def source(
    kind: str, table: str, dtypes: dict[str, str] | None = None, **params: object
) -> SourceNode:
    return attrs.evolve(file_source(kind, dtypes, **params), table=f"{table}.{kind}")


def read(lab: Lab, node: SourceNode) -> list[dict[str, object]]:
    files = resolve_files(node, lab.root, lab.root / "scratch")
    with lab.store.staging() as staging:
        lab.engine.read_files(node, files, staging)
        return rows(lab.keep(staging, node.id))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_above_the_project_adds_no_column(lab: Lab, kind: str) -> None:
    put(lab, kind, "data/a", x=1)
    put(lab, kind, "data/b", x=2)
    assert read(lab, source(kind, "data/*")) == [{"x": 1}, {"x": 2}]
    assert read(lab, source(kind, "data/a", hive=True)) == [{"x": 1}]


@pytest.mark.parametrize("kind", KINDS)
def test_folders_are_columns_where_the_glob_or_the_params_say_so(lab: Lab, kind: str) -> None:
    put(lab, kind, "data/day=2024-01-01/shop=A%20%3D%2FB/a", x=1)
    put(lab, kind, "data/day=2024-01-02/shop=__HIVE_DEFAULT_PARTITION__/b", x=2)
    found = [
        {"x": 1, "day": "2024-01-01", "shop": "A =/B"},
        {"x": 2, "day": "2024-01-02", "shop": None},
    ]
    assert read(lab, source(kind, "data/day=*/shop=*/*")) == found
    assert read(lab, source(kind, "data/**/*", hive=True)) == found
    assert read(lab, source(kind, "data/**/*", hive=False)) == [{"x": 1}, {"x": 2}]
    # What is written out is no column: it is the same for all.
    assert read(lab, source(kind, "data/day=2024-01-01/**/*", hive=True)) == [
        {"x": 1, "shop": "A =/B"}
    ]
    with pytest.raises(ConfigError) as caught:
        read(lab, source(kind, "data/**/*"))
    assert "hive: true" in str(caught.value.problems[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_declared_column_of_the_path_has_its_type_or_the_file_is_named(
    lab: Lab, kind: str
) -> None:
    put(lab, kind, "data/day=2024-01-01/n=7/a", x=1)
    node = source(kind, "data/day=*/n=*/*", {"day": "date", "n": "integer"}, filename=True)
    assert read(lab, node) == [
        {"x": 1, "day": date(2024, 1, 1), "n": 7, "filename": f"data/day=2024-01-01/n=7/a.{kind}"}
    ]
    put(lab, kind, "data/day=2024-02-30/n=8/b", x=2)
    with pytest.raises(EngineError, match=r"day=2024-02-30/n=8/b.*'day': '2024-02-30' is no date"):
        read(lab, node)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_in_file_and_path_is_an_error(lab: Lab, kind: str) -> None:
    put(lab, kind, "data/X=1/a", x=1)
    with pytest.raises(EngineError, match="column 'x' stands in the files and in their path"):
        read(lab, source(kind, "data/X=*/*"))


def test_files_below_other_folders_are_an_error_that_names_both(lab: Lab) -> None:
    put(lab, "jsonl", "data/day=1/a", x=1)
    put(lab, "jsonl", "data/day=1/hour=2/b", x=2)
    with pytest.raises(EngineError) as caught:
        read(lab, source("jsonl", "data/**/*", hive=True))
    assert "data/day=1/a.jsonl lies below day=…" in caught.value.message
    assert "data/day=1/hour=2/b.jsonl below day=…/hour=…" in caught.value.message
    put(lab, "jsonl", "more/day=1/day=2/a", x=1)
    with pytest.raises(EngineError, match="a folder for 'day' twice"):
        read(lab, source("jsonl", "more/**/*", hive=True))


def test_many_small_files_keep_the_columns_of_their_paths(lab: Lab) -> None:
    for n in range(100):
        put(lab, "jsonl", f"data/part={n // 50}/{n:03}", x=n)
    found = read(lab, source("jsonl", "data/part=*/*"))
    assert found == [{"x": n, "part": str(n // 50)} for n in range(100)]
    found = read(lab, source("jsonl", "data/part=*/*", filename=True))
    assert found[99] == {"x": 99, "part": "1", "filename": "data/part=1/099.jsonl"}


def test_the_same_files_on_s3_give_the_same_columns(
    lake: LakeServer, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = lake.catalog_options()
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(options["s3.endpoint"]))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(options["s3.access-key-id"]))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(options["s3.secret-access-key"]))
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    from seeknal_core.engine.files.s3 import _file_system

    system = _file_system()
    for day in ("2024-01-01", "2024-01-02"):
        with system.open_output_stream(f"lake/parts/day={day}/a.jsonl") as stream:
            stream.write(b'{"x":1}\n')
    found = read(lab, source("jsonl", "s3://lake/parts/day=*/*", filename=True))
    assert [row["day"] for row in found] == ["2024-01-01", "2024-01-02"]
    assert found[0]["filename"] == "s3://lake/parts/day=2024-01-01/a.jsonl"
    with pytest.raises(ConfigError):
        read(lab, source("jsonl", "s3://lake/parts/**/*"))


def test_check_names_a_source_that_must_choose(tmp_path: Path) -> None:
    for day in ("2024-01-01", "2024-01-02"):
        (tmp_path / f"data/day={day}").mkdir(parents=True)
        (tmp_path / f"data/day={day}/a.csv").write_text("x\n1\n")
    (tmp_path / "seeknal_project.yml").write_text("name: p\n")
    (tmp_path / "seeknal").mkdir()
    node = tmp_path / "seeknal" / "s.yml"
    text = "kind: source\nname: s\nsource: csv\ntable: data/**/*.csv\n"
    node.write_text(text)
    seeknal = Cli(cwd=tmp_path)
    found = seeknal("check", code=2).err
    assert "seeknal/s.yml:1:1: source.s.params.hive: data/**/*.csv finds folders like" in found
    assert "params: {hive: true}" in found
    assert "params: {hive: true}" in seeknal("run", code=None).err
    node.write_text(text + "params: {hive: true}\n")
    seeknal("check")


def test_a_folder_above_the_project_changes_no_row_below_the_source(tmp_path: Path) -> None:
    # Snapshots lie below that folder, too.
    root = tmp_path / "day=1999-01-01" / "p[1]"
    write(
        root,
        {
            "seeknal_project.yml": "name: p\n",
            "data/a.csv": "id,day\n1,monday\n",
            "seeknal/s.yml": "kind: source\nname: s\nsource: csv\ntable: data/a.csv\n"
            "audits:\n  - {type: accepted_values, columns: [day], values: [monday]}\n",
            "seeknal/t.sql": "SELECT * FROM s\n",
        },
    )
    seeknal = Cli(cwd=root, warm=True)
    seeknal("run")
    for node in ("s", "t"):
        found = seeknal("query", f"SELECT * FROM {node}", "--json").json()["rows"]
        assert found == [{"id": 1, "day": "monday"}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "{a1,b}"])
def test_a_name_that_looks_like_a_glob_stands_for_its_own_file(
    lab: Lab, kind: str, name: str
) -> None:
    put(lab, kind, f"data/{name}", x=1)
    put(lab, kind, "data/a1", x=2)
    found = read(lab, source(kind, "data/*", filename=True))
    assert {row["filename"]: row["x"] for row in found} == {
        f"data/{name}.{kind}": 1,
        f"data/a1.{kind}": 2,
    }
    assert len(found) == 2
