"""Whose a table is, what it holds, and whether somebody else wrote it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import attrs
import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, NamespaceRefused, WriteRefused
from seeknal_core.types import Mode, Ownership
from seeknal_postgres import plugin
from seeknal_postgres.ledger import inspecting
from support.postgres_hooks import Database

ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]})


def test_the_record_names_who_wrote_what(db: Database) -> None:
    target = db.target("s.t")
    context = db.context()
    absent = plugin.inspect_target(context, target)
    assert (absent.exists, absent.version, absent.owner, absent.columns) == (False, None, None, ())
    result = db.write(target, ROWS, content_key="key-1")
    found = plugin.inspect_target(context, target)
    assert found.exists
    assert found.identity == absent.identity
    assert [(c.name, c.type) for c in found.columns] == [("id", "bigint"), ("name", "text")]
    assert found.version == result.version
    assert found.owner == Ownership(
        project="shop", environment="prod", state_id="state-1", content_key="key-1", run_id="run-1"
    )
    assert plugin.count_rows(context, target) == 2


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO s.t VALUES (3, 'c')",
        "DELETE FROM s.t WHERE id = 1",
        "UPDATE s.t SET name = name",
        "WITH gone AS (DELETE FROM s.t RETURNING *) INSERT INTO s.t SELECT * FROM gone",
        "BEGIN; CREATE TABLE s.new AS TABLE s.t; DROP TABLE s.t; ALTER TABLE s.new RENAME TO t; COMMIT",
    ],
)
@pytest.mark.parametrize("written", [1, 2])
def test_the_version_changes_with_a_write_of_anybody_and_with_nothing_else(
    db: Database, change: str, written: int
) -> None:
    target = db.target("s.t")
    for _ in range(written):
        version = db.write(target, ROWS).version
    db.execute("ANALYZE s.t", "VACUUM (FULL, FREEZE) s.t", "SELECT * FROM s.t FOR UPDATE")
    assert plugin.inspect_target(db.context(), target).version == version
    db.execute(change)
    assert plugin.inspect_target(db.context(), target).version != version


def test_identity_tells_tables_apart_and_joins_two_ways_to_one(db: Database) -> None:
    one = plugin.inspect_target(db.context(), db.target("s.t")).identity
    assert plugin.inspect_target(db.context(), db.target("s.u")).identity != one
    other_way = db.context(options={"host": "localhost", "schema": "s"})
    target = db.target("t", context=other_way)
    assert plugin.inspect_target(other_way, target).identity == one
    elsewhere = db.context(options={"dbname": "postgres"})
    assert plugin.inspect_target(elsewhere, db.target("s.t")).identity != one


def test_a_table_that_was_there_is_left_alone_unless_adopted(db: Database) -> None:
    db.execute("CREATE SCHEMA s", "CREATE TABLE s.t (id bigint, name text)")
    target = db.target("s.t")
    with pytest.raises(WriteRefused) as refused:
        db.write(target, ROWS)
    assert "--adopt" in refused.value.hint
    assert plugin.inspect_target(db.context(), target).owner is None
    assert db.write(target, ROWS, context=db.context(adopt=True)).rows_after == 2
    assert db.write(target, ROWS).rows_after == 2


def test_another_project_or_environment_is_refused_and_another_checkout_is_not(
    db: Database,
) -> None:
    target = db.target("s.t")
    db.write(target, ROWS)
    with pytest.raises(WriteRefused, match="'shop'"):
        db.write(target, ROWS, context=db.context(project="other"))
    with pytest.raises(WriteRefused, match="environment 'prod'"):
        db.write(target, ROWS, context=db.context(environment="dev"))
    checkout = attrs.evolve(db.context(), state_id="state-2")
    db.write(target, ROWS, context=checkout)
    owner = plugin.inspect_target(checkout, target).owner
    assert owner is not None
    assert owner.state_id == "state-2"


def test_a_table_made_anew_by_somebody_else_is_nobodys(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, ROWS)
    db.execute("DROP TABLE s.t", "CREATE TABLE s.t (id bigint, name text)")
    assert plugin.inspect_target(db.context(), target).owner is None
    with pytest.raises(WriteRefused, match="was not made by"):
        db.write(target, ROWS)


def test_environments_have_schemas_and_records_of_their_own(db: Database) -> None:
    dev = db.context(environment="my-dev", prefix="my_dev_")
    for context in (db.context(), dev):
        db.write(db.target("orders", context=context), ROWS, context=context)
    assert db.value("SELECT count(*) FROM public.orders") == 2
    assert db.value("SELECT count(*) FROM my_dev_public.orders") == 2
    assert db.rows("SELECT schema_name FROM _seeknal_my_dev.targets") == [("my_dev_public",)]
    assert db.rows("SELECT schema_name FROM _seeknal_prod.targets") == [("public",)]
    made = "SELECT name FROM {0}.schemas WHERE name <> '{0}'"
    assert db.rows(made.format("_seeknal_my_dev")) == [("my_dev_public",)]
    assert db.rows(made.format("_seeknal_prod")) == []


def test_the_records_are_private_and_under_the_stem_that_the_connection_names(db: Database) -> None:
    context = db.context(options={"state_schema": "meta"})
    db.write(db.target("s.t", context=context), ROWS, context=context)
    assert db.value("SELECT count(*) FROM meta_prod.targets") == 1
    db.execute("CREATE ROLE nobody_special")
    try:
        usage = "has_schema_privilege('nobody_special', 'meta_prod', 'usage')"
        assert db.value(f"SELECT {usage}") is False
    finally:
        db.execute("DROP ROLE nobody_special")


def test_counting_a_table_that_is_not_there_says_so(db: Database) -> None:
    with pytest.raises(BackendError, match=r"s\.t does not exist"):
        plugin.count_rows(db.context(), db.target("s.t"))


@pytest.fixture
def role(db: Database) -> str:
    """A role that may log in and nothing else."""
    db.execute(
        "DROP ROLE IF EXISTS etl_test", "CREATE ROLE etl_test LOGIN PASSWORD 'etl-secret-pw'"
    )
    return "etl_test"


def test_a_role_that_may_not_make_schemas_is_told_what_to_ask_for(db: Database, role: str) -> None:
    options = {"user": role, "password": "etl-secret-pw"}
    context = db.context(options=options)
    with pytest.raises(NamespaceRefused, match="_seeknal_prod") as refused:
        db.write(db.target("s.t"), ROWS, context=context)
    assert refused.value.hint.endswith("CREATE SCHEMA _seeknal_prod AUTHORIZATION etl_test")
    db.execute(
        f"CREATE SCHEMA _seeknal_prod AUTHORIZATION {role}",
        f"CREATE SCHEMA s AUTHORIZATION {role}",
    )
    assert db.write(db.target("s.t"), ROWS, context=context).created
    assert db.write(db.target("s.t"), ROWS, context=context).rows_after == 2


def test_a_right_that_is_missing_is_named_with_the_table(db: Database, role: str) -> None:
    context = db.context(options={"user": role, "password": "etl-secret-pw"}, adopt=True)
    db.execute(
        f"CREATE SCHEMA _seeknal_prod AUTHORIZATION {role}",
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (id bigint, name text)",
        f"GRANT USAGE ON SCHEMA s TO {role}",
        f"GRANT SELECT, INSERT ON s.t TO {role}",
    )
    with pytest.raises(WriteRefused, match=r"s\.t: permission denied") as refused:
        db.write(db.target("s.t"), ROWS, context=context)
    assert "s.t" in refused.value.hint
    with pytest.raises(WriteRefused, match=r"s\.u: permission denied"):
        db.write(db.target("s.u"), ROWS, context=context)


def test_row_level_security_is_an_error_and_never_a_part_of_the_rows(
    db: Database, role: str
) -> None:
    context = db.context(options={"user": role, "password": "etl-secret-pw"}, adopt=True)
    db.execute(
        f"CREATE SCHEMA _seeknal_prod AUTHORIZATION {role}",
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (id bigint, name text)",
        "INSERT INTO s.t VALUES (8, 'x'), (9, 'y')",
        "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY half ON s.t USING (id = 8)",
        f"GRANT USAGE ON SCHEMA s TO {role}",
        f"GRANT ALL ON s.t TO {role}",
    )
    for mode in (Mode.FULL, Mode.APPEND):
        with pytest.raises(WriteRefused, match="row-level security"):
            db.write(db.target("s.t", mode), ROWS, context=context)
    with pytest.raises(BackendError, match="row-level security"):
        plugin.count_rows(context, db.target("s.t"))
    assert db.value("SELECT count(*) FROM s.t") == 2


def test_a_table_of_another_environment_is_known_as_its_own_by_its_ledger(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, ROWS)
    owner = plugin.inspect_target(db.context(environment="dev"), target).owner
    assert owner is not None
    assert owner.environment == "prod"


@pytest.mark.parametrize("at_once", [200, 2])
def test_many_targets_are_told_of_as_each_alone(
    db: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(inspecting, "_AT_ONCE", at_once)
    prod, dev = db.context(), db.context(environment="dev", prefix="dev_")
    for table in ("s.t", "s.u"):
        db.write(db.target(table), ROWS)
    db.write(db.target("s.t", context=dev), ROWS, context=dev)
    db.execute("CREATE TABLE s.nobody (id int)", "INSERT INTO s.nobody VALUES (1)")
    names = ("s.t", "s.nobody", "s.absent", "dev_s.t", "s.u", "absent.t")
    targets = tuple(db.target(name) for name in names)
    for context in (prod, dev):
        found = plugin.inspect_targets(context, targets, True)
        assert found == tuple(plugin.inspect_target(context, target) for target in targets)
        owners = [state.owner.environment if state.owner else None for state in found]
        assert owners == ["prod", None, None, "dev", "prod", None]
        assert [state.exists for state in found] == [True, True, False, True, True, False]
    assert plugin.inspect_targets(prod, (), True) == ()


def test_a_refused_write_leaves_no_schema_and_takes_none_from_others(db: Database) -> None:
    bad = pa.table({"id": [1], "name": ["a\x00b"]})
    with pytest.raises(WriteRefused, match="NUL"):
        db.write(db.target("s.bad"), bad)
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('s', '_seeknal_prod')"
    assert db.value(schemas) == 0

    def refused(number: int) -> None:
        with pytest.raises(WriteRefused, match="NUL"):
            db.write(db.target(f"s.bad{number}"), bad)

    def written(number: int) -> None:
        assert db.write(db.target(f"s.good{number}"), ROWS).rows_after == 2

    for round in range(5):
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(refused, round * 10 + n) for n in range(3)]
            calls += [pool.submit(written, round * 10 + n) for n in range(3)]
        for call in calls:
            call.result()
    assert db.value("SELECT count(*) FROM _seeknal_prod.targets") == 15
