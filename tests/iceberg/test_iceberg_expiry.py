"""Old snapshots go where a target declares it; undo, tags and what is read stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from seeknal_core.types import Mode, Swept, Target
from seeknal_iceberg import plugin
from seeknal_iceberg.cleanup import expire
from seeknal_iceberg.write.options import IcebergTargetOptions
from support.iceberg import Bench
from support.rest_server import RestServer


@pytest.fixture(params=["embedded", "rest"])
def lake(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "embedded":
        yield bench
        return
    with RestServer(tmp_path / "server") as server:
        over = Bench({"catalog": server.catalog_options()}, tmp_path)
        yield over
        over.close()


def target_of(bench: Bench, age: timedelta | None = timedelta(0), **fields: object) -> Target:
    return bench.target(options=IcebergTargetOptions(expire_snapshots=age), **fields)  # type: ignore[arg-type]


def sweep(bench: Bench, *targets: Target, dry_run: bool = False) -> Swept:
    return plugin.sweep(bench.context, (), dry_run, targets)


def snapshots(bench: Bench, target: Target) -> list[int]:
    return [each.snapshot_id for each in bench.table(target).metadata.snapshots]


def data_files(bench: Bench) -> int:
    return len([*bench.root.rglob("*.parquet")]) - len([*bench.root.glob("snapshots/**/*.parquet")])


def test_what_nothing_names_is_expired_with_its_files(lake: Bench) -> None:
    target = target_of(lake)
    for number in range(4):
        lake.write(target, {"id": [number]})
    table = lake.table(target)
    tagged = table.metadata.snapshots[1].snapshot_id
    table.manage_snapshots().create_tag(tagged, "kept").commit()
    before, files = snapshots(lake, target), data_files(lake)
    said = sweep(lake, target, dry_run=True)
    assert len(said.done) == 1 and "would expire" in said.done[0]
    assert (snapshots(lake, target), data_files(lake)) == (before, files)
    assert sweep(lake, target_of(lake, None)).done == ()
    assert sweep(lake, target_of(lake, timedelta(hours=1))).done == ()
    (done,) = sweep(lake, target).done
    left = snapshots(lake, target)
    assert tagged in left and before[-1] in left and before[0] not in left
    assert data_files(lake) < files
    assert f"expired {len(before) - len(left)} snapshots" in done
    for each in left:  # also those in between, of a replacement that deletes and appends
        lake.table(target).scan(snapshot_id=each).to_arrow()
    assert lake.rows(target) == [{"id": 3}]
    assert sweep(lake, target) == Swept()


def test_an_undo_outlives_an_expiry(lake: Bench) -> None:
    target = target_of(lake)
    lake.write(target, {"id": [1]})
    lake.write(target, {"id": [2]})
    promotion = lake.promotion()
    promotion.stage(target, {"id": [3]})
    promotion.publish()
    sweep(lake, target)
    assert lake.rows(target) == [{"id": 3}]
    promotion.revert()
    assert lake.rows(target) == [{"id": 2}]


def test_what_others_did_since_our_write_is_still_told(lake: Bench) -> None:
    target = target_of(lake, mode=Mode.APPEND)
    written = lake.write(target, {"id": [1]})
    for number in (2, 3):
        lake.table(target).append(lake.table(target).scan().to_arrow().slice(0, number - 1))
    count = len(snapshots(lake, target))
    sweep(lake, target)
    assert len(snapshots(lake, target)) == count
    from seeknal_core.types import Drift, Since

    since = Since(version=written.version, rows=1, mark=written.mark)
    (change,) = plugin.changes_since(lake.context, (target,), (since,))
    assert change.drift is Drift.ADDED


def test_a_table_of_others_and_one_that_shares_files_keep_them(lake: Bench) -> None:
    target = target_of(lake)
    for number in range(3):
        lake.write(target, {"id": [number]})
    table = lake.table(target)
    table.transaction().set_properties({"gc.enabled": "false"}).commit_transaction()
    files = data_files(lake)
    other = lake.other(environment="other")
    assert plugin.sweep(other.context, (), False, (target,)).done == ()
    other.close()
    (done,) = sweep(lake, target).done
    assert "deleted 0 files" in done
    assert data_files(lake) == files


def test_a_killed_expiry_is_finished_by_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_of(bench)
    for number in range(3):
        bench.write(target, {"id": [number]})
    files = data_files(bench)

    def die(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        real = expire._Expiry._delete
        calls: list[int] = []

        def second(self: expire._Expiry, table: object, names: frozenset[str]) -> int:
            calls.append(1)
            return real(self, table, names) if len(calls) == 1 else die()  # type: ignore[arg-type]

        patch.setattr(expire._Expiry, "_delete", second)
        with pytest.raises(KeyboardInterrupt):
            sweep(bench, target)
    assert data_files(bench) == files
    (note,) = Path(bench.context.target_dir).glob("iceberg-expired/*.json")
    assert json.loads(note.read_text())
    assert sweep(bench, target).done == ()
    assert data_files(bench) < files
    assert not note.exists()


def test_age_counts_from_when_a_snapshot_was_replaced(bench: Bench) -> None:
    target = target_of(bench)
    bench.write(target, {"id": [1]})
    bench.write(target, {"id": [2]})
    metadata = bench.table(target).metadata
    first = metadata.snapshots[0]
    replaced = metadata.snapshot_log[1].timestamp_ms
    aged = first.model_copy(update={"timestamp_ms": first.timestamp_ms - 10**9})
    old = metadata.model_copy(update={"snapshots": [aged, *metadata.snapshots[1:]]})
    assert first.snapshot_id not in expire.expired(old, replaced)
    assert first.snapshot_id in expire.expired(old, replaced + 1)
