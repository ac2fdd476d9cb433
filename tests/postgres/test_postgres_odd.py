"""Odd names, wide rows, constraints of every kind: written, or refused by a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.checksums import checksum_of
from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import everything, leftovers, promotion, target_of

ODD = ("100%", "%s", "%(a)s", "%%", 'quo"te', "{}", "{0}", "a.b", "ü ñ", "Order", "x'; --", "$1")
AT = pa.array([86_400_000_000 * day for day in range(2)], pa.timestamp("us"))

MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "full by key": {"unique_keys": ("100%",)},
    "append": {"mode": Mode.APPEND},
    "upsert": {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("100%", "%s")},
    "incremental": {"mode": Mode.INCREMENTAL_BY_TIME, "time_column": "%at"},
}


def odd(first: int) -> pa.Table:
    columns = {name: pa.array([first + i, first + i + 1]) for i, name in enumerate(ODD)}
    return pa.table({**columns, "%at": AT})


@pytest.mark.parametrize("mode", MODES)
def test_names_of_all_kinds_are_written_promoted_rolled_back_and_read(
    db: Database, mode: str
) -> None:
    name = '"a%s ""s"""."50% {of}"'
    target = target_of(db, name, **MODES[mode])
    db.write(target, odd(1))
    quoted = '"a%s ""s"""."50% {of}"'
    db.execute(f'ALTER TABLE {quoted} ADD "%extra" int DEFAULT 1')
    before = everything(db)
    wider = odd(2).append_column("%new", pa.array(["a", "b"]))
    one = promotion(db, [(target, wider)]).stage()
    one.verify()
    plugin.publish(one.context, one.batch())
    plugin.revert(one.context, one.batch(1), False)
    assert everything(db) == before
    plugin.discard(one.context, one.batch(1))
    assert leftovers(db) == []
    db.write(target, wider)
    found = db.read(parts=target.name.parts, columns=("%new", *ODD, "%at"), watermark="100%")
    assert found.num_rows == {"append": 4, "upsert": 3}.get(mode, 2)
    if mode.startswith("full"):
        assert checksum_of(found.to_reader()).rows == 2
        assert plugin.count_rows(db.context(), target) == 2
    for owned in plugin.list_owned(db.context()):
        plugin.drop_target(db.context(), owned)
    assert db.value("SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%seeknal%'") == 0


def test_a_row_that_is_too_long_for_a_page_is_refused_by_a_sentence(db: Database) -> None:
    lists = pa.array([[1, 2]], pa.list_(pa.int32()))
    wide = pa.table({f"c{i}": lists for i in range(900)})
    for write in (
        lambda: db.write(target_of(db, "s.t"), wide),
        lambda: promotion(db, {"s.t": wide}).stage(),
    ):
        with pytest.raises(WriteRefused, match=r"s\.t: .*one page") as told:
            write()
        assert "JSON" in told.value.hint
    assert db.value("SELECT to_regclass('s.t')") is None


def test_as_many_columns_as_a_table_can_have(db: Database) -> None:
    wide = pa.table({f"c{i}": pa.array([i % 2 == 0, None]) for i in range(1600)})
    one = promotion(db, {"s.t": wide}).stage()
    one.verify()
    plugin.publish(one.context, one.batch())
    db.write(target_of(db, "s.t"), wide.slice(1))
    assert db.value("SELECT count(*) FROM s.t") == 1
    db.execute("ALTER TABLE s.t DROP c1599")
    with pytest.raises(WriteRefused, match=r"1600 columns.*dropped"):
        db.write(target_of(db, "s.t"), wide)


