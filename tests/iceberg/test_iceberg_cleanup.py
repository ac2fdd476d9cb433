"""What an environment made goes, files included; what it did not make stays."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from pyarrow.fs import FileSelector
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError

from seeknal_core.errors import Unreachable, WriteRefused
from seeknal_core.types import Mode, Owned, OwnedKind, QualifiedName, Target
from seeknal_iceberg import plugin
from seeknal_iceberg.commit import dropped_files
from seeknal_iceberg.connection.catalog import open_catalog, short_hash
from support.iceberg import Bench

ROWS = {"id": [1, 2]}
TESTS = str(Path(__file__).parents[1])

Other = Callable[..., Bench]


@pytest.fixture(params=["bench", "rest"])
def prod(request: pytest.FixtureRequest) -> Bench:
    """Production on an embedded catalog, and on a REST catalog."""
    return cast("Bench", request.getfixturevalue(request.param))


@pytest.fixture
def ns(lake_namespace: str) -> str:
    """A namespace that no other test uses."""
    return lake_namespace


@pytest.fixture
def other(ns: str) -> Iterator[Other]:
    """Make benches on the same connection, by default of a project's environment dev.

    The project is the test's own: tests share the REST catalog.
    """
    made: list[Bench] = []

    def make(bench: Bench, **given: Any) -> Bench:
        default = {"environment": "dev", "prefix": "dev_", "project": f"p_{ns}"}
        made.append(bench.other(**{**default, **given}))
        return made[-1]

    yield make
    for each in made:
        each.close()


def everything(bench: Bench) -> list[str]:
    """Return all that a store holds: namespaces with properties, tables, files and folders."""
    found = [str(path) for path in (bench.root / "target").rglob("*") if path.is_file()]
    file = bench.root / "warehouse" / "catalog.db"
    if "warehouse" in bench.options:
        if not file.exists():
            return found
        with sqlite3.connect(file) as database:
            for table in ("iceberg_tables", "iceberg_namespace_properties"):
                found += [str(row) for row in database.execute(f"SELECT * FROM {table}")]
        database.close()
        found += [str(path) for path in file.parent.rglob("*") if not path.match("catalog.db*")]
        return sorted(found)
    catalog = open_catalog(bench.context)
    for levels in sorted(set(catalog.list_namespaces())):
        found.append(f"{levels} {catalog.load_namespace_properties(levels)}")
        for parts in catalog.list_tables(levels):
            found.append(f"{parts} {catalog.load_table(parts).metadata_location}")
    return sorted([*found, *files(bench, "s3://warehouse")])


def files(bench: Bench, location: str) -> list[str]:
    """Return the files and folders below a location."""
    from pyiceberg.io.pyarrow import PyArrowFileIO

    io = PyArrowFileIO(open_catalog(bench.context).properties)
    scheme, netloc, path = io.parse_location(location, io.properties)
    selector = FileSelector(path, allow_not_found=True, recursive=True)
    return [info.path for info in io.fs_by_scheme(scheme, netloc).get_file_info(selector)]


def names(bench: Bench) -> list[str]:
    return [str(owned.name) for owned in plugin.list_owned(bench.context)]


def drop_all(bench: Bench) -> list[str]:
    """Drop all that is listed; return what was there."""
    listed = plugin.list_owned(bench.context)
    return [str(owned.name) for owned in listed if plugin.drop_target(bench.context, owned)]


def owned(target: Target) -> Owned:
    parts = target.name.parts
    return Owned(kind=OwnedKind.TABLE, name=QualifiedName(parts=parts, quoted=".".join(parts)))


def namespace(*levels: str) -> Owned:
    name = QualifiedName(parts=levels, quoted=".".join(levels))
    return Owned(kind=OwnedKind.NAMESPACE, name=name)


#: The id of a write whose process is gone.
_KILLED = "0c0ffee0-0000-4000-8000-000000000001"


def test_all_of_an_environment_goes_and_nothing_of_another(
    prod: Bench, ns: str, other: Other
) -> None:
    prod.write(prod.target(f"{ns}.orders"), ROWS)
    prod.write(prod.target(f"lake.{ns}.deep.orders"), ROWS)
    before = everything(prod)
    assert any("parquet" in line for line in before)

    dev = other(prod)
    for table in (f"{ns}.orders", f"lake.{ns}.deep.orders", f"lake.x{ns}.a.b.t"):
        dev.write(dev.target(table), ROWS)
    dev.write(dev.target(f"{ns}.added", Mode.APPEND), ROWS)
    dev.write(dev.target(f"{ns}.added", Mode.APPEND), {"id": [3]})
    dev.write(dev.target(f"{ns}.orders"), {"id": [7]})
    found = plugin.list_owned(dev.context)
    assert [str(each.name) for each in found] == [
        f"dev_{ns}.added",
        f"dev_{ns}.deep.orders",
        f"dev_{ns}.orders",
        f"dev_x{ns}.a.b.t",
        f"dev_x{ns}.a.b",
        f"dev_{ns}.deep",
        f"dev_x{ns}.a",
        f"dev_{ns}",
        f"dev_x{ns}",
    ]
    assert [each.kind for each in found] == [OwnedKind.TABLE] * 4 + [OwnedKind.NAMESPACE] * 5
    assert found[2].identity == dev.inspect(dev.target(f"{ns}.orders")).identity
    assert plugin.list_owned(dev.context) == found
    assert drop_all(dev) == [str(each.name) for each in found]
    assert everything(prod) == before
    assert plugin.list_owned(dev.context) == ()
    assert [plugin.drop_target(dev.context, each) for each in found] == [False] * 9
    assert everything(prod) == before
    assert prod.count(prod.target(f"{ns}.orders")) == 2
    assert set(names(prod)) >= {f"{ns}.orders", f"{ns}.deep.orders", f"{ns}.deep", ns}


def test_where_nothing_was_ever_made_nothing_is_listed_nor_made(bench: Bench) -> None:
    assert plugin.list_owned(bench.context) == ()
    assert plugin.drop_target(bench.context, owned(bench.target())) is False
    assert plugin.drop_target(bench.context, namespace("sales")) is False
    assert list(bench.root.iterdir()) == []


def test_what_was_dropped_can_be_made_again_in_the_same_command(
    prod: Bench, ns: str, other: Other
) -> None:
    dev = other(prod)
    before = everything(prod)
    for _ in range(2):
        dev.write(dev.target(f"{ns}.t"), ROWS)
        assert drop_all(dev) == [f"dev_{ns}.t", f"dev_{ns}"]
    assert [line for line in everything(prod) if ns in line] == []
    assert before == [] or everything(prod) == before


def test_an_adopted_table_and_namespace_stay(prod: Bench, ns: str, other: Other) -> None:
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    catalog = open_catalog(prod.context)
    schema = Schema(NestedField(1, "id", LongType()))
    catalog.create_namespace(f"dev_{ns}")
    catalog.create_table((f"dev_{ns}", "t"), schema)
    dev = other(prod, adopt=True)
    target = dev.target(f"{ns}.t")
    dev.write(target, ROWS)
    dev.write(dev.target(f"{ns}.made"), ROWS)
    assert names(dev) == [f"dev_{ns}.made"]
    with pytest.raises(WriteRefused, match="not this environment's any more"):
        plugin.drop_target(dev.context, owned(target))
    with pytest.raises(WriteRefused, match="not this environment's any more"):
        plugin.drop_target(dev.context, namespace(f"dev_{ns}"))
    assert drop_all(dev) == [f"dev_{ns}.made"]
    assert dev.count(target) == 2


def test_another_project_or_environment_is_not_touched(prod: Bench, ns: str, other: Other) -> None:
    ours, theirs = other(prod), other(prod, project=f"q_{ns}")
    ours.write(ours.target(f"{ns}.ours"), ROWS)
    theirs.write(theirs.target(f"{ns}.theirs"), ROWS)
    theirs.write(theirs.target(f"o{ns}.theirs"), ROWS)
    table, levels = plugin.list_owned(ours.context)
    assert str(levels.name) == f"dev_{ns}"
    foreign = owned(theirs.target(f"{ns}.theirs"))
    for each in (foreign, namespace(f"dev_o{ns}")):
        with pytest.raises(WriteRefused, match="not this environment's any more"):
            plugin.drop_target(ours.context, each)
    before = names(theirs)
    assert plugin.drop_target(ours.context, table)
    with pytest.raises(WriteRefused, match=rf"is not empty: it holds dev_{ns}\.theirs"):
        plugin.drop_target(ours.context, levels)
    assert names(theirs) == before
    assert theirs.count(theirs.target(f"{ns}.theirs")) == 2
    assert drop_all(theirs) == before
    assert drop_all(ours) == [f"dev_{ns}"]
    assert [line for line in everything(prod) if ns in line] == []


def test_a_table_that_another_project_adopted_is_nobodys_to_drop(
    prod: Bench, ns: str, other: Other
) -> None:
    ours, theirs = other(prod), other(prod, project=f"q_{ns}", adopt=True)
    target = ours.target(f"{ns}.t")
    ours.write(target, ROWS)
    theirs.write(target, ROWS)
    assert names(theirs) == []
    assert names(ours) == [f"dev_{ns}"]
    for bench in (ours, theirs):
        with pytest.raises(WriteRefused, match="not this environment's any more"):
            plugin.drop_target(bench.context, owned(target))
    assert theirs.count(target) == 2


def test_a_namespace_that_holds_something_foreign_stays(prod: Bench, ns: str, other: Other) -> None:
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    dev = other(prod)
    dev.write(dev.target(f"lake.{ns}.inner.t"), ROWS)
    catalog = open_catalog(prod.context)
    schema = Schema(NestedField(1, "id", LongType()))
    mine = (f"dev_{ns}", "inner", "mine")
    catalog.create_table(mine, schema)
    table, inner, outer = plugin.list_owned(dev.context)
    assert plugin.drop_target(dev.context, table)
    with pytest.raises(WriteRefused, match=r"inner is not empty: it holds .*mine"):
        plugin.drop_target(dev.context, inner)
    with pytest.raises(WriteRefused, match=rf"dev_{ns} is not empty: it holds dev_{ns}\.inner"):
        plugin.drop_target(dev.context, outer)
    assert plugin.list_owned(dev.context) == (inner, outer)
    catalog.drop_table(mine)
    assert drop_all(dev) == [str(inner.name), str(outer.name)]


def test_a_table_that_is_no_more_ours_stays(prod: Bench, ns: str, other: Other) -> None:
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    dev = other(prod)
    anew, copied = dev.target(f"{ns}.anew"), dev.target(f"{ns}.copied")
    for target in (anew, copied):
        dev.write(target, ROWS)
    listed = plugin.list_owned(dev.context)[:2]
    catalog = open_catalog(prod.context)
    properties = dev.table(copied).properties
    schema = Schema(NestedField(1, "id", LongType()))
    for target in (anew, copied):
        catalog.drop_table(target.name.parts)
    catalog.create_table(anew.name.parts, schema)
    catalog.create_table(copied.name.parts, schema, properties=properties)
    assert names(dev) == [f"dev_{ns}"]
    for each in listed:
        with pytest.raises(WriteRefused, match=r"not this environment.s any more"):
            plugin.drop_target(dev.context, each)
    assert {parts[-1] for parts in catalog.list_tables(f"dev_{ns}")} == {"anew", "copied"}


def test_a_renamed_table_stays(prod: Bench, ns: str, other: Other) -> None:
    dev = other(prod)
    target, kept = dev.target(f"{ns}.t"), dev.target(f"{ns}.kept")
    dev.write(target, ROWS)
    table = plugin.list_owned(dev.context)[0]
    open_catalog(prod.context).rename_table(target.name.parts, kept.name.parts)
    assert names(dev) == [f"dev_{ns}"]
    assert plugin.drop_target(dev.context, table) is False
    assert dev.count(kept) == 2
    assert len(dev.read(kept)) == 2


def test_files_that_another_table_uses_keep_the_table(bench: Bench, other: Other) -> None:
    dev = other(bench)
    target = dev.target()
    dev.write(target, ROWS)
    catalog = open_catalog(bench.context)
    catalog.create_namespace("archive")
    copy = catalog.register_table(("archive", "t"), dev.table(target).metadata_location)
    for listed in (True, False):
        assert names(dev if listed else other(bench)) == ["dev_sales.orders", "dev_sales"]
        with pytest.raises(WriteRefused, match=r"archive\.t has its files in the same place"):
            plugin.drop_target((dev if listed else other(bench)).context, owned(target))
    assert len(copy.scan().to_arrow()) == 2
    catalog.drop_table(("archive", "t"))
    assert drop_all(other(bench)) == ["dev_sales.orders", "dev_sales"]


def test_a_table_that_was_moved_stays(bench: Bench, other: Other) -> None:
    from pyiceberg.table.update import SetLocationUpdate

    dev = other(bench)
    target = dev.target()
    dev.write(target, ROWS)
    away = (bench.root / "elsewhere").as_uri()
    table = dev.table(target)
    table.catalog.commit_table(table, (), (SetLocationUpdate(location=away),))
    with pytest.raises(WriteRefused, match="was moved"):
        plugin.drop_target(dev.context, owned(target))
    assert dev.count(target) == 2


def test_data_files_elsewhere_go_if_they_are_ours(bench: Bench, other: Other) -> None:
    dev = other(bench)
    target = dev.target(mode=Mode.APPEND)
    dev.write(target, ROWS)
    elsewhere = bench.root / "elsewhere"
    with dev.table(target).transaction() as change:
        change.set_properties({"write.data.path": elsewhere.as_uri()})
    dev.write(target, {"id": [3]})
    (placed,) = elsewhere.rglob("*.parquet")
    theirs = bench.root / "theirs.parquet"
    theirs.write_bytes(placed.read_bytes())
    dev.table(target).add_files([theirs.as_uri()], check_duplicate_files=False)
    assert drop_all(dev) == ["dev_sales.orders", "dev_sales"]
    assert list(elsewhere.rglob("*.parquet")) == []
    assert theirs.exists()


def test_what_was_listed_in_another_catalog_is_not_dropped_here(bench: Bench) -> None:
    bench.write(bench.target(), ROWS)
    table = attrs.evolve(plugin.list_owned(bench.context)[0], identity="iceberg:[]")
    with pytest.raises(WriteRefused, match="another catalog"):
        plugin.drop_target(bench.context, table)
    assert bench.count(bench.target()) == 2


def test_a_broken_table_of_somebody_else_keeps_nobody_from_cleaning_up(
    bench: Bench, other: Other
) -> None:
    bench.write(bench.target("a.gone"), ROWS)
    bench.write(bench.target("a.broken"), ROWS)
    for name, text in (("gone", None), ("broken", "{}")):
        file = Path(
            bench.table(bench.target(f"a.{name}")).metadata_location.removeprefix("file://")
        )
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
    dev = other(bench)
    dev.write(dev.target(), ROWS)
    assert drop_all(dev) == ["dev_sales.orders", "dev_sales"]


def test_a_drop_that_the_catalog_forbids_changes_nothing(
    bench: Bench, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = other(bench)
    dev.write(dev.target(), ROWS)
    before = everything(bench)

    def drop_table(*args: Any) -> None:
        raise ForbiddenError("not you")

    with monkeypatch.context() as patch:
        patch.setattr(SqlCatalog, "drop_table", drop_table)
        with pytest.raises(WriteRefused, match="not you"):
            plugin.drop_target(dev.context, owned(dev.target()))
    assert everything(bench) == before
    assert drop_all(dev) == ["dev_sales.orders", "dev_sales"]


def test_files_that_cannot_be_deleted_now_are_deleted_by_the_same_call_again(
    bench: Bench, ns: str, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = other(bench)
    target = dev.target()
    dev.write(target, ROWS)
    with monkeypatch.context() as patch:

        def finish(*args: Any) -> None:
            raise OSError("curlCode: the storage is away")

        patch.setattr(dropped_files, "finish", finish)
        with pytest.raises(Unreachable):
            plugin.drop_target(dev.context, owned(target))
    assert names(dev) == ["dev_sales.orders", "dev_sales"]
    assert names(other(bench, project=f"q_{ns}")) == []
    assert drop_all(dev) == ["dev_sales.orders", "dev_sales"]
    assert everything(bench) == []


def test_files_left_behind_go_also_where_somebody_made_a_table_of_that_name(
    bench: Bench, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = other(bench)
    target = dev.target()
    dev.write(target, ROWS)
    location = Path(dev.table(target).location().removeprefix("file://"))
    with monkeypatch.context() as patch:
        patch.setattr(dropped_files, "finish", lambda *args: None)
        plugin.drop_target(dev.context, owned(target))
    assert location.exists()
    theirs = other(bench, project="theirs")
    theirs.write(theirs.target(), ROWS)
    assert plugin.drop_target(dev.context, owned(target)) is True
    assert not location.exists()
    with pytest.raises(WriteRefused, match="not this environment's any more"):
        plugin.drop_target(dev.context, owned(target))
    assert len(theirs.read(theirs.target())) == 2


def test_a_note_of_a_table_that_was_renamed_instead_deletes_nothing(
    bench: Bench, other: Other
) -> None:
    dev = other(bench)
    target, kept = dev.target(), dev.target("sales.kept")
    dev.write(target, ROWS)
    dropped_files.Note.of(dev.context, target.name.parts, dev.table(target)).write(dev.context)
    open_catalog(bench.context).rename_table(target.name.parts, kept.name.parts)
    assert plugin.drop_target(dev.context, owned(target)) is False
    assert len(dev.read(kept)) == 2
    assert names(dev) == ["dev_sales"]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from pyiceberg.catalog.sql import SqlCatalog
from seeknal_iceberg import plugin
from support.iceberg import Bench

original = SqlCatalog.drop_table
def drop_table(self, *args, **kwargs):
    if {dropped}:
        original(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
SqlCatalog.drop_table = drop_table
bench = Bench({{"warehouse": "./warehouse"}}, Path({root!r}), environment="dev", prefix="dev_",
              project={project!r})
plugin.drop_target(bench.context, plugin.list_owned(bench.context)[0])
"""


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_after_kill_9_the_same_calls_again_leave_nothing(
    bench: Bench, other: Other, dropped: bool, anew: bool
) -> None:
    bench.write(bench.target(), ROWS)
    before = everything(bench)
    dev = other(bench)
    dev.write(dev.target(), ROWS)
    code = textwrap.dedent(KILLED).format(
        tests=TESTS, root=str(bench.root), dropped=dropped, project=dev.context.project
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list((bench.root / "target").rglob("*.json"))) == 1
    if anew:
        dev.write(dev.target(), {"id": [5]})
    assert drop_all(dev) == ["dev_sales.orders", "dev_sales"]
    assert everything(bench) == before


def test_what_a_killed_write_left_goes_with_the_table(prod: Bench, ns: str, other: Other) -> None:
    before = everything(prod)
    dev = other(prod)
    target = dev.target(f"{ns}.t")
    dev.write(target, ROWS)
    location = dev.table(target).location().rstrip("/")
    if "warehouse" in prod.options:
        location += "-of-a-write-that-never-made-it"
    place = short_hash(dev.inspect(target).identity)
    folder = prod.root / "target" / "iceberg-pending" / place
    left = f"{location}/data/seeknal-{_KILLED}/00000.parquet"
    with dev.table(target).io.new_output(left).create() as stream:
        stream.write(b"half a file")
    note = {
        "write_id": _KILLED,
        "folders": [f"{location}/data/seeknal-{_KILLED}"],
        "ids": [_KILLED],
    }
    (folder / "killed.json").write_text(json.dumps(note))
    assert drop_all(dev) == [f"dev_{ns}.t", f"dev_{ns}"]
    assert [line for line in everything(prod) if ns in line or _KILLED in line] == []
    assert before == [] or everything(prod) == before
