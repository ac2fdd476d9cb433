"""Four hooks are a backend: held to what applies, run, planned, and promoted "not staged"."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.testing import (
    Backend,
    BackendContract,
    CleanupContract,
    Outsider,
    SourceContract,
    StagingContract,
)
from support.cli import Cli, write
from support.distributions import install

SUPPORT = Path(__file__).parents[1] / "support"
TOTALS = "SELECT customer, sum(amount) AS total FROM source.orders GROUP BY ALL"
PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "profiles.yml": (
        "connections:\n  files: {type: minimal, path: ./files}\n"
        "  lake: {type: folder, path: ./lake}\n"
    ),
    "data/orders.csv": "id,customer,amount\n1,ada,10\n2,bela,20\n3,ada,5\n4,cleo,7\n",
    "seeknal/orders.yml": (
        "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
        "schema:\n  - {name: id, data_type: integer}\n  - {name: amount, data_type: integer}\n"
    ),
}


def nodes(least: int) -> dict[str, str]:
    """Return two nodes: one writes to four hooks, the other to a backend that stages."""
    head = "/* ---\nmaterialization: {{type: {}, table: sales.{}}}\n--- */\n"
    rest = f"{TOTALS} HAVING total > {least}\n"
    return {
        "seeknal/plain.sql": head.format("minimal", "plain") + rest,
        "seeknal/staged.sql": head.format("folder", "staged") + rest,
    }


class FilesOutsider(Outsider):
    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, parts: tuple[str, ...]) -> Path:
        return self._root.joinpath(*parts[:-1], f"{parts[-1]}.parquet")

    def read(self, parts: tuple[str, ...]) -> pa.Table | None:
        path = self._path(parts)
        return pq.ParquetFile(path).read() if path.exists() else None

    def objects(self) -> frozenset[str]:
        return frozenset(str(path) for path in self._root.rglob("*"))

    def write(self, parts: tuple[str, ...], rows: pa.Table) -> None:
        path, there = self._path(parts), self.read(parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables([there, rows]) if there else rows, path)


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="minimal", plugin="support.seeknal_minimal")


@pytest.fixture
def connection() -> Mapping[str, object]:
    return {"path": "files"}


@pytest.fixture
def outsider(tmp_path: Path) -> Outsider:
    return FilesOutsider(tmp_path / "files")


class TestFourHooks(BackendContract, StagingContract, SourceContract, CleanupContract):
    """What applies; the tests of other hooks are left out."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    write(root, {**PROJECT, **nodes(0)})
    return root


