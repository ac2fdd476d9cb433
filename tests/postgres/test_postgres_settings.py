"""Our statements run under fixed settings, code of users under those of the login."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.types import Mode
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import promotion, target_of

#: Settings that change how values are printed, or which tables a name means.
LOGIN = {
    "timezone": "'America/Los_Angeles'",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'iso_8601'",
    "extra_float_digits": "-10",
    "quote_all_identifiers": "on",
    "bytea_output": "'escape'",
    "search_path": "app, public",
}

#: What fires when rows of ``s.t`` change. Each relies on a setting of the login.
CODE = """
CREATE SCHEMA app;
CREATE TABLE app.log (what text, path text, zone text, style text);
CREATE TABLE app.allowed (name text);
INSERT INTO app.allowed VALUES ('a'), ('b'), ('C'), ('c'), ('d'), ('new'), ('old');
CREATE FUNCTION app.is_allowed(text) RETURNS bool LANGUAGE plpgsql STABLE AS
  $$ BEGIN RETURN EXISTS (SELECT FROM allowed WHERE allowed.name = $1); END $$;
CREATE DOMAIN app.named AS text CHECK (app.is_allowed(VALUE));
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO log VALUES (TG_OP, current_setting('search_path'),
    current_setting('timezone'), current_setting('datestyle'));
  RETURN NULL; END $$;
"""
ATTACH = """
ALTER TABLE s.t ADD made timestamp DEFAULT now();
ALTER TABLE s.t ADD CHECK (app.is_allowed(name));
ALTER TABLE s.t ALTER name TYPE app.named;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON s.t EXECUTE FUNCTION app.note();
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON s.t
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note();
"""


@pytest.fixture
def strange(db: Database) -> Iterator[Database]:
    """A database whose settings are unlike ours."""
    name = db.value("SELECT quote_ident(current_database())")
    for setting, value in LOGIN.items():
        db.execute(f"ALTER DATABASE {name} SET {setting} = {value}")
    # What the tests make, they make as its owner would in psql.
    db.execute("SET search_path = app, public", "SET timezone = 'America/Los_Angeles'")
    db.execute(CODE)
    yield db
    db.execute(f"ALTER DATABASE {name} RESET ALL", "RESET ALL")


def stamped(*days: str, name: str) -> pa.Table:
    at = pa.array(days).cast(pa.timestamp("us"))
    return pa.table({"id": range(len(days)), "name": [name] * len(days), "at": at})


OLD = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
NEW = pa.table({"id": [2, 3, 4], "name": ["b", "C", "d"]})
DAYS = stamped("2024-01-01", "2024-01-02", "2024-01-03", name="old")
LATER = stamped("2024-01-02", "2024-01-02", "2024-01-04", name="new")
MODES: dict[str, tuple[Mode, dict[str, Any], pa.Table, pa.Table]] = {
    "full": (Mode.FULL, {}, OLD, NEW),
    "full, keyed": (Mode.FULL, {"unique_keys": ("id",)}, OLD, NEW),
    "append": (Mode.APPEND, {}, OLD, NEW),
    "upsert": (Mode.UPSERT_BY_KEY, {"unique_keys": ("id",)}, OLD, NEW),
    "interval": (Mode.INCREMENTAL_BY_TIME, {"time_column": "at"}, DAYS, LATER),
}


def check_code_of_users(db: Database) -> None:
    """Check what triggers saw, and the default of rows written now."""
    seen = set(db.rows("SELECT path, zone, style FROM app.log"))
    assert seen == {("app, public", "America/Los_Angeles", "SQL, DMY")}
    off = db.value(
        "SELECT max(abs(extract(epoch FROM made - now() AT TIME ZONE 'America/Los_Angeles')))"
        " FROM s.t"
    )
    assert off < 600


@pytest.mark.parametrize("case", MODES)
def test_code_of_users_sees_the_logins_settings_in_a_run(strange: Database, case: str) -> None:
    mode, fields, old, new = MODES[case]
    target = target_of(strange, "s.t", mode=mode, **fields)
    strange.write(target, old)
    strange.execute(ATTACH)
    strange.write(target, new)
    check_code_of_users(strange)
    assert {("INSERT",)} <= set(strange.rows("SELECT what FROM app.log"))


def test_code_of_users_sees_the_logins_settings_when_many_are_written(strange: Database) -> None:
    target = target_of(strange, "s.t")
    strange.write(target, OLD)
    strange.execute(ATTACH)
    context = strange.context()
    plugin.materialize_targets(context, (target,), (strange.snapshot(NEW),))
    check_code_of_users(strange)


@pytest.mark.parametrize("case", MODES)
def test_code_of_users_sees_the_logins_settings_in_a_promotion(
    strange: Database, case: str
) -> None:
    mode, fields, old, new = MODES[case]
    strange.write(target_of(strange, "s.t", mode=mode, **fields), old)
    strange.execute(ATTACH)
    given = promotion(strange, {"s.t": new}, mode=mode, **fields).stage()
    given.verify()
    plugin.publish(given.context, given.batch(1))
    check_code_of_users(strange)
    strange.execute("TRUNCATE app.log")
    plugin.revert(given.context, given.batch(1), overwrite=False)
    check_code_of_users(strange)


def test_an_interval_is_in_utc_whatever_the_logins_zone(strange: Database) -> None:
    at = pa.array(
        [dt.datetime(2024, 1, d, h, tzinfo=dt.UTC) for d, h in ((1, 2), (1, 20), (2, 1), (2, 20))]
    )
    both = pa.table({"at": at, "local": at.cast(pa.timestamp("us"))})
    for column in ("at", "local"):
        fields = {"mode": Mode.INCREMENTAL_BY_TIME, "time_column": column}
        target = target_of(strange, f"s.{column}", **fields)
        strange.write(target, both)
        strange.write(target, both.slice(2, 2), content_key="later")
        left = strange.rows(f"SELECT extract(day FROM local) FROM s.{column} ORDER BY local")
        assert [int(row[0]) for row in left] == [1, 1, 2, 2]


def test_no_setting_of_the_login_changes_a_value(strange: Database) -> None:
    strange.execute(
        "CREATE TABLE app.odd AS SELECT 1.1::float8 / 3 AS f, interval '1 day 2 h' AS i,"
        " '\\x00ff'::bytea AS b, tstzrange('2024-02-01 10:00+00', NULL) AS r,"
        " ARRAY[interval '3 s'] AS a"
    )
    found = strange.read(parts=("app", "odd")).to_pylist()[0]
    assert found == {
        "f": 1.1 / 3,
        "i": "1 day 02:00:00",
        "b": b"\x00\xff",
        "r": '["2024-02-01 10:00:00+00",)',
        "a": ["00:00:03"],
    }


def test_text_goes_into_columns_as_it_is_meant(strange: Database) -> None:
    target = strange.target("s.v")
    strange.write(target, pa.table({"i": ["1 day"], "x": [Decimal("1.5")]}))
    strange.execute("ALTER TABLE s.v ALTER i TYPE interval USING i::interval")
    strange.write(target, pa.table({"i": ["2 days 03:00:00"], "x": [Decimal("2.5")]}))
    assert strange.rows("SELECT i, x FROM s.v") == [(dt.timedelta(days=2, hours=3), Decimal("2.5"))]
