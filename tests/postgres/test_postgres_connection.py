"""Connections: resolved without I/O, shown without secrets, refused with the place."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import psycopg
import pytest

from seeknal_core.errors import OptionError, Unreachable
from seeknal_core.types import ConnectionSpec, Secret
from seeknal_postgres import plugin
from seeknal_postgres.connection.profile import PostgresConnection
from support.contexts import make_context
from support.postgres_hooks import Database
from support.processes import free_port


@pytest.fixture(autouse=True)
def _no_libpq_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "USER", "PASSWORD", "DATABASE"):
        monkeypatch.delenv(f"PG{name}", raising=False)


def resolve(options: Mapping[str, object]) -> PostgresConnection:
    spec = ConnectionSpec(name="warehouse", type="postgresql", options=options)
    return plugin.resolve_profile(make_context(), spec)


FULL = {
    "host": "db",
    "port": 5433,
    "user": "etl",
    "password": "hunter2-secret",
    "database": "shop",
    "schema": "mart",
    "sslmode": "require",
}


def test_what_is_written_is_taken_and_the_password_never_shown() -> None:
    found = resolve(FULL)
    assert (found.host, found.port, found.user, found.database) == ("db", 5433, "etl", "shop")
    assert found.password == Secret("hunter2-secret")
    assert found.default_schema == "mart"
    shown = [repr(found), str(found), repr(found.describe()), repr(found.bindings())]
    assert "hunter2" not in "".join(shown)
    assert found.describe()["sslmode"] == "require"
    with pytest.raises(TypeError, match="Secret"):
        pickle.dumps(found)


def test_bindings_tell_places_apart_and_not_credentials() -> None:
    base = resolve(FULL).bindings()
    for same in ({"password": "x-other"}, {"user": "someone"}, {"sslmode": "prefer"}):
        assert resolve({**FULL, **same}).bindings() == base
    for other in ({"host": "b"}, {"port": 1}, {"database": "b"}, {"schema": "b"}):
        assert resolve({**FULL, **other}).bindings() != base


def test_dbname_is_another_word_for_database() -> None:
    assert resolve({"dbname": "shop"}).database == "shop"
    with pytest.raises(OptionError, match="dbname"):
        resolve({"dbname": "shop", "database": "other"})


def test_libpq_variables_fill_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "HOST": "envdb",
        "PORT": "6000",
        "USER": "envuser",
        "PASSWORD": "env-pw",
        "DATABASE": "d",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"PG{name}", value)
    found = resolve({"host": "db"})
    assert (found.host, found.port, found.user, found.database) == ("db", 6000, "envuser", "d")
    assert found.password == Secret("env-pw")
    assert found.bindings()["port"] == "6000"


def test_a_url_gives_the_parts_that_are_not_written() -> None:
    found = resolve({"url": "postgresql://u:url-secret@h:99/d", "database": "mine"})
    assert (found.host, found.port, found.user, found.database) == ("h", 99, "u", "mine")
    assert found.password == Secret("url-secret")
    assert "url-secret" not in repr(found)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"hots": "db"}, "hots"),
        ({"port": "5432x"}, "port"),
        ({"port": 70000}, "port"),
        ({"sslmode": "on"}, "sslmode"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"schema": ""}, "schema"),
        ({"embedded": True, "host": "db"}, "host"),
        ({"url": "postgresql://u:url-secret@[h/d"}, "url"),
    ],
)
def test_a_mistake_is_named_by_its_path(options: dict[str, object], path: str) -> None:
    with pytest.raises(OptionError) as refused:
        resolve(options)
    assert [problem.path for problem in refused.value.problems] == [path]
    assert "url-secret" not in str(refused.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(OptionError) as refused:
        resolve({"port": 0, "sslmode": "on", "lock_wait": 0})
    assert {problem.path for problem in refused.value.problems} == {"port", "sslmode", "lock_wait"}


def test_a_connection_that_answers_says_what_answered(db: Database) -> None:
    text = plugin.check_connection(db.context())
    assert text.startswith("PostgreSQL ")
    assert f"database {db.dsn['dbname']} as {db.dsn['user']}" in text


def test_a_wrong_password_is_unreachable_and_not_repeated(db: Database) -> None:
    db.execute("DROP ROLE IF EXISTS locked_out", "CREATE ROLE locked_out LOGIN PASSWORD 'right-pw'")
    context = db.context(options={"user": "locked_out", "password": "wrong-pw-1234"})
    with pytest.raises(Unreachable) as refused:
        plugin.check_connection(context)
    text = f"{refused.value} {refused.value.hint}"
    assert "wrong-pw-1234" not in text
    assert str(db.dsn["port"]) in text
    assert "password authentication failed" in text


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_unreachable_by_its_place(host: str) -> None:
    port = free_port()
    connection = resolve({"host": host, "port": port, "database": "shop", "connect_timeout": 2})
    with pytest.raises(Unreachable, match=f"{host}:{port}/shop") as refused:
        plugin.check_connection(make_context(connection))
    assert refused.value.hint == "seeknal check --connections"


def test_a_connection_that_was_cut_is_replaced(db: Database) -> None:
    context = db.context()
    plugin.check_connection(context)
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'seeknal'"
    )
    assert plugin.check_connection(context)


def test_a_closed_context_leaves_no_connection(db: Database) -> None:
    context = db.context()
    plugin.check_connection(context)
    context.resources.close()
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seeknal'"
    with psycopg.connect(autocommit=True, **db.dsn) as conn:  # type: ignore[arg-type]
        for _ in range(100):
            row = conn.execute(query).fetchone()
            if row == (0,):
                return
    pytest.fail("a connection was left open")