@pytest.fixture
def seeknal(project: Path, tmp_path: Path) -> Cli:
    for name in ("minimal", "folder"):
        install(
            tmp_path / "site",
            distribution=f"seeknal-{name}",
            module=f"seeknal_{name}",
            source=(SUPPORT / f"seeknal_{name}.py").read_text("utf-8"),
            entry_points={"seeknal.backends": {name: f"seeknal_{name}"}},
        )
    environ = {"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path / "home")}
    return Cli(cwd=project, environ=environ, warm=True)


def rows(project: Path, place: str) -> int:
    """Count a table's rows as an outsider."""
    count: int = pq.read_metadata(project / f"{place}.parquet").num_rows
    return count


def test_four_hooks_are_run_planned_and_promoted(project: Path, seeknal: Cli) -> None:
    seeknal("run")
    assert rows(project, "files/sales/plain") == rows(project, "lake/sales/staged") == 3

    write(project, nodes(10))
    planned = seeknal("env", "plan", "dev")
    assert "not staged" in planned.out
    targets = {
        one["node"]: one for one in seeknal("env", "plan", "dev", "--json").json()["targets"]
    }
    assert targets["transform.plain"]["guarantee"] == "not staged"
    assert targets["transform.staged"]["guarantee"] != "not staged"
    seeknal("env", "apply", "dev")
    assert rows(project, "files/dev_sales/plain") == rows(project, "lake/dev_sales/staged") == 2
    assert rows(project, "files/sales/plain") == rows(project, "lake/sales/staged") == 3

    document = seeknal("env", "promote", "dev", "--json").json()
    staged = {one["node"]: (one["staged"], one["rows"]) for one in document["targets"]}
    assert staged == {"transform.plain": (False, 2), "transform.staged": (True, 2)}
    assert rows(project, "files/sales/plain") == rows(project, "lake/sales/staged") == 2


def test_a_promotion_says_which_targets_are_not_staged(project: Path, seeknal: Cli) -> None:
    seeknal("run")
    write(project, nodes(10))
    seeknal("run", "--env", "dev")
    said = seeknal("env", "promote", "dev").out
    [line] = [line for line in said.splitlines() if "plain" in line and "not staged" in line]
    assert "sales.plain" in line


def test_an_unstaged_target_that_fails_is_named_and_written_by_the_next_run(
    project: Path, seeknal: Cli
) -> None:
    seeknal("run")
    write(project, nodes(10))
    seeknal("run", "--env", "dev")
    shutil.move(project / "files/sales", project / "elsewhere")
    (project / "files/sales").write_text("no folder", encoding="utf-8")
    failed = seeknal("env", "promote", "dev", code=1)
    assert "sales.plain" in failed.said and "File exists" in failed.said
    assert "promoted, not wholly" in failed.out
    assert "Next: fix that, then: seeknal run --env prod\n" in failed.err
    assert rows(project, "lake/sales/staged") == 2
    (project / "files/sales").unlink()
    shutil.move(project / "elsewhere", project / "files/sales")
    seeknal("run", "--env", "prod")
    assert rows(project, "files/sales/plain") == 2


def test_what_four_hooks_promise_is_shown(seeknal: Cli) -> None:
    shown = seeknal("plugins", "show", "minimal", "--json").json()
    assert shown["hooks"] == ["resolve_profile", "namespace_for", "materialize", "count_rows"]
    assert any("not staged" in line for line in shown["guarantees"])
    assert "sources: no" in shown["guarantees"]


FIELDS = {
    "version=None": "version is None, not str",
    "version=7": "version is of type int, not str",
    "version=b'v'": "version is of type bytes, not str",
    "rows_after='3'": "rows_after is of type str, not int",
    "rows_after=True": "rows_after is of type bool, not int",
    "rows_after=-1": "rows_after is -1, which is no count",
    "rows_written=None": "rows_written is None, not int",
    "created=1": "created is of type int, not bool",
    "notes='a note'": "notes is of type str, not tuple[str, ...]",
    "notes=[]": "notes is of type list, not tuple[str, ...]",
    "notes=(1,)": "notes[0] is of type int, not str",
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_field_of_a_result_is_an_error_that_names_it(
    project: Path, seeknal: Cli, tmp_path: Path, field: str
) -> None:
    """Not a record that is lost in silence, and a target that is written at every run."""
    module = tmp_path / "site" / "seeknal_minimal.py"
    name, _, value = field.partition("=")
    right = module.read_text("utf-8")
    wrong = (
        right.replace(
            "return WriteResult(rows_written=rows,",
            "return _wrong(rows_written=rows,",
        )
        + f"\n\ndef _wrong(**fields: object) -> WriteResult:\n    return WriteResult(**{{**fields, {name!r}: {value}}})  # type: ignore[arg-type]\n"
    )
    assert wrong != right
    module.write_text(wrong, "utf-8")
    said = seeknal("run", "--select", "plain", code=1).said
    assert f"materialize returned a WriteResult: {FIELDS[field]}" in said
    assert "seeknal-minimal" in said and "report it to the authors" in said
    module.write_text(right, "utf-8")
    assert "1 written" in seeknal("run", "--select", "plain").said.replace("targets ", "")
    seeknal("run", "--select", "plain")


@pytest.mark.parametrize("count", ["-1", "True", "'3'", "None", "2.0"])
def test_a_count_that_is_none_is_an_error(
    project: Path, seeknal: Cli, tmp_path: Path, count: str
) -> None:
    seeknal("run")
    write(project, nodes(10))
    seeknal("run", "--env", "dev")
    module = tmp_path / "site" / "seeknal_minimal.py"
    text = module.read_text("utf-8").replace("    return count\n", f"    return {count}\n")
    module.write_text(text, "utf-8")
    said = seeknal("env", "promote", "dev", code=1).said
    assert "count_rows returned" in said and "seeknal-minimal" in said