SWAPPED = pa.table({"id": [1, 2, 3], "name": ["b", "a", "c"]})
PLAIN = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
CHILD = "CREATE TABLE s.child (id bigint REFERENCES s.t (id))"
HOLDS: dict[str, tuple[str, ...]] = {
    "unique": ("ALTER TABLE s.t ADD UNIQUE (name)",),
    "exclusion": ("ALTER TABLE s.t ADD EXCLUDE USING btree (name WITH =)",),
    "deferred": ("ALTER TABLE s.t ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED",),
    "deferrable below a foreign key": (
        "ALTER TABLE s.t ADD PRIMARY KEY (id), ADD UNIQUE (name) DEFERRABLE", CHILD,
        "INSERT INTO s.child VALUES (1), (2)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("case", HOLDS)
def test_values_that_move_between_keys_arrive(db: Database, case: str, keyed: bool) -> None:
    target = target_of(db, "s.t", **({"unique_keys": ("id",)} if keyed else {}))
    db.write(target, PLAIN)
    db.execute(*HOLDS[case])
    before = everything(db)
    one = promotion(db, [(target, SWAPPED)]).stage()
    plugin.publish(one.context, one.batch())
    assert db.rows("SELECT id, name FROM s.t ORDER BY 1")[:2] == [(1, "b"), (2, "a")]
    plugin.revert(one.context, one.batch(1), False)
    assert everything(db) == before
    db.write(target, SWAPPED)
    assert db.rows("SELECT id, name FROM s.t ORDER BY 1")[:2] == [(1, "b"), (2, "a")]


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.UPSERT_BY_KEY])
@pytest.mark.parametrize("kind", ["UNIQUE (name)", "EXCLUDE USING btree (name WITH =)"])
def test_unique_values_that_move_below_a_foreign_key_are_refused_by_a_sentence(
    db: Database, kind: str, mode: Mode
) -> None:
    target = target_of(db, "s.t", mode=mode, unique_keys=("id",))
    db.write(target, PLAIN)
    db.execute(f"ALTER TABLE s.t ADD PRIMARY KEY (id), ADD CONSTRAINT one {kind}", CHILD)
    before = everything(db)
    with pytest.raises(WriteRefused, match=r"values of one move from one row to another") as told:
        db.write(target, SWAPPED)
    assert "DEFERRABLE" in told.value.hint
    one = promotion(db, [(target, SWAPPED)]).stage()
    with pytest.raises(WriteRefused, match=r"values of one move"):
        plugin.publish(one.context, one.batch())
    assert everything(db) == before


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND])
def test_columns_that_the_server_fills_are_left_to_it_or_refused(db: Database, mode: Mode) -> None:
    target = target_of(db, "s.t", mode=mode)
    db.write(target, PLAIN)
    db.execute(
        "ALTER TABLE s.t ADD always int GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE s.t ADD twice bigint GENERATED ALWAYS AS (id * 2) STORED",
    )
    db.write(target, SWAPPED)
    given = SWAPPED.append_column("always", pa.array([7, 8, 9], pa.int32()))
    db.write(target, given)
    assert (7, 2) in db.rows("SELECT always, twice FROM s.t WHERE id = 1")
    with pytest.raises(WriteRefused, match="'twice' is generated by the server"):
        db.write(target, SWAPPED.append_column("twice", pa.array([2, 4, 6])))


@pytest.fixture
def everywhere(db: Database) -> Iterator[None]:
    db.execute("CREATE SCHEMA s", "CREATE PUBLICATION everywhere FOR ALL TABLES")
    yield
    db.execute("DROP PUBLICATION IF EXISTS everywhere")


@pytest.mark.usefixtures("everywhere")
def test_a_publication_of_all_tables_is_no_place_for_our_records(db: Database) -> None:
    """Its subscribers would stop at tables that they don't have."""
    target, context = target_of(db, "s.t"), db.context()
    before = everything_but_ledger(db)
    for write in (
        lambda: db.write(target, PLAIN),
        lambda: promotion(db, {"s.t": PLAIN}).stage(),
        lambda: plugin.materialize_targets(context, (target,), (db.snapshot(PLAIN),)),
    ):
        with pytest.raises(WriteRefused, match="publication everywhere") as told:
            write()
        assert "allow_publication: true" in told.value.hint
    assert everything_but_ledger(db) == before
    assert "publication everywhere" in plugin.check_connection(context)
    allowed = db.context(options={"allow_publication": True})
    db.write(target, PLAIN, context=allowed)
    assert "everywhere" not in plugin.check_connection(allowed)
    with pytest.raises(WriteRefused, match="publication everywhere"):
        db.write(target, PLAIN, context=db.context())


def everything_but_ledger(db: Database) -> list[Any]:
    return db.rows(
        "SELECT c.oid, nspname, relname FROM pg_class c RIGHT JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2, 3"
    )


def test_a_publication_of_the_schema_of_our_records_is_found(db: Database) -> None:
    db.write(target_of(db, "s.t"), PLAIN)
    db.execute("CREATE PUBLICATION ours FOR TABLES IN SCHEMA _seeknal_prod")
    try:
        context = db.context(resources=type(db.resources)())
        with pytest.raises(WriteRefused, match="publication ours"):
            db.write(target_of(db, "s.t"), SWAPPED, context=context)
        context.resources.close()
    finally:
        db.execute("DROP PUBLICATION ours")
