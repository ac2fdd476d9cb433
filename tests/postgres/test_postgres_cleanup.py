"""What an environment made goes, wholly; what it did not make stays, wholly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import (
    ExecutionContext,
    Mode,
    Origin,
    Owned,
    OwnedKind,
    QualifiedName,
)
from seeknal_postgres import plugin
from support.postgres_hooks import Database

ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]})
TESTS = str(Path(__file__).parents[1])


def dev(db: Database, **given: Any) -> ExecutionContext:
    return db.context(environment="dev", prefix="dev_", **given)


def write(db: Database, table: str, context: ExecutionContext, mode: Mode = Mode.FULL) -> None:
    db.write(db.target(table, mode, context=context), ROWS, context=context)


def everything(db: Database) -> list[tuple[Any, ...]]:
    """Return every schema, and every relation with its rows, of the whole database."""
    ours = "nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
    schemas = db.rows(f"SELECT nspname::text, 'schema', '' FROM pg_namespace WHERE {ours}")
    relations = db.rows(
        "SELECT nspname::text, relname::text, relkind::text FROM pg_class c"
        f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {ours}"
    )
    rows = [
        (schema, name, str(row))
        for schema, name, kind in relations
        if kind == "r"
        for row in db.admin.execute(
            sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, name))
        ).fetchall()
    ]
    return sorted([*schemas, *relations, *rows])


def names(found: Sequence[Owned]) -> list[str]:
    return [str(owned.name) for owned in found]


def drop_all(context: ExecutionContext) -> list[str]:
    """Drop all that is listed; return what was there."""
    listed = plugin.list_owned(context)
    return [str(owned.name) for owned in listed if plugin.drop_target(context, owned)]


def owned(db: Database, table: str, context: ExecutionContext) -> Owned:
    return Owned(kind=OwnedKind.TABLE, name=db.target(table, context=context).name)


def namespace(name: str) -> Owned:
    return Owned(kind=OwnedKind.NAMESPACE, name=QualifiedName(parts=(name,), quoted=name))


def test_all_of_an_environment_goes_and_nothing_of_another(db: Database) -> None:
    prod, context = db.context(), dev(db)
    write(db, "orders", prod)
    write(db, "sales.items", prod)
    db.execute("CREATE TABLE sales.kept (id int)", "CREATE SCHEMA dev_elsewhere")
    before = everything(db)
    for table in ("orders", "sales.items", 'sales."Odd ""Näme"', "b.x"):
        write(db, table, context)
    write(db, "sales.added", context, Mode.APPEND)
    found = plugin.list_owned(context)
    assert names(found) == [
        "dev_b.x",
        "dev_public.orders",
        'dev_sales."Odd ""Näme"',
        "dev_sales.added",
        "dev_sales.items",
        "dev_b",
        "dev_public",
        "dev_sales",
    ]
    kinds = [OwnedKind.TABLE] * 5 + [OwnedKind.NAMESPACE] * 3
    assert [each.kind for each in found] == kinds
    target = db.target("orders", context=context)
    assert found[1].identity == plugin.inspect_target(context, target).identity
    assert plugin.list_owned(context) == found
    assert drop_all(context) == names(found)
    assert everything(db) == before
    assert plugin.list_owned(context) == ()
    assert names(plugin.list_owned(prod)) == ["public.orders", "sales.items", "sales"]


def test_where_nothing_was_ever_made_nothing_is_listed_or_dropped(db: Database) -> None:
    context = dev(db)
    assert plugin.list_owned(context) == ()
    assert plugin.drop_target(context, owned(db, "s.t", context)) is False
    assert plugin.drop_target(context, namespace("dev_s")) is False
    assert everything(db) == [("public", "schema", "")]


def test_dropping_again_finds_nothing(db: Database) -> None:
    context = dev(db)
    write(db, "s.t", context)
    write(db, "s.u", context)
    found = plugin.list_owned(context)
    for _ in range(2):
        answers = [plugin.drop_target(context, each) for each in found[:2]]
        for records in ("targets", "appended"):
            assert db.value(f"SELECT count(*) FROM _seeknal_dev.{records}") == 0
    assert answers == [False, False]
    assert plugin.drop_target(context, found[2])
    assert [plugin.drop_target(context, each) for each in found] == [False] * 3


def test_what_was_dropped_can_be_made_again_in_the_same_command(db: Database) -> None:
    context = dev(db)
    for _ in range(2):
        write(db, "s.t", context)
        assert drop_all(context) == ["dev_s.t", "dev_s"]
    assert everything(db) == [("public", "schema", "")]


def test_an_adopted_table_and_its_schema_stay_and_the_ledger_goes(db: Database) -> None:
    context = dev(db, adopt=True)
    db.execute("CREATE SCHEMA dev_s", "CREATE TABLE dev_s.t (id bigint, name text)")
    before = everything(db)
    write(db, "s.t", context)
    write(db, "s.made", context)
    adopted = owned(db, "s.t", context)
    with pytest.raises(WriteRefused, match="adopted"):
        plugin.drop_target(context, adopted)
    with pytest.raises(WriteRefused, match="dev_s was not made by"):
        plugin.drop_target(context, namespace("dev_s"))
    assert names(plugin.list_owned(context)) == ["dev_s.made"]
    assert drop_all(context) == ["dev_s.made"]
    assert {row[:2] for row in everything(db)} == {row[:2] for row in before}
    assert db.value("SELECT count(*) FROM dev_s.t") == 2


def test_where_all_was_adopted_the_ledger_itself_is_listed(db: Database) -> None:
    context = dev(db, adopt=True)
    db.execute("CREATE SCHEMA dev_s", "CREATE TABLE dev_s.t (id bigint, name text)")
    write(db, "s.t", context)
    assert drop_all(context) == ["_seeknal_dev"]
    assert plugin.list_owned(context) == ()
    assert db.value("SELECT count(*) FROM dev_s.t") == 2
    assert not [row for row in everything(db) if row[0] == "_seeknal_dev"]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE VIEW public.v AS SELECT * FROM dev_s.t", "view public.v"),
        ("CREATE MATERIALIZED VIEW public.v AS SELECT * FROM dev_s.t", "public.v"),
        ("CREATE TABLE public.child (id bigint REFERENCES dev_s.t (id))", "public.child"),
    ],
)
def test_what_hangs_on_a_table_keeps_it_and_is_named(
    db: Database, statement: str, words: str
) -> None:
    context = dev(db)
    write(db, "s.t", context)
    db.execute("ALTER TABLE dev_s.t ADD PRIMARY KEY (id)", statement)
    before = everything(db)
    table, schema = plugin.list_owned(context)
    with pytest.raises(WriteRefused, match=words) as refused:
        plugin.drop_target(context, table)
    assert "CASCADE" not in refused.value.hint + str(refused.value)
    with pytest.raises(WriteRefused, match=r"table dev_s\.t"):
        plugin.drop_target(context, schema)
    assert everything(db) == before
    assert plugin.list_owned(context) == (table, schema)


def test_tables_that_refer_to_each_other_are_listed_in_an_order_that_works(db: Database) -> None:
    context = dev(db)
    for table in ("s.a", "s.b", "s.c"):
        write(db, table, context)
        db.execute(f"ALTER TABLE dev_{table} ADD PRIMARY KEY (id)")
    db.execute(
        "ALTER TABLE dev_s.b ADD FOREIGN KEY (id) REFERENCES dev_s.a",
        "ALTER TABLE dev_s.c ADD FOREIGN KEY (id) REFERENCES dev_s.b",
        "ALTER TABLE dev_s.a ADD FOREIGN KEY (id) REFERENCES dev_s.a",
    )
    assert drop_all(context) == ["dev_s.c", "dev_s.b", "dev_s.a", "dev_s"]


def test_what_belongs_to_a_table_goes_with_it(db: Database) -> None:
    context = dev(db)
    write(db, "s.t", context)
    db.execute(
        "ALTER TABLE dev_s.t ADD COLUMN n bigserial",
        "CREATE INDEX ON dev_s.t (name)",
        "CREATE POLICY p ON dev_s.t USING (true)",
        "CREATE PUBLICATION pub FOR TABLE dev_s.t",
    )
    try:
        assert drop_all(context) == ["dev_s.t", "dev_s"]
    finally:
        db.execute("DROP PUBLICATION pub")
    assert everything(db) == [("public", "schema", "")]


@pytest.mark.parametrize(
    "foreign",
    ["CREATE TABLE dev_s.mine (id int)", "CREATE FUNCTION dev_s.f() RETURNS int RETURN 1"],
)
def test_a_schema_that_holds_something_foreign_stays(db: Database, foreign: str) -> None:
    context = dev(db)
    write(db, "s.t", context)
    db.execute(foreign)
    table, schema = plugin.list_owned(context)
    assert plugin.drop_target(context, table)
    with pytest.raises(WriteRefused, match=r"dev_s\.(mine|f\(\)) depends on schema dev_s"):
        plugin.drop_target(context, schema)
    assert plugin.list_owned(context) == (schema,)
    db.execute("DROP TABLE IF EXISTS dev_s.mine", "DROP FUNCTION IF EXISTS dev_s.f()")
    assert drop_all(context) == ["dev_s"]
    assert everything(db) == [("public", "schema", "")]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (["DROP TABLE dev_s.t", "CREATE TABLE dev_s.t (id int)"], ("dev_s", "t", "r")),
        (["ALTER TABLE dev_s.t RENAME TO kept"], ("dev_s", "kept", "r")),
        (["ALTER TABLE dev_s.t SET SCHEMA public"], ("public", "t", "r")),
    ],
)
def test_a_table_that_is_no_more_ours_stays(
    db: Database, change: list[str], left: tuple[Any, ...]
) -> None:
    context = dev(db)
    write(db, "s.t", context)
    write(db, "s.u", context)
    listed = plugin.list_owned(context)[0]
    db.execute(*change)
    assert names(plugin.list_owned(context)) == ["dev_s.u", "dev_s"]
    if left[1] == "t" and left[0] == "dev_s":
        with pytest.raises(WriteRefused, match="was not made by"):
            plugin.drop_target(context, listed)
    else:
        assert plugin.drop_target(context, listed) is False
    assert left in everything(db)


def test_a_schema_made_anew_by_somebody_else_stays(db: Database) -> None:
    context = dev(db)
    write(db, "s.t", context)
    write(db, "z.t", context)
    db.execute("DROP TABLE dev_s.t", "DROP SCHEMA dev_s", "CREATE SCHEMA dev_s")
    assert names(plugin.list_owned(context)) == ["dev_z.t", "dev_z"]
    with pytest.raises(WriteRefused, match="dev_s was not made by"):
        plugin.drop_target(context, namespace("dev_s"))
    assert drop_all(context) == ["dev_z.t", "dev_z"]
    assert everything(db) == [("dev_s", "schema", ""), ("public", "schema", "")]


def test_another_project_with_an_environment_of_the_same_name_is_not_touched(
    db: Database,
) -> None:
    ours, theirs = dev(db), dev(db, project="other")
    write(db, "s.ours", ours)
    write(db, "s.theirs", theirs)
    write(db, "o.theirs", theirs)
    before = names(plugin.list_owned(theirs))
    assert before == ["dev_o.theirs", "dev_s.theirs", "dev_o"]
    for context, table in ((ours, owned(db, "s.theirs", ours)), (ours, namespace("dev_o"))):
        with pytest.raises(WriteRefused, match=r"'other'|was not made by"):
            plugin.drop_target(context, table)
    table, schema = plugin.list_owned(ours)
    assert plugin.drop_target(ours, table)
    with pytest.raises(WriteRefused, match=r"dev_s\.theirs"):
        plugin.drop_target(ours, schema)
    assert names(plugin.list_owned(theirs)) == before
    assert drop_all(theirs) == before
    assert drop_all(ours) == ["dev_s"]
    assert everything(db) == [("public", "schema", "")]


def test_the_last_of_one_project_leaves_the_records_of_the_other(db: Database) -> None:
    ours, theirs = dev(db), dev(db, project="other", adopt=True)
    db.execute("CREATE TABLE public.adopted (id bigint, name text)")
    write(db, "s.ours", ours)
    unprefixed = db.context(environment="dev", project="other", adopt=True)
    write(db, "adopted", unprefixed)
    assert drop_all(ours) == ["dev_s.ours", "dev_s"]
    assert plugin.list_owned(ours) == ()
    assert db.rows("SELECT project, table_name FROM _seeknal_dev.targets") == [("other", "adopted")]
    assert drop_all(theirs) == ["_seeknal_dev"]


def test_a_record_that_another_project_is_just_writing_keeps_the_ledger(db: Database) -> None:
    ours, theirs = dev(db), dev(db, project="other")
    write(db, "s.ours", ours)
    table, schema = plugin.list_owned(ours)
    assert plugin.drop_target(ours, table)
    answers: list[bool] = []
    with psycopg.connect(**db.dsn) as other:  # type: ignore[arg-type]
        other.execute(
            "INSERT INTO _seeknal_dev.schemas (name, schema_oid, project)"
            " SELECT 'public', oid, 'other' FROM pg_namespace WHERE nspname = 'public'"
        )
        thread = threading.Thread(target=lambda: answers.append(plugin.drop_target(ours, schema)))
        thread.start()
        while not db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            time.sleep(0.01)
        other.commit()
        thread.join()
    assert answers == [True]
    assert names(plugin.list_owned(theirs)) == ["public"]


def test_staged_and_undo_tables_go_with_the_ledger_and_anything_else_keeps_its_schema(
    db: Database,
) -> None:
    context = dev(db)
    write(db, "s.t", context)
    db.execute(
        "CREATE TABLE _seeknal_dev.stage_1 (id bigserial)",
        "CREATE TABLE _seeknal_dev.undo_1 ()",
        "CREATE TABLE _seeknal_dev.foreign_one ()",
    )
    assert drop_all(context) == ["dev_s.t", "dev_s"]
    (schema,) = plugin.list_owned(context)
    with pytest.raises(WriteRefused, match=r"holds what is not Seeknal's: .*foreign_one"):
        plugin.drop_target(context, schema)
    assert db.value("SELECT count(*) FROM _seeknal_dev.targets") == 0
    db.execute("DROP TABLE _seeknal_dev.foreign_one")
    assert drop_all(context) == ["_seeknal_dev"]
    assert everything(db) == [("public", "schema", "")]


def test_a_ledger_schema_that_was_made_for_us_is_left_empty(db: Database) -> None:
    db.execute("CREATE SCHEMA _seeknal_dev")
    context = dev(db)
    write(db, "s.t", context)
    assert drop_all(context) == ["dev_s.t", "dev_s"]
    assert everything(db) == [("_seeknal_dev", "schema", ""), ("public", "schema", "")]
    assert plugin.list_owned(context) == ()


def test_the_listed_ledger_is_kept_while_it_records_something(db: Database) -> None:
    context = dev(db)
    write(db, "s.t", context)
    with pytest.raises(WriteRefused, match=r"still records dev_s\.t"):
        plugin.drop_target(context, namespace("_seeknal_dev"))
    assert drop_all(context) == ["dev_s.t", "dev_s"]


def test_what_was_listed_on_another_server_is_not_dropped_here(db: Database) -> None:
    context = dev(db)
    write(db, "s.t", context)
    table = attrs.evolve(plugin.list_owned(context)[0], identity="postgresql:1/other/dev_s.t")
    with pytest.raises(WriteRefused, match="another server or database"):
        plugin.drop_target(context, table)
    assert db.value("SELECT count(*) FROM dev_s.t") == 2


def test_a_role_without_rights_is_told_and_nothing_changes(db: Database) -> None:
    db.execute(
        "DROP ROLE IF EXISTS etl_cleanup", "CREATE ROLE etl_cleanup LOGIN PASSWORD 'cleanup-pw'"
    )
    context = dev(db)
    write(db, "s.t", context)
    other = dev(db, options={"user": "etl_cleanup", "password": "cleanup-pw"})
    table = plugin.list_owned(context)[0]
    with pytest.raises(BackendError, match="permission denied"):
        plugin.list_owned(other)
    db.execute(
        "GRANT USAGE ON SCHEMA _seeknal_dev, dev_s TO etl_cleanup",
        "GRANT ALL ON ALL TABLES IN SCHEMA _seeknal_dev, dev_s TO etl_cleanup",
    )
    try:
        with pytest.raises(WriteRefused, match="must be owner of table t"):
            plugin.drop_target(other, table)
        assert plugin.list_owned(context)[0] == table
    finally:
        db.execute("DROP OWNED BY etl_cleanup", "DROP ROLE etl_cleanup")


def test_a_reader_is_waited_for_and_named_when_it_does_not_finish(db: Database) -> None:
    context = dev(db, options={"lock_wait": 3})
    write(db, "s.t", context)
    table = plugin.list_owned(context)[0]
    with db.reader("SELECT count(*) FROM dev_s.t") as reader:
        with pytest.raises(WriteRefused, match="stayed locked for 3 s by pid") as refused:
            plugin.drop_target(context, table)
        assert str(reader.info.backend_pid) in str(refused.value)
        assert plugin.list_owned(context)[0] == table

        def let_go() -> None:
            time.sleep(1)
            reader.rollback()

        thread = threading.Thread(target=let_go)
        thread.start()
        assert plugin.drop_target(context, table)
        thread.join()


def test_a_table_exchanged_while_its_lock_was_waited_for_stays(db: Database) -> None:
    context = dev(db)
    write(db, "s.t", context)
    table = plugin.list_owned(context)[0]
    failures: list[BaseException] = []

    def drop() -> None:
        try:
            plugin.drop_target(context, table)
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    with psycopg.connect(**db.dsn) as other:  # type: ignore[arg-type]
        other.execute("DROP TABLE dev_s.t")
        other.execute("CREATE TABLE dev_s.t (theirs int)")
        thread = threading.Thread(target=drop)
        thread.start()
        while not db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            time.sleep(0.01)
        other.commit()
        thread.join()
    assert [type(error) for error in failures] == [WriteRefused]
    assert db.value("SELECT count(*) FROM dev_s.t") == 0


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import psycopg
from pathlib import Path
from seeknal_core.types import Resources
from seeknal_postgres import plugin
from seeknal_postgres.ledger import cleanup
from support.postgres_hooks import Database

db = Database(dsn={dsn!r}, admin=None, folder=Path({folder!r}), resources=Resources())
context = db.context(environment="dev", prefix="dev_")
original = cleanup.end_ledger
def end(*args):
    original(*args)
    os.kill(os.getpid(), signal.SIGKILL)
cleanup.end_ledger = end
plugin.drop_target(context, plugin.list_owned(context)[0])
"""


