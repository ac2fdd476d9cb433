"""What hangs on a table and acts when its rows change: refused, counted, or it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import ExecutionContext, Mode
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import everything, leftovers, promotion, target_of

OLD = pa.table({"id": [1, 2, 3], "day": [1, 2, 3], "name": ["a", "b", "c"]})
NEW = pa.table({"id": [2, 3, 4], "day": [2, 3, 4], "name": ["b", "C", "d"]})
AT = pa.array([86_400_000_000 * day for day in range(3)], pa.timestamp("us"))

MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "full by key": {"unique_keys": ("id",)},
    "append": {"mode": Mode.APPEND},
    "upsert": {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("id",)},
    "incremental": {"mode": Mode.INCREMENTAL_BY_TIME, "time_column": "at"},
}


def made(db: Database, statements: tuple[str, ...]) -> None:
    db.write(target_of(db, "s.t"), OLD.append_column("at", AT))
    db.execute(*statements)


def refused(db: Database, fields: dict[str, Any], words: str, **given: Any) -> WriteRefused:
    """Return how run and promote refuse to write, and see that they changed nothing."""
    before = everything(db)
    context = db.context(adopt=True)
    new = NEW.append_column("at", AT)
    with pytest.raises(WriteRefused, match=words) as told:
        db.write(target_of(db, "s.t", **fields), new, context=context)
    assert everything(db) == before
    with pytest.raises(WriteRefused, match=words):
        promote(db, new, context, fields)
    assert everything(db) == before
    if given.get("staged") is False:
        assert leftovers(db) == []
    assert told.value.hint
    return told.value


def promote(
    db: Database, rows: pa.Table, context: ExecutionContext, fields: dict[str, Any]
) -> None:
    one = promotion(db, {"s.t": rows}, context=context, **fields).stage()
    plugin.publish(context, one.batch())


FUNCTION = "CREATE FUNCTION s.{}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {} END$$"
PARTED = (
    "DROP TABLE s.t",
    "CREATE TABLE s.t (id bigint NOT NULL, day bigint, name text, at timestamp, UNIQUE (id, day))"
    " PARTITION BY RANGE (day)",
    "CREATE TABLE s.low PARTITION OF s.t FOR VALUES FROM (0) TO (3) PARTITION BY RANGE (day)",
    "CREATE TABLE s.lowest PARTITION OF s.low FOR VALUES FROM (0) TO (2)",
    "CREATE TABLE s.rest PARTITION OF s.low DEFAULT",
    "CREATE TABLE s.high PARTITION OF s.t DEFAULT",
    "INSERT INTO s.t VALUES (1, 1, 'a', '1970-01-01'), (2, 2, 'b', '1970-01-02'),"
    " (3, 3, 'c', '1970-01-03')",
)


@pytest.mark.parametrize("mode", MODES)
def test_a_table_whose_children_inherit_from_it_is_refused(db: Database, mode: str) -> None:
    made(db, ("CREATE TABLE s.child () INHERITS (s.t)", "INSERT INTO s.child VALUES (9, 9, 'z')"))
    found = refused(db, MODES[mode], r"s\.child inherits from it", staged=False)
    db.execute(found.hint.split(", or")[0])
    db.write(target_of(db, "s.t", **MODES[mode]), NEW.append_column("at", AT))
    assert db.rows("SELECT id, name FROM s.child") == [(9, "z")]


def test_a_child_that_came_later_keeps_its_rows_in_a_rollback(db: Database) -> None:
    made(db, ())
    one = promotion(db, {"s.t": NEW}).stage()
    plugin.publish(one.context, one.batch())
    db.execute("CREATE TABLE s.child () INHERITS (s.t)", "INSERT INTO s.child VALUES (9, 9, 'z')")
    with pytest.raises(WriteRefused, match=r"s\.child inherits from it"):
        plugin.revert(one.context, one.batch(1), True)
    assert db.rows("SELECT id FROM s.child") == [(9,)]


@pytest.mark.parametrize("mode", MODES)
def test_a_table_that_inherits_is_written_and_its_parent_is_not(db: Database, mode: str) -> None:
    made(
        db,
        (
            "CREATE TABLE s.parent (id bigint, name text)",
            "INSERT INTO s.parent VALUES (1, 'theirs')",
            "ALTER TABLE s.t INHERIT s.parent",
        ),
    )
    before = everything(db)
    one = promotion(db, {"s.t": NEW.append_column("at", AT)}, **MODES[mode]).stage()
    plugin.publish(one.context, one.batch())
    assert (4,) in db.rows("SELECT id FROM s.t")
    assert db.rows("SELECT * FROM ONLY s.parent") == [(1, "theirs")]
    plugin.revert(one.context, one.batch(1), False)
    assert everything(db) == before


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize("pointed_at", ["s.lowest", "s.low", "s.t"])
def test_rows_that_refer_to_a_partition_are_not_lost(
    db: Database, pointed_at: str, action: str
) -> None:
    made(
        db,
        (
            *PARTED,
            f"CREATE TABLE s.child (id bigint, day bigint, FOREIGN KEY (id, day)"
            f" REFERENCES {pointed_at} (id, day) ON DELETE {action})",
            "INSERT INTO s.child VALUES (1, 1)",
        ),
    )
    refused(db, {"unique_keys": ("id", "day")}, r"referred to by s\.child \(child_id_day_fkey\)")
    assert db.rows("SELECT * FROM s.child") == [(1, 1)]
    db.execute("DELETE FROM s.child")
    context = db.context(adopt=True)
    new = NEW.append_column("at", AT)
    db.write(target_of(db, "s.t", unique_keys=("id", "day")), new, context=context)
    assert db.rows("SELECT id FROM s.t ORDER BY 1") == [(2,), (3,), (4,)]


def test_a_partition_is_a_target_whose_parent_is_referred_to(db: Database) -> None:
    made(
        db,
        (
            "CREATE TABLE s.whole (id bigint PRIMARY KEY, day bigint, name text, at timestamp)"
            " PARTITION BY RANGE (id)",
            "ALTER TABLE s.t ALTER id SET NOT NULL",
            "ALTER TABLE s.whole ATTACH PARTITION s.t DEFAULT",
            "CREATE TABLE s.child (id bigint REFERENCES s.whole ON DELETE CASCADE)",
            "INSERT INTO s.child VALUES (1)",
        ),
    )
    refused(db, {}, r"referred to by s\.child")
    wider = NEW.append_column("more", pa.array([1, 2, 3]))
    for write in (db.write, lambda t, rows: promotion(db, [(t, rows)]).stage()):
        with pytest.raises(WriteRefused, match=r"'more' .*it is a partition of s\.whole"):
            write(target_of(db, "s.t"), wider)


@pytest.mark.parametrize("update", ["SET NULL", "SET DEFAULT", "CASCADE"])
def test_what_refers_to_another_column_than_the_key(db: Database, update: str) -> None:
    made(
        db,
        (
            "ALTER TABLE s.t ADD PRIMARY KEY (id), ADD UNIQUE (name)",
            f"CREATE TABLE s.child (name text REFERENCES s.t (name) ON UPDATE {update})",
            "INSERT INTO s.child VALUES ('c')",
        ),
    )
    if update == "CASCADE":
        db.write(target_of(db, "s.t"), NEW)
        assert db.rows("SELECT * FROM s.child") == [("C",)]
        return
    found = refused(db, {}, r"get other values are referred to by s\.child")
    assert db.rows("SELECT * FROM s.child") == [("c",)]
    assert "s.child" in found.hint


def test_rows_of_a_table_that_the_role_may_not_read_are_not_lost(db: Database) -> None:
    made(
        db,
        (
            "ALTER TABLE s.t ADD PRIMARY KEY (id)",
            "CREATE TABLE s.child (id bigint REFERENCES s.t ON DELETE CASCADE)",
            "DROP ROLE IF EXISTS seeknal_blind",
            "CREATE ROLE seeknal_blind LOGIN PASSWORD 'test-only'",
            "GRANT ALL ON SCHEMA s, _seeknal_prod TO seeknal_blind",
            "GRANT ALL ON s.t TO seeknal_blind",
            "GRANT ALL ON ALL TABLES IN SCHEMA _seeknal_prod TO seeknal_blind",
        ),
    )
    try:
        options = {"user": "seeknal_blind", "password": "test-only"}
        context = db.context(adopt=True, options=options)
        with pytest.raises(WriteRefused, match=r"may not read it") as told:
            db.write(target_of(db, "s.t"), NEW, context=context)
        assert "SELECT on s.child" in told.value.hint
        more = pa.concat_tables([OLD, NEW.slice(2)])
        assert db.write(target_of(db, "s.t"), more, context=context).rows_after == 4
    finally:
        db.execute("DROP OWNED BY seeknal_blind", "DROP ROLE seeknal_blind")


def test_a_table_that_refers_to_itself_keeps_what_hangs_on_rows_that_go(db: Database) -> None:
    made(db, ())
    tree = pa.table({"id": [1, 2, 3], "above": pa.array([None, 1, 2], pa.int64())})
    grown = pa.table({"id": [2, 3, 4], "above": pa.array([None, 4, 2], pa.int64())})
    for place, action in enumerate(("CASCADE", "SET NULL", "NO ACTION")):
        name = f"s.tree{place}"
        db.write(target_of(db, name), tree)
        db.execute(
            f"ALTER TABLE {name} ADD PRIMARY KEY (id)",
            f"ALTER TABLE {name} ADD FOREIGN KEY (above) REFERENCES {name} ON DELETE {action}",
        )
        db.write(target_of(db, name), grown)
        assert db.rows(f"SELECT * FROM {name} ORDER BY 1") == [(2, None), (3, 4), (4, 2)]
        one = promotion(db, {name: tree}, id=f"p-{place}").stage()
        plugin.publish(one.context, one.batch())
        assert db.rows(f"SELECT * FROM {name} ORDER BY 1") == [(1, None), (2, 1), (3, 2)]
        plugin.revert(one.context, one.batch(place + 1), False)
        assert db.rows(f"SELECT * FROM {name} ORDER BY 1") == [(2, None), (3, 4), (4, 2)]


RULES = {
    "DELETE": "CREATE RULE keeps AS ON DELETE TO s.t DO INSTEAD NOTHING",
    "INSERT": "CREATE RULE keeps AS ON INSERT TO s.t DO INSTEAD NOTHING",
    "UPDATE": "CREATE RULE keeps AS ON UPDATE TO s.t WHERE old.id = 3 DO INSTEAD NOTHING",
}


@pytest.mark.parametrize("event", RULES)
@pytest.mark.parametrize("mode", MODES)
def test_a_rule_that_replaces_a_statement_is_refused(db: Database, mode: str, event: str) -> None:
    made(db, ("ALTER TABLE s.t ADD PRIMARY KEY (id)", RULES[event]))
    wanted = {"append": {"INSERT"}, "upsert": {"INSERT", "UPDATE"}}
    new = NEW.append_column("at", AT)
    if mode == "append":
        new = new.slice(2)
    if event in wanted.get(mode, {"INSERT", "UPDATE", "DELETE"}):
        found = refused(db, MODES[mode], rf"rule keeps \({event}\) of s\.t", staged=False)
        db.execute(found.hint.split(", or")[0])
    # What is only added can be so; but what could not be undone is not promoted.
    elif mode in wanted:
        with pytest.raises(WriteRefused, match="rule keeps"):
            promotion(db, {"s.t": new}, **MODES[mode]).stage()
    db.write(target_of(db, "s.t", **MODES[mode]), new)
    assert (4,) in db.rows("SELECT id FROM s.t")


@pytest.mark.parametrize("mode", MODES)
def test_a_rule_that_does_something_besides_is_carried_out_by_run_and_promote(
    db: Database, mode: str
) -> None:
    made(
        db,
        (
            "CREATE TABLE s.log (id bigint)",
            "CREATE RULE notes AS ON INSERT TO s.t DO ALSO INSERT INTO s.log VALUES (new.id)",
        ),
    )
    new = NEW.slice(2).append_column("at", AT.slice(2))
    db.write(target_of(db, "s.t", **MODES[mode]), new)
    assert (4,) in db.rows("SELECT id FROM s.log")
    one = promotion(db, {"s.t": new.set_column(0, "id", pa.array([5]))}, **MODES[mode]).stage()
    plugin.publish(one.context, one.batch())
    assert (5,) in db.rows("SELECT id FROM s.log")


TRIGGERS = {
    "deletes softly": (
        "UPDATE s.t SET name = 'gone' WHERE id = old.id; RETURN NULL;",
        "BEFORE DELETE ON s.t FOR EACH ROW", "DELETE",
    ),
    "ignores a row": (
        "IF new.id = 4 THEN RETURN NULL; END IF; RETURN new;",
        "BEFORE INSERT ON s.t FOR EACH ROW", "INSERT",
    ),
    "keeps a row as it is": (
        "RETURN NULL;", "BEFORE UPDATE ON s.t FOR EACH ROW", "UPDATE",
    ),
    "adds a row": (
        "INSERT INTO s.t VALUES (99); RETURN NULL;",
        "AFTER INSERT ON s.t FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)", "INSERT",
    ),
    "takes a row away again": (
        "DELETE FROM s.t WHERE id = 4; RETURN NULL;",
        "AFTER INSERT ON s.t REFERENCING NEW TABLE AS n FOR EACH STATEMENT", "INSERT",
    ),
}  # fmt: skip

#: Which statements a mode runs for these rows.
STATEMENTS = {
    "full": {"DELETE", "INSERT"},
    "full by key": {"DELETE", "INSERT", "UPDATE"},
    "append": {"INSERT"},
    "upsert": {"INSERT", "UPDATE"},
    "incremental": {"DELETE", "INSERT"},
}


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("mode", MODES)
def test_a_trigger_that_leaves_other_rows_fails_the_write_and_is_named(
    db: Database, mode: str, trigger: str
) -> None:
    body, when, event = TRIGGERS[trigger]
    made(
        db,
        (FUNCTION.format("f", body), f"CREATE TRIGGER minds {when} EXECUTE FUNCTION s.f()"),
    )
    new = NEW.append_column("at", AT)
    if event in STATEMENTS[mode]:
        refused(db, MODES[mode], rf"trigger minds \({event}\) of s\.t")
        return
    db.write(target_of(db, "s.t", **MODES[mode]), new)


@pytest.mark.parametrize("trigger", ["ignores a row", "deletes softly"])
def test_a_trigger_of_a_partition_is_found(db: Database, trigger: str) -> None:
    body, when, event = TRIGGERS[trigger]
    made(
        db,
        (
            *PARTED,
            FUNCTION.format("f", body),
            f"CREATE TRIGGER minds {when} EXECUTE FUNCTION s.f()".replace("ON s.t", "ON s.high")
            if event == "INSERT"
            else f"CREATE TRIGGER minds {when} EXECUTE FUNCTION s.f()".replace(
                "ON s.t", "ON s.rest"
            ),
        ),
    )
    refused(db, {}, rf"trigger minds \({event}\) of s\.(high|rest)")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("state", ["ENABLE ALWAYS", "DISABLE", "ENABLE REPLICA"])
def test_a_trigger_that_is_off_does_nothing(db: Database, mode: str, state: str) -> None:
    body, when, _ = TRIGGERS["ignores a row"]
    made(
        db,
        (
            FUNCTION.format("f", body),
            f"CREATE TRIGGER minds {when} EXECUTE FUNCTION s.f()",
            f"ALTER TABLE s.t {state} TRIGGER minds",
        ),
    )
    if state == "ENABLE ALWAYS":
        refused(db, MODES[mode], "trigger minds")
        return
    db.write(target_of(db, "s.t", **MODES[mode]), NEW.append_column("at", AT))
    assert (4,) in db.rows("SELECT id FROM s.t")


@pytest.mark.parametrize("mode", MODES)
def test_a_trigger_that_changes_values_is_let_and_named(db: Database, mode: str) -> None:
    made(
        db,
        (
            FUNCTION.format("f", "new.name := upper(new.name); RETURN new;"),
            "CREATE TRIGGER upper BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW"
            " EXECUTE FUNCTION s.f()",
        ),
    )
    target, new = target_of(db, "s.t", **MODES[mode]), NEW.append_column("at", AT)
    state = plugin.inspect_target(db.context(), target)
    assert state.notes == ("trigger upper (INSERT or UPDATE) of s.t may change what is written",)
    db.write(target, new)
    assert ("D",) in db.rows("SELECT name FROM s.t")
    before = everything(db)
    one = promotion(db, {"s.t": new.set_column(0, "id", pa.array([7, 8, 9]))}, **MODES[mode])
    one = one.stage()
    plugin.publish(one.context, one.batch())
    assert (9, "D") in db.rows("SELECT id, name FROM s.t")
    plugin.revert(one.context, one.batch(1), False)
    assert {k: v for k, v in everything(db).items() if k != "rows"} == {
        k: v for k, v in before.items() if k != "rows"
    }
    assert db.rows("SELECT id FROM s.t WHERE id > 6") == []


def test_a_rollback_that_a_trigger_spoils_changes_nothing(db: Database) -> None:
    made(db, ())
    one = promotion(db, {"s.t": NEW}).stage()
    plugin.publish(one.context, one.batch())
    body, when, _ = TRIGGERS["deletes softly"]
    db.execute(FUNCTION.format("f", body), f"CREATE TRIGGER minds {when} EXECUTE FUNCTION s.f()")
    with pytest.raises(WriteRefused, match="trigger minds"):
        plugin.revert(one.context, one.batch(1), False)
    assert db.rows("SELECT id FROM s.t ORDER BY 1") == [(2,), (3,), (4,)]


@pytest.fixture
def far(db: Database, postgres_server: Any) -> Iterator[str]:
    """The name of a server object that leads to another database."""
    dsn = postgres_server.create_database()
    db.execute(
        "CREATE EXTENSION postgres_fdw",
        f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{dsn['host']}',"
        f" port '{dsn['port']}', dbname '{dsn['dbname']}')",
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user '{dsn['user']}',"
        f" password '{dsn.get('password', '')}')",
    )
    yield "far"
    db.execute("DROP EXTENSION postgres_fdw CASCADE")
    postgres_server.drop_database(dsn)


@pytest.mark.parametrize("mode", MODES)
def test_a_partition_on_another_server_is_refused(db: Database, far: str, mode: str) -> None:
    made(
        db,
        (
            "DROP TABLE s.t",
            "CREATE TABLE s.t (id bigint, day bigint, name text, at timestamp)"
            " PARTITION BY RANGE (id)",
            "CREATE TABLE s.near PARTITION OF s.t FOR VALUES FROM (0) TO (3)",
            f"CREATE FOREIGN TABLE s.away PARTITION OF s.t DEFAULT SERVER {far}",
        ),
    )
    context = db.context(adopt=True)
    target, new = target_of(db, "s.t", **MODES[mode]), NEW.append_column("at", AT)
    with pytest.raises(WriteRefused, match=r"s\.away is a foreign table"):
        db.write(target, new, context=context)
    with pytest.raises(WriteRefused, match=r"s\.away is a foreign table"):
        promotion(db, [(target, new)], context=context).stage()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("CREATE VIEW s.t AS SELECT 1 AS id", "a view"),
        ("CREATE MATERIALIZED VIEW s.t AS SELECT 1 AS id", "a materialized view"),
        ("CREATE FOREIGN TABLE s.t (id bigint) SERVER far", "a foreign table"),
        ("CREATE SEQUENCE s.t", "a sequence"),
        ("CREATE TYPE s.t AS (id bigint)", "a composite type"),
    ],
)
@pytest.mark.usefixtures("far")
def test_what_is_no_table_is_no_target(db: Database, what: str, words: str) -> None:
    db.execute("CREATE SCHEMA s", what)
    context, target = db.context(adopt=True), target_of(db, "s.t")
    for write in (
        lambda: db.write(target, NEW, context=context),
        lambda: promotion(db, {"s.t": NEW}, context=context).stage(),
        lambda: plugin.inspect_target(context, target),
    ):
        with pytest.raises(WriteRefused, match=rf"s\.t is {words}, not a table"):
            write()


def test_a_typed_table_and_an_unlogged_one_are_written(db: Database) -> None:
    db.execute(
        "CREATE SCHEMA s",
        "CREATE TYPE s.kind AS (id bigint, day bigint, name text)",
        "CREATE TABLE s.t OF s.kind",
        "CREATE UNLOGGED TABLE s.u (id bigint, day bigint, name text)",
    )
    context = db.context(adopt=True)
    one = promotion(db, {"s.t": NEW, "s.u": NEW}, context=context).stage()
    plugin.publish(context, one.batch())
    plugin.revert(context, one.batch(1), False)
    for name in ("s.t", "s.u"):
        db.write(target_of(db, name), NEW, context=context)
    with pytest.raises(WriteRefused, match=r"'more' .*it is of type s\.kind"):
        db.write(target_of(db, "s.t"), NEW.append_column("more", pa.array([1, 2, 3])))
    state = plugin.inspect_target(context, target_of(db, "s.u"))
    assert state.notes == ("the table is unlogged: a crash of the server empties it",)
