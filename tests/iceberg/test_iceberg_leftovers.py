"""After a promotion nothing is left that it alone needed, whatever became of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as fs
import pytest

from seeknal_core.errors import Interrupted, WriteRefused
from seeknal_core.types import Mode
from seeknal_iceberg import plugin
from support.iceberg import Bench

if TYPE_CHECKING:
    from support.lake import LakeServer

UPSERT: dict[str, Any] = {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("id",)}
FIRST = {"id": list(range(20)), "day": [n % 3 for n in range(20)]}
NEXT = {"id": [5, 100], "day": [2, 7], "more": [1.5, None]}


def note_of(bench: Bench) -> str:
    (path,) = [path for path in bench.notes() if path.endswith(".json")]
    return (bench.root / "target" / path).read_text()


@pytest.mark.parametrize("ends", ["stage", "died", "publish", "publish elsewhere"])
@pytest.mark.parametrize("partition_by", [(), ("day",)])
def test_an_existing_table_has_the_files_it_had(
    bench: Bench, ends: str, partition_by: tuple[str, ...]
) -> None:
    target = bench.target(partition_by=partition_by, **UPSERT)
    bench.write(target, FIRST)
    before, metadata = bench.files(), bench.metadata_files()
    promotion = bench.promotion()
    promotion.stage(target, NEXT)
    assert bench.metadata_files() == metadata
    assert len(bench.files()) > len(before)
    other = bench.other()
    if ends.startswith("publish"):
        promotion.publish()
        promotion.revert(other if "elsewhere" in ends else bench)
    if ends == "died":
        promotion.forget()
    promotion.discard(other)
    assert bench.files() == before
    assert bench.notes() == []
    assert list(bench.table(target).metadata.refs) == ["main"]
    promotion.discard()
    assert bench.files() == before
    other.close()


@pytest.mark.parametrize("ends", ["stage", "died", "publish", "publish elsewhere"])
@pytest.mark.parametrize("table", ["sales.new", "lake.sales.north.new", "lake.eu.north.new"])
def test_a_new_table_leaves_neither_files_nor_namespaces(
    bench: Bench, ends: str, table: str
) -> None:
    bench.write(bench.target("sales.old"), FIRST)
    before = bench.files()
    namespaces = plugin.list_owned(bench.context)
    promotion = bench.promotion()
    promotion.stage(bench.target(table), NEXT)
    assert plugin.list_owned(bench.context) == namespaces
    assert {"namespaces", "made"}.isdisjoint(json.loads(note_of(bench)))
    other = bench.other()
    if ends.startswith("publish"):
        promotion.publish()
        promotion.revert(other if "elsewhere" in ends else bench)
    if ends == "died":
        promotion.forget()
    promotion.discard(other)
    assert bench.files() == before
    assert plugin.list_owned(bench.context) == namespaces
    assert bench.notes() == []
    other.close()


@pytest.mark.parametrize("ends", ["stage", "died", "publish", "publish elsewhere"])
def test_a_catalog_that_was_made_for_nothing_goes(bench: Bench, ends: str) -> None:
    promotion = bench.promotion()
    for table in ("sales.a", "sales.b", "lake.eu.north.c"):
        promotion.stage(bench.target(table), FIRST)
    assert not (bench.root / "warehouse" / "catalog.db").exists()
    other = bench.other()
    if ends.startswith("publish"):
        promotion.publish()
        promotion.revert(other if "elsewhere" in ends else bench)
    if ends == "died":
        promotion.forget()
    promotion.discard(other)
    assert bench.files() == []
    assert bench.notes() == []
    for hands in (bench, other):
        hands.write(bench.target("sales.a"), FIRST)
        assert hands.count(bench.target("sales.a")) == 20
    other.close()


def test_a_catalog_that_somebody_uses_meanwhile_stays(bench: Bench) -> None:
    promotion = bench.promotion()
    promotion.stage(bench.target(), FIRST)
    other = bench.other()
    other.write(other.target("theirs.t"), NEXT)
    promotion.publish()
    promotion.revert()
    promotion.discard()
    assert bench.count(bench.target("theirs.t")) == 2
    other.close()


def test_a_namespace_that_somebody_uses_meanwhile_stays(bench: Bench) -> None:
    bench.write(bench.target("first.t"), FIRST)
    promotion = bench.promotion()
    promotion.stage(bench.target("lake.sales.north.new"), FIRST)
    promotion.publish()
    bench.write(bench.target("sales.theirs"), NEXT)
    promotion.revert()
    promotion.discard()
    assert bench.count(bench.target("sales.theirs")) == 2
    owned = [str(each.name) for each in plugin.list_owned(bench.context)]
    assert "sales" in owned
    assert "sales.north" not in owned


@pytest.mark.parametrize("exists", [True, False])
def test_staging_again_leaves_one_staged_write(bench: Bench, exists: bool) -> None:
    target = bench.target(mode=Mode.APPEND)
    if exists:
        bench.write(target, {"id": [1], "day": [1]})
    promotion = bench.promotion()
    promotion.stage(target, FIRST)
    once = len(bench.files())
    promotion.stage(target, FIRST)
    assert len(bench.files()) == once
    promotion.publish()
    assert bench.count(target) == 20 + exists
    promotion.discard()
    assert bench.count(target) == 20 + exists
    assert bench.notes() == []
    assert list(bench.table(target).metadata.refs) == ["main"]


@pytest.mark.parametrize("rows", [FIRST, {"id": [], "day": []}])
@pytest.mark.parametrize("exists", [True, False])
def test_what_was_undone_is_staged_again_without_leftovers(
    bench: Bench, exists: bool, rows: dict[str, Any]
) -> None:
    target = bench.target()
    bench.write(bench.target("sales.other"), FIRST)
    if exists:
        bench.write(target, FIRST)
    before = bench.files()
    promotion = bench.promotion()
    arrow = pa.table(rows, schema=pa.schema([("id", pa.int64()), ("day", pa.int64())]))
    promotion.stage(target, arrow)
    once = len(bench.files())
    promotion.publish()
    promotion.revert()
    promotion.stage(target, arrow)
    assert len(bench.files()) == once
    promotion.publish()
    assert bench.count(target) == len(rows["id"])
    promotion.revert()
    promotion.discard()
    assert bench.files() == before
    assert bench.notes() == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_staging_that_is_refused_leaves_nothing(bench: Bench, exists: bool) -> None:
    target = bench.target(partition_by=("day",))
    if exists:
        bench.write(target, FIRST)
    before = bench.files()
    with pytest.raises(WriteRefused):
        bench.promotion().stage(bench.target(partition_by=("nothing",)), FIRST)
    assert bench.files() == before
    assert bench.notes() == []


def test_published_rows_stay_when_their_promotion_is_forgotten(bench: Bench) -> None:
    target = bench.target(**UPSERT)
    bench.write(target, FIRST)
    promotion = bench.promotion()
    promotion.stage(target, NEXT)
    promotion.publish()
    rows, files = bench.rows(target), bench.files()
    for _ in range(2):
        promotion.discard()
        assert bench.rows(target) == rows
        assert bench.files() == files
    assert list(bench.table(target).metadata.refs) == ["main"]
    promotion.forget()
    promotion.discard()
    assert bench.rows(target) == rows


@pytest.mark.parametrize("expired", [True, False])
def test_files_that_a_later_snapshot_names_are_never_deleted(bench: Bench, expired: bool) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1]})
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2]})
    promotion.publish()
    published = bench.table(target).metadata.current_snapshot_id
    bench.write(target, {"id": [3]})
    if expired:
        bench.table(target).maintenance.expire_snapshots().by_id(published).commit()
    else:
        promotion.revert(overwrite=True)
    promotion.discard()
    assert bench.count(target) == (3 if expired else 1)
    table = bench.table(target)
    later = max(table.snapshots(), key=lambda each: each.sequence_number or 0)
    if expired:
        assert [row["id"] for row in bench.rows(target)] == [1, 2, 3]
    assert table.scan(snapshot_id=later.snapshot_id).to_arrow().num_rows == 3


@pytest.mark.parametrize("published", [True, False])
def test_what_somebody_stopped_is_undone_and_gone_all_the_same(
    bench: Bench, published: bool
) -> None:
    target = bench.target()
    bench.write(target, FIRST)
    before, rows = bench.files(), bench.rows(target)
    promotion = bench.promotion()
    promotion.stage(target, NEXT)
    promotion.stage(bench.target("sales.new"), NEXT)
    if published:
        promotion.publish()
    bench.context.cancellation.request()
    with pytest.raises(Interrupted):
        bench.promotion("p-2").stage(target, NEXT)
    promotion.revert()
    promotion.discard()
    reader = bench.other()
    assert reader.rows(target) == rows
    reader.close()
    assert bench.files() == before
    assert bench.notes() == []


def test_on_a_rest_catalog_nothing_is_left_either(
    lake: LakeServer, rest: Bench, lake_namespace: str
) -> None:
    s3 = fs.S3FileSystem(
        access_key=lake.s3_options()["s3.access-key-id"],
        secret_key=lake.s3_options()["s3.secret-access-key"],
        endpoint_override=lake.s3_endpoint,
        region="us-east-1",
    )

    def files() -> list[str]:
        place = lake.direct_options()["warehouse"].removeprefix("s3://").rstrip("/")
        selector = fs.FileSelector(f"{place}/{lake_namespace}", recursive=True)
        selector.allow_not_found = True
        found = s3.get_file_info(selector)
        return sorted(
            info.path
            for info in found
            if info.type == fs.FileType.File and not info.path.endswith(".metadata.json")
        )

    old = rest.target(f"{lake_namespace}.old", **UPSERT)
    rest.write(old, FIRST)
    before = files()
    for ends in ("stage", "died", "publish"):
        promotion = rest.promotion(f"p-{ends}")
        promotion.stage(old, NEXT)
        promotion.stage(rest.target(f"lake.{lake_namespace}.north.new"), NEXT)
        assert files() != before
        if ends == "publish":
            promotion.publish()
            promotion.revert()
        if ends == "died":
            promotion.forget()
        promotion.discard()
        assert files() == before
        assert rest.notes() == []
        owned = [str(each.name) for each in plugin.list_owned(rest.context)]
        assert f"{lake_namespace}.north" not in owned