@pytest.mark.parametrize("last", [False, True])
def test_after_kill_9_the_same_call_again_finishes(db: Database, last: bool) -> None:
    context = dev(db)
    write(db, "s.t", context)
    found = plugin.list_owned(context)
    if last:
        assert plugin.drop_target(context, found[0])
        found = plugin.list_owned(context)
    before = everything(db)
    code = textwrap.dedent(KILLED).format(tests=TESTS, dsn=dict(db.dsn), folder=str(db.folder))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    # The killed client's transaction ends when the server notices; the drop waits for it.
    assert plugin.drop_target(context, found[0])
    assert everything(db) != before
    drop_all(context)
    assert everything(db) == [("public", "schema", "")]


def make_tables(db: Database, context: ExecutionContext) -> tuple[Owned, ...]:
    """Write two tables of dev's, and make a link to one of production's."""
    write(db, "s.linked", db.context())
    for table in ("s.a", "s.b"):
        write(db, table, context)
    target = db.target("s.linked")
    identity = plugin.inspect_target(db.context(), target).identity
    origin = Origin(name=target.name, identity=identity, environment="prod", content_key="k")
    plugin.link_target(context, db.target("s.linked", context=context), origin)
    found = plugin.list_owned(context)
    return tuple(one for one in found if one.kind is OwnedKind.TABLE)


