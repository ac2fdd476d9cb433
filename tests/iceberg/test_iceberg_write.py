"""Writing: the modes, the ledger, ownership, and what is left in the warehouse."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.errors import NamespaceRefused, WriteRefused
from seeknal_core.types import Interval, Mode, Target
from support.iceberg import Bench
from support.parquet import before_footer, field_ids

APPEND, UPSERT, INTERVAL = Mode.APPEND, Mode.UPSERT_BY_KEY, Mode.INCREMENTAL_BY_TIME


def refused(bench: Bench, target: Target, rows: Any) -> WriteRefused:
    before = bench.table(target).metadata_location if bench.inspect(target).exists else None
    files = list(bench.data_files())
    with pytest.raises(WriteRefused) as caught:
        bench.write(target, rows)
    after = bench.table(target).metadata_location if bench.inspect(target).exists else None
    assert after == before
    assert list(bench.data_files()) == files
    return caught.value


def test_looking_makes_nothing(bench: Bench) -> None:
    state = bench.inspect(bench.target())
    assert (state.exists, state.version, state.owner) == (False, None, None)
    assert list(bench.root.iterdir()) == []


def test_the_first_write_makes_catalog_namespaces_and_table(bench: Bench) -> None:
    target = bench.target("lake.eu.north.orders")
    result = bench.write(target, {"id": [1, 2], "name": ["a", None]})
    assert (result.created, result.rows_written, result.rows_after) == (True, 2, 2)
    assert bench.rows(target) == [{"id": 1, "name": "a"}, {"id": 2, "name": None}]
    state = bench.inspect(target)
    assert state.version == result.version
    assert [(column.name, column.type) for column in state.columns] == [
        ("id", "long"),
        ("name", "string"),
    ]


def test_the_snapshots_bytes_are_copied_and_never_referenced(bench: Bench) -> None:
    target = bench.target()
    snapshot = bench.snapshot({"id": [1, 2, 3]}, files=3)
    bench.write(target, snapshot)
    # But for the footers: the files have the table's field ids.
    stored = sorted(before_footer(path) for path in bench.data_files())
    assert stored == sorted(before_footer(Path(path)) for path in snapshot.files)
    assert [field_ids(path) for path in bench.data_files()] == [["1"]] * 3
    paths = [task.file.file_path for task in bench.table(target).scan().plan_files()]
    assert all("/warehouse/sales/orders-" in path for path in paths)
    assert all(bench.table(target).properties["seeknal.write_id"] in path for path in paths)


def test_full_replaces_all_rows_in_one_iceberg_snapshot(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1, 2, 3]})
    result = bench.write(target, {"id": [4]})
    assert (result.created, result.rows_after) == (False, 1)
    assert bench.rows(target) == [{"id": 4}]
    assert bench.count(target) == 1
    assert len(bench.table(target).snapshots()) == 2


def test_a_reader_keeps_the_rows_it_began_with(bench: Bench) -> None:
    from seeknal_core.types import Source
    from seeknal_iceberg import plugin

    target = bench.target()
    bench.write(target, {"id": [1, 2, 3]})
    source = Source(node="s", type="iceberg", parts=target.name.parts)
    stream = plugin.read_source(bench.context, source)
    bench.write(target, {"id": [9]})
    assert stream.open().read_all()["id"].to_pylist() == [1, 2, 3]


def test_zero_rows_make_a_table_that_can_be_read(bench: Bench) -> None:
    target = bench.target()
    result = bench.write(target, pa.table({"id": pa.array([], pa.int64())}))
    assert (result.created, result.rows_after) == (True, 0)
    assert bench.read(target).num_rows == 0
    bench.write(target, {"id": [1]})
    assert bench.write(target, pa.table({"id": pa.array([], pa.int64())})).rows_after == 0
    assert bench.rows(target) == []


def test_an_append_of_one_content_key_is_added_once(bench: Bench) -> None:
    target = bench.target(mode=APPEND)
    first = bench.snapshot({"id": [1, 2]})
    second = bench.snapshot({"id": [3]})
    bench.write(target, first)
    assert bench.write(target, second).rows_after == 3
    again = bench.write(target, first)
    assert (again.rows_written, again.rows_after) == (0, 3)
    assert again.version == bench.inspect(target).version
    assert [row["id"] for row in bench.rows(target)] == [1, 2, 3]


def test_an_append_is_remembered_when_its_iceberg_snapshot_has_expired(bench: Bench) -> None:
    target = bench.target(mode=APPEND)
    first = bench.snapshot({"id": [1]})
    bench.write(target, first)
    bench.write(target, {"id": [2]})
    table = bench.table(target)
    table.maintenance.expire_snapshots().by_id(table.snapshots()[0].snapshot_id).commit()
    assert bench.write(target, first).rows_written == 0


def test_a_full_write_forgets_earlier_appends(bench: Bench) -> None:
    first = bench.snapshot({"id": [1]})
    bench.write(bench.target(mode=APPEND), first)
    bench.write(bench.target(), {"id": [5]})
    assert bench.write(bench.target(mode=APPEND), first).rows_after == 2


def test_the_ledger_remembers_a_bounded_number_of_appends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seeknal_iceberg.ledger.ledger.REMEMBERED", 2)
    target = bench.target(mode=APPEND)
    for number in range(4):
        bench.write(target, {"id": [number]})
    kept = [key for key in bench.table(target).properties if key.startswith("seeknal.appended.")]
    assert len(kept) == 2
    assert bench.write(target, bench.snapshot({"id": [3]})).rows_written == 0


def test_upsert_updates_what_is_there_and_inserts_the_rest(bench: Bench) -> None:
    target = bench.target(mode=UPSERT, unique_keys=("id",))
    bench.write(target, {"id": [1, 2, 3], "v": ["a", "b", "c"]})
    result = bench.write(target, {"id": [2, 4], "v": ["B", "D"]})
    assert (result.rows_written, result.rows_after) == (2, 4)
    assert [(row["id"], row["v"]) for row in bench.rows(target)] == [
        (1, "a"),
        (2, "B"),
        (3, "c"),
        (4, "D"),
    ]
    assert len(bench.table(target).snapshots()) == 2


def test_upsert_leaves_files_without_a_matching_key_alone(bench: Bench) -> None:
    target = bench.target(mode=UPSERT, unique_keys=("id",))
    bench.write(target, bench.snapshot({"id": list(range(100)), "v": [0] * 100}, files=4))
    files = {task.file.file_path for task in bench.table(target).scan().plan_files()}
    bench.write(target, {"id": [10], "v": [1]})
    now = {task.file.file_path for task in bench.table(target).scan().plan_files()}
    assert len(files & now) == 3


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [
        (pa.array(["a", "b"]), "a", "c"),
        (pa.array([date(2024, 1, 1), date(2024, 1, 2)]), date(2024, 1, 1), date(2023, 1, 1)),
        (pa.array([1.5, 2.5], pa.float64()), 1.5, 3.5),
        (pa.array([b"x", b"y"]), b"x", b"z"),
        (pa.array([1, 2], pa.uint64()), 1, 2**63),
        (pa.array([1, 2], pa.int8()), 1, 3),
    ],
)
def test_keys_of_many_types_match(bench: Bench, column: pa.Array, old: Any, new: Any) -> None:
    target = bench.target(mode=UPSERT, unique_keys=("k",))
    bench.write(target, pa.table({"k": column, "v": [1, 2]}))
    keys = pa.array([old, new], column.type)
    result = bench.write(target, pa.table({"k": keys, "v": [10, 30]}))
    assert result.rows_after == 3
    assert sorted(bench.read(target)["v"].to_pylist()) == [2, 10, 30]


def test_a_key_of_several_columns_matches_as_a_whole(bench: Bench) -> None:
    target = bench.target(mode=UPSERT, unique_keys=("a", "b"))
    bench.write(target, {"a": [1, 1, 2], "b": ["x", "y", "x"], "v": [1, 2, 3]})
    bench.write(target, {"a": [1, 2], "b": ["y", "z"], "v": [20, 40]})
    assert sorted(bench.read(target)["v"].to_pylist()) == [1, 3, 20, 40]


def test_rows_with_a_null_key_in_the_table_stay(bench: Bench) -> None:
    bench.write(bench.target(), {"id": pa.array([None, 1], pa.int64()), "v": [1, 2]})
    target = bench.target(mode=UPSERT, unique_keys=("id",))
    assert bench.write(target, {"id": [1], "v": [9]}).rows_after == 2
    assert sorted(bench.read(target)["v"].to_pylist()) == [1, 9]


@pytest.mark.parametrize(
    ("rows", "keys", "words"),
    [
        ({"id": [1, 1]}, ("id",), "1 keys (id) are duplicated in the snapshot, as id=1"),
        (
            {"id": pa.array([1, None], pa.int64())},
            ("id",),
            "1 rows of the snapshot have NULL in the key (id)",
        ),
        ({"id": [1]}, ("ident",), "names 'ident'"),
        ({"id": [1]}, (), "needs unique_keys"),
    ],
)
def test_keys_that_are_none_are_refused_before_writing(
    bench: Bench, rows: Any, keys: tuple[str, ...], words: str
) -> None:
    bench.write(bench.target(), {"id": [5]})
    error = refused(bench, bench.target(mode=UPSERT, unique_keys=keys), rows)
    assert words in str(error)
    assert error.hint


def stamps(*times: datetime | None, tz: str | None = None) -> pa.Array:
    return pa.array(list(times), pa.timestamp("us", tz))


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2024, 1, day, hour)  # noqa: DTZ001 - a TIMESTAMP without a zone


@pytest.mark.parametrize("tz", [None, "UTC"])
def test_days_are_replaced_that_the_rows_have(bench: Bench, tz: str | None) -> None:
    target = bench.target(mode=INTERVAL, time_column="ts", lookback=timedelta(days=3))
    old = stamps(at(1, 5), at(2), at(2, 20), at(3, 1), at(4), None, tz=tz)
    bench.write(bench.target(), pa.table({"id": [1, 2, 3, 4, 5, 6], "ts": old}))
    new = stamps(at(2, 8), at(2, 12), at(4, 12), tz=tz)
    for _ in range(2):
        result = bench.write(target, pa.table({"id": [20, 21, 22], "ts": new}))
        # The 2nd and the 4th are replaced; the other days and NULL stay.
        assert sorted(bench.read(target)["id"].to_pylist()) == [1, 4, 6, 20, 21, 22]
        assert (result.rows_written, result.rows_after) == (3, 6)
        assert [note for note in result.notes if "1 rows" in note and "2024-01-03" in note]


def test_a_day_that_would_lose_rows_is_refused(bench: Bench) -> None:
    target = bench.target(mode=INTERVAL, time_column="d")
    old = [date(2024, 1, day) for day in (1, 2, 2)]
    bench.write(target, {"id": [1, 2, 3], "d": old})
    rows = pa.table({"id": [4, 5], "d": [date(2024, 1, 2), date(2024, 1, 3)]})
    error = refused(bench, target, rows)
    assert "2024-01-02 has 2 rows there and 1 here" in str(error)
    assert "covers: {from: 2024-01-02" in error.hint
    assert sorted(bench.read(target)["id"].to_pylist()) == [1, 2, 3]


def test_what_is_covered_is_replaced(bench: Bench) -> None:
    covers = Interval(start=at(2), end=at(4))
    target = bench.target(mode=INTERVAL, time_column="ts", covers=covers)
    old = stamps(at(1, 23), at(2), at(3, 23), at(4))
    bench.write(bench.target(), pa.table({"id": [1, 2, 3, 4], "ts": old}))
    bench.write(target, pa.table({"id": [9], "ts": stamps(at(3))}))
    assert sorted(bench.read(target)["id"].to_pylist()) == [1, 4, 9]
    bench.write(target, pa.table({"id": pa.array([], pa.int64()), "ts": stamps()}))
    assert sorted(bench.read(target)["id"].to_pylist()) == [1, 4]
    error = refused(bench, target, pa.table({"id": [9], "ts": stamps(at(4))}))
    assert "outside of [2024-01-02, 2024-01-04)" in str(error)


def test_a_day_before_1970_is_a_day(bench: Bench) -> None:
    target = bench.target(mode=INTERVAL, time_column="ts")
    old = [datetime(1960, 5, 5, hour) for hour in (1, 9)]  # noqa: DTZ001
    bench.write(bench.target(), pa.table({"id": [1, 2], "ts": stamps(*old)}))
    bench.write(target, pa.table({"id": [3, 4], "ts": stamps(*old)}))
    assert sorted(bench.read(target)["id"].to_pylist()) == [3, 4]


_PARTITIONED: dict[str, tuple[str, list[Any], list[Any], list[int]]] = {
    # The entry of partition_by, the values there and here, and which rows there stay.
    "identity": ("k", ["a", "a", "b", None], ["a", None], [2]),
    "truncate": ("truncate(1, k)", ["ab", "ac", "bc", None], ["ax"], [2, 3]),
    "bucket": ("bucket(1000, k)", ["ab", "ac", "bc", None], ["ab", None], [1, 2]),
    "integers": ("k", [1, 2, 3], [2], [0, 2]),
    "bucket of integers": ("bucket(7, k)", [1, 2, 3, 1], [1], [1, 2]),
    "day": ("day(k)", [at(1, 1), at(1, 9), at(2, 1), None], [at(1, 5)], [2, 3]),
    "month": ("month(k)", [at(1), at(31), datetime(2024, 2, 1)], [at(9)], [2]),  # noqa: DTZ001
    "date": ("k", [date(2024, 1, 1), date(2024, 1, 2)], [date(2024, 1, 2)], [0]),
    "decimal": ("k", [Decimal("1.10"), Decimal("2.20")], [Decimal("2.20")], [0]),
    "uuid": ("k", [b"0" * 16, b"1" * 16], [b"1" * 16], [0]),
    "boolean": ("k", [True, False, None], [False], [0, 2]),
}


@pytest.mark.parametrize("kind", _PARTITIONED)
@pytest.mark.parametrize("repartitioned", [False, True])
def test_an_overwrite_replaces_the_partitions_it_touches(
    bench: Bench, kind: str, repartitioned: bool
) -> None:
    entry, old, new, stay = _PARTITIONED[kind]
    type = pa.uuid() if kind == "uuid" else None

    def rows(start: int, values: list[Any]) -> pa.Table:
        array = pa.array(values, pa.binary(16)).cast(type) if type else pa.array(values)
        return pa.table({"id": range(start, start + len(values)), "k": array})

    target = bench.target(mode=Mode.INSERT_OVERWRITE, partition_by=(entry,))
    first = bench.target() if repartitioned else target
    bench.write(first, rows(0, old))
    for _ in range(2):
        result = bench.write(target, rows(100, new))
        found = sorted(bench.read(target)["id"].to_pylist())
        assert found == [*stay, *range(100, 100 + len(new))]
    assert result.rows_after == len(stay) + len(new)


def test_no_rows_replace_no_interval(bench: Bench) -> None:
    target = bench.target(mode=INTERVAL, time_column="ts")
    before = bench.write(target, pa.table({"id": [1], "ts": stamps(at(1))}))
    result = bench.write(target, pa.table({"id": pa.array([], pa.int64()), "ts": stamps()}))
    assert (result.rows_written, result.rows_after) == (0, 1)
    assert result.version == before.version


@pytest.mark.parametrize(
    ("rows", "column", "words"),
    [
        (
            pa.table({"ts": stamps(at(1), None)}),
            "ts",
            "1 rows of the snapshot have NULL in the time column (ts)",
        ),
        (pa.table({"ts": ["2024-01-01"]}), "ts", "not a date or timestamp"),
        (pa.table({"ts": stamps(at(1))}), "tss", "names 'tss'"),
        (pa.table({"ts": stamps(at(1))}), None, "needs time_column"),
    ],
)
def test_times_that_are_none_are_refused_before_writing(
    bench: Bench, rows: pa.Table, column: str | None, words: str
) -> None:
    error = refused(bench, bench.target(mode=INTERVAL, time_column=column), rows)
    assert words in str(error)


@pytest.mark.parametrize("mode", [APPEND, UPSERT, INTERVAL])
def test_a_full_refresh_replaces_all_rows_in_every_mode(bench: Bench, mode: Mode) -> None:
    target = bench.target(mode=mode, unique_keys=("id",), time_column="d")
    bench.write(target, {"id": [1, 2], "d": [date(2024, 1, 1)] * 2})
    refreshing = bench.other(full_refresh=True)
    refreshing.write(target, bench.snapshot({"id": [7], "d": [date(2020, 1, 1)]}))
    refreshing.close()
    assert [row["id"] for row in bench.rows(target)] == [7]


def test_the_ledger_tells_who_wrote_the_table(bench: Bench) -> None:
    snapshot = bench.snapshot({"id": [1]})
    bench.write(bench.target(), snapshot)
    owner = bench.inspect(bench.target()).owner
    assert owner is not None
    assert (owner.project, owner.environment, owner.state_id) == ("shop", "prod", "state-1")
    assert (owner.content_key, owner.run_id) == (snapshot.content_key, "run-1")
    summary = bench.table(bench.target()).current_snapshot().summary
    assert summary["seeknal.content_key"] == snapshot.content_key


def test_a_table_of_another_environment_or_of_nobody_is_not_replaced(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    dev = bench.other(environment="dev")
    error = refused(dev, target, bench.snapshot({"id": [2]}))
    assert "environment 'prod'" in str(error)
    assert "--adopt" in error.hint

    table = bench.table(target)
    with table.transaction() as transaction:
        transaction.remove_properties("seeknal.project", "seeknal.environment")
    assert "exists and was not made by this project" in str(refused(bench, target, {"id": [2]}))
    dev.close()

    adopting = bench.other(adopt=True)
    result = adopting.write(target, bench.snapshot({"id": [2]}))
    adopting.close()
    assert "taken over" in result.notes[0]
    assert bench.rows(target) == [{"id": 2}]


def test_two_targets_of_one_catalog_have_two_identities_and_one_table_has_one(
    bench: Bench, tmp_path: Path
) -> None:
    target = bench.target()
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    other = Bench({"warehouse": str(link / "warehouse")}, tmp_path)
    by_uri = Bench(
        {"catalog": {"uri": f"sqlite:///{tmp_path}/warehouse/catalog.db", "warehouse": "w"}},
        tmp_path,
    )
    assert bench.inspect(target).identity == other.inspect(target).identity
    assert bench.inspect(target).identity == by_uri.inspect(target).identity
    assert bench.inspect(target).identity != bench.inspect(bench.target("sales.o")).identity
    # A SQL catalog keeps levels as one dotted string.
    dotted, levels = bench.target('lake."a.b".t'), bench.target("lake.a.b.t")
    assert bench.inspect(dotted).identity == bench.inspect(levels).identity


@pytest.mark.parametrize(
    "table",
    ['lake."my ns"."weird "" name"', 'lake."a/b"."../../x#y?z%20"', 'lake."Ünïcode 🦆"."T.t"'],
)
def test_odd_names_work_and_stay_below_the_warehouse(bench: Bench, table: str) -> None:
    target = bench.target(table)
    bench.write(target, {"id": [1], 'odd "c" 🦆': ["v"], "a.b": [2]})
    bench.write(target, {"id": [2], 'odd "c" 🦆': ["w"], "a.b": [3]})
    assert bench.rows(target) == [{"id": 2, 'odd "c" 🦆': "w", "a.b": 3}]
    assert all((bench.root / "warehouse") in path.parents for path in bench.data_files())


def test_a_project_in_a_folder_with_odd_characters_works(tmp_path: Path) -> None:
    root = tmp_path / "a b#c?d%41;e"
    root.mkdir()
    bench = Bench({"warehouse": "./ware house"}, root)
    target = bench.target()
    bench.write(target, {"id": [1]})
    bench.write(target, {"id": [2]})
    assert bench.rows(target) == [{"id": 2}]
    bench.close()


def test_a_namespace_that_a_sql_catalog_could_not_read_again_is_refused(bench: Bench) -> None:
    with pytest.raises(NamespaceRefused, match="two in a row"):
        bench.write(bench.target('lake."a..b".t'), {"id": [1]})
    assert list(bench.data_files()) == []
