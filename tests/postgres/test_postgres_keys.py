"""Keys are compared as the table's columns compare them, and arrive as they are spelled."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import everything, promotion, target_of

MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "full by key": {"unique_keys": ("k",)},
    "upsert": {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("k",)},
}

#: A column's type, a value, the same in another spelling, one that is another, and how
#: Arrow has them.
KINDS: dict[str, tuple[str, Any, Any, Any, pa.DataType]] = {
    "a collation that ignores case": ('text COLLATE s."ci"', "Bob", "bob", "eve", pa.string()),
    "the same below varchar": ('varchar(9) COLLATE s."ci"', "Bob", "bOb", "eve", pa.string()),
    "the same below a domain": ("s.name", "Bob", "BOB", "eve", pa.string()),
    "the same below char": ('char(5) COLLATE s."ci"', "Bob", "bob", "eve", pa.string()),
    # "citext": ("public.citext", "Bob", "bob", "eve", pa.string()),
    # "a domain over citext": ("s.called", "Bob", "bob", "eve", pa.string()),
    "numeric": ("numeric", Decimal("1.00"), Decimal("1.0"), Decimal(2), pa.decimal128(9, 2)),
    "minus zero": ("double precision", 0.0, -0.0, 1.0, pa.float64()),
}
ALIKE = [kind for kind in KINDS if kind != "numeric"]

ICU = (
    "CREATE COLLATION s.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    'CREATE DOMAIN s.name AS text COLLATE s."ci"',
)


def table(kind: pa.DataType, *rows: tuple[Any, Any]) -> pa.Table:
    return pa.table(
        {"k": pa.array([k for k, _ in rows], kind), "v": pa.array([v for _, v in rows], pa.int64())}
    )


def made(db: Database, kind: str, keyed: bool) -> bool:
    """Make the table; False where the server, as that of the wheel, is built without ICU."""
    db.execute("CREATE SCHEMA s")
    if "same below" in kind or "collation" in kind:
        try:
            db.execute(*ICU)
        except psycopg.errors.FeatureNotSupported:
            return False
    if "citext" in kind:
        db.execute(
            "DROP EXTENSION IF EXISTS citext",
            "CREATE EXTENSION citext SCHEMA public",
            "CREATE DOMAIN s.called AS public.citext",
        )
    unique = " PRIMARY KEY" if keyed else ""
    db.execute(f"CREATE TABLE s.t (k {KINDS[kind][0]}{unique}, v bigint)")
    return True


def spelled(db: Database) -> list[tuple[str, int]]:
    return db.rows("SELECT k::text, v FROM s.t ORDER BY k")


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ALIKE)
def test_a_corrected_spelling_of_a_key_arrives_and_goes_again(
    db: Database, kind: str, mode: str, keyed: bool
) -> None:
    if not made(db, kind, keyed):
        return
    _, one, same, other, arrow = KINDS[kind]
    context = db.context(adopt=True)
    target = target_of(db, "s.t", **MODES[mode])
    db.write(target, table(arrow, (one, 1), (other, 2)), context=context)
    first, before = spelled(db), everything(db)
    corrected = table(arrow, (same, 1), (other, 2))
    promoted = promotion(db, [(target, corrected)], context=context).stage()
    plugin.publish(context, promoted.batch())
    second = spelled(db)
    assert [v for _, v in second] == [1, 2]
    assert second != first
    plugin.revert(context, promoted.batch(1), False)
    assert everything(db)["rows"] == before["rows"]
    assert spelled(db) == first
    assert db.write(target, corrected, context=context).rows_after == 2
    assert spelled(db) == second


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("mode", ["full by key", "upsert"])
@pytest.mark.parametrize("kind", ALIKE)
def test_two_spellings_of_one_key_are_refused_before_anything_is_written(
    db: Database, kind: str, mode: str, keyed: bool
) -> None:
    if not made(db, kind, keyed):
        return
    _, one, same, other, arrow = KINDS[kind]
    context = db.context(adopt=True)
    target = target_of(db, "s.t", **MODES[mode])
    db.write(target, table(arrow, (one, 1), (other, 2)), context=context)
    before = everything(db)
    both = table(arrow, (one, 3), (same, 4), (other, 2))
    with pytest.raises(WriteRefused, match=r"k.* are duplicated .* are one key") as told:
        db.write(target, both, context=context)
    shown = sorted({str(one), str(same)}) if kind != "minus zero" else ["-0", "0"]
    for text in shown:
        assert repr(text) in told.value.message
    with pytest.raises(WriteRefused, match="are one key"):
        promotion(db, [(target, both)], context=context).stage()
    assert everything(db) == before


def test_a_scale_that_changed_is_a_new_value_of_the_key(db: Database) -> None:
    """To numeric 1.0 and 1.00 are one."""
    made(db, "numeric", True)
    context, target = db.context(adopt=True), target_of(db, "s.t", unique_keys=("k",))
    db.write(target, table(pa.decimal128(9, 2), (Decimal("1.00"), 1)), context=context)
    assert spelled(db) == [("1.00", 1)]
    db.write(target, table(pa.decimal128(9, 1), (Decimal("1.0"), 1)), context=context)
    assert spelled(db) == [("1.0", 1)]


def test_not_a_number_and_moments_are_keys(db: Database) -> None:
    made(db, "minus zero", True)
    context, target = db.context(adopt=True), target_of(db, "s.t", unique_keys=("k",))
    nan = float("nan")
    for value in (1, 2):
        db.write(target, table(pa.float64(), (nan, value), (1.0, 1)), context=context)
    assert db.rows("SELECT k::text, v FROM s.t ORDER BY k") == [("1", 1), ("NaN", 2)]
    with pytest.raises(WriteRefused, match="are duplicated"):
        db.write(target, table(pa.float64(), (nan, 1), (nan, 2)), context=context)
    db.execute("DROP TABLE s.t", "CREATE TABLE s.t (k timestamptz PRIMARY KEY, v bigint)")
    for zone in ("UTC", "Asia/Jakarta"):
        db.write(target, table(pa.timestamp("us", zone), (0, 1), (1, 2)), context=context)
    assert db.value("SELECT count(*) FROM s.t") == 2


def test_a_reference_follows_the_corrected_spelling_or_keeps_its_own(db: Database) -> None:
    if not made(db, "a collation that ignores case", True):
        return
    context = db.context(adopt=True)
    target = target_of(db, "s.t")
    db.write(target, table(pa.string(), ("Bob", 1), ("eve", 2)), context=context)
    db.execute(
        'CREATE TABLE s.a (k text COLLATE s."ci" REFERENCES s.t ON UPDATE CASCADE ON DELETE CASCADE)',
        'CREATE TABLE s.b (k text COLLATE s."ci" REFERENCES s.t)',
        "INSERT INTO s.a VALUES ('BOB')",
        "INSERT INTO s.b VALUES ('bOb')",
    )
    corrected = table(pa.string(), ("bob", 1), ("eve", 2))
    one = promotion(db, [(target, corrected)], context=context).stage()
    plugin.publish(context, one.batch())
    assert spelled(db) == [("bob", 1), ("eve", 2)]
    assert db.rows("SELECT count(*) FROM s.a JOIN s.t USING (k) JOIN s.b USING (k)") == [(1,)]
    with pytest.raises(WriteRefused, match=r"referred to by s\.a"):
        db.write(target, table(pa.string(), ("eve", 2)), context=context)


@pytest.mark.parametrize(("kind", "value"), [("json", '{"a": 1}'), ("point", "(1,2)")])
def test_a_type_without_equality_is_no_key(db: Database, kind: str, value: str) -> None:
    db.execute("CREATE SCHEMA s", f"CREATE TABLE s.t (k {kind}, v bigint)")
    rows = table(pa.string(), (value, 1))
    fields: dict[str, Any] = {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("k",)}
    context = db.context(adopt=True)
    with pytest.raises(WriteRefused, match=r"cannot be a key"):
        db.write(target_of(db, "s.t", **fields), rows, context=context)
    assert db.rows("SELECT * FROM s.t") == []