def test_tables_and_links_go_by_one_transaction(db: Database) -> None:
    context = dev(db)
    tables = make_tables(db, context)
    before = db.value("SELECT pg_current_xact_id()::text::bigint")
    assert plugin.drop_targets(context, tables) == (True, True, True)
    # Its own, that of a savepoint within it, and the next query's.
    assert db.value("SELECT pg_current_xact_id()::text::bigint") - before == 3
    assert plugin.drop_targets(context, tables) == (False, False, False)
    assert drop_all(context) == ["dev_s"]
    assert names(plugin.list_owned(db.context())) == ["s.linked", "s"]


def test_what_one_of_many_is_refused_for_keeps_all_of_them(db: Database) -> None:
    context = dev(db)
    tables = make_tables(db, context)
    db.execute("CREATE VIEW public.mine AS SELECT * FROM dev_s.b")
    before = everything(db)
    with pytest.raises(WriteRefused, match=r"mine"):
        plugin.drop_targets(context, tables)
    assert everything(db) == before
    with pytest.raises(WriteRefused, match=r"mine"):
        drop_all(context)


def test_a_table_that_somebody_uses_is_not_waited_for_while_others_are_locked(
    db: Database,
) -> None:
    context = dev(db)
    tables = make_tables(db, context)
    with (
        db.reader("SELECT * FROM dev_s.b"),
        pytest.raises(WriteRefused, match="not dropped together"),
    ):
        plugin.drop_targets(context, tables)
    assert plugin.drop_targets(context, tables) == (True, True, True)
