"""What is known of a SQL text is found out once, for every command and environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from seeknal_core.contract.errors import StateError
from seeknal_core.files.sealed import write_sealed
from seeknal_core.graph.references import analyze
from seeknal_core.graph.texts import Texts
from seeknal_core.state.documents import write_atomically
from support.cli import Cli, write

SQL = """-- a comment
CREATE TEMP TABLE t AS SELECT * FROM ref('source.a') WHERE x > now();
select t.x, b.y from t join transform.b as b using (id) where transform.b.z > input_0.q;
"""


def test_what_is_remembered_is_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "sql.json"
    first = Texts()
    first.open(path)
    found = first.sql(SQL)
    assert found.references == analyze(SQL).references
    assert found.volatile == ("now",)
    templated = first.definition("select {{ var('x') }} /* c */ from a")
    first.save(write_atomically)
    second = Texts()
    second.open(path)
    assert second.sql(SQL) == found
    assert second.definition("select {{ var('x') }} /* c */ from a") == templated


def test_nothing_is_written_when_nothing_is_new(tmp_path: Path) -> None:
    path = tmp_path / "sql.json"
    for _ in range(2):
        texts = Texts()
        texts.open(path)
        texts.sql(SQL)
        texts.save(write_atomically)
        before = path.stat().st_mtime_ns
    assert path.stat().st_mtime_ns == before


def test_a_damaged_memory_or_another_version_s_is_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "sql.json"
    texts = Texts()
    texts.open(path)
    texts.sql(SQL)
    texts.save(write_atomically)
    good = json.loads(path.read_text("utf-8"))
    key = next(iter(good["entries"]))
    poisoned = {**good, "entries": {key: ["poison", [[0, 6]], [], []]}}
    for text in (
        "{",
        "[]",
        json.dumps({**poisoned, "version": ["0", "1", "0.0", "0.0"]}),
    ):
        write_sealed(path, text, write_atomically)
        again = Texts()
        again.open(path)
        assert again.sql(SQL) == texts.sql(SQL)


@pytest.mark.parametrize("damage", [7, [1], ["a", None, [], []], ["a", [[1]], [], [[1]]]])
def test_a_damaged_entry_is_found_out_again(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "sql.json"
    first = Texts()
    first.open(path)
    found = first.sql(SQL)
    first.save(write_atomically)
    document = json.loads(path.read_text("utf-8"))
    document["entries"] = dict.fromkeys(document["entries"], damage)
    write_sealed(path, json.dumps(document), write_atomically)
    second = Texts()
    second.open(path)
    assert second.sql(SQL) == found


def test_what_is_not_used_any_more_is_forgotten_in_time(tmp_path: Path) -> None:
    path = tmp_path / "sql.json"
    for round in range(4):
        texts = Texts()
        texts.open(path)
        texts.sql(f"SELECT {round}")
        texts.save(write_atomically)
    assert len(json.loads(path.read_text("utf-8"))["entries"]) == 1


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    texts = Texts()
    texts.open(tmp_path / "sql.json")
    texts.sql(SQL)

    def full(path: Path, text: str) -> None:
        raise StateError(f"no space left for {len(text)} bytes at {path}")

    texts.save(full)


@pytest.mark.parametrize("command", [("run",), ("plan", "dev"), ("run", "--env", "dev")])
def test_an_unchanged_project_is_parsed_by_nobody(
    project: Path, seeknal: Cli, command: tuple[str, ...]
) -> None:
    seeknal("run")
    assert not loaded(seeknal, *command) & {"sqlglot", "duckdb"}
    write(project, {"seeknal/more.sql": "SELECT 1 AS one\n"})
    assert "sqlglot" in loaded(seeknal, *command)


def loaded(seeknal: Cli, *command: str) -> set[str]:
    """Return the packages that a command imports."""
    first, *rest = seeknal.command(*command)
    done = subprocess.run(
        [first, "-X", "importtime", *rest],
        cwd=seeknal.cwd,
        env=seeknal.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
