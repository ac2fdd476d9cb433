"""What decides which rows a connection sees is part of a source's binding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from seeknal_core.errors import BackendError
from seeknal_core.types import ConnectionSpec, Source
from seeknal_postgres import plugin
from seeknal_postgres.connection.profile import PostgresConnection, resolve
from seeknal_postgres.connection.session import parse_options
from support.postgres_hooks import Database


def resolved(**options: object) -> PostgresConnection:
    return resolve(ConnectionSpec(name="w", type="postgresql", options=options))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGOPTIONS", "PGSERVICE", "PGSERVICEFILE", "PGHOST", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-c search_path=a,b", {"search_path": "a,b"}),
        ("-csearch_path=a --app.tenant=7", {"search_path": "a", "app.tenant": "7"}),
        (
            r"-c role=some\ one  -c statement_timeout=5",
            {"role": "some one", "statement_timeout": "5"},
        ),
        ("-c App.Tenant=x", {"app.tenant": "x"}),
        ("-F -c", {}),
    ],
)
def test_a_command_line_is_parsed_as_the_server_does(text: str, found: dict[str, str]) -> None:
    assert parse_options(text) == found


def test_what_decides_about_rows_is_in_the_binding_and_timeouts_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolved(host="h", user="u").reads() == {}
    assert resolved(options="-c statement_timeout=1 -c lock_timeout=2").reads() == {}
    assert resolved(options="-c search_path=x").reads() == {"search_path": "x"}
    assert resolved(url="postgresql://h/d?options=-c%20role%3Da").reads() == {"role": "a"}
    monkeypatch.setenv("PGOPTIONS", "-c app.tenant=3")
    assert resolved().reads() == {"app.tenant": "3"}
    monkeypatch.delenv("PGOPTIONS")
    assert resolved(user="a", row_security=True).reads() == {"row_security": "on", "user": "a"}


def test_a_service_says_where_a_connection_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "services.conf"
    file.write_text("[east]\nhost=db-east\ndbname=shop\noptions=-c search_path=e\n[west]\nhost=w\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    by_option = resolved(service="east")
    assert by_option.bindings()["host"] == "db-east"
    assert by_option.bindings()["database"] == "shop"
    assert by_option.reads() == {"search_path": "e"}
    assert resolved(url="postgresql:///?service=west").bindings()["host"] == "w"
    monkeypatch.setenv("PGSERVICE", "west")
    assert resolved().bindings()["host"] == "w"
    assert resolved(service="east", host="mine").bindings()["host"] == "mine"


@pytest.fixture
def tenants(db: Database) -> Iterator[Database]:
    """A table whose policy shows 2 of 5 rows, and two roles that are not its owner."""
    db.execute(
        "CREATE TABLE public.orders AS SELECT i AS id, CASE WHEN i < 3 THEN 'a' ELSE 'b' END AS tenant"
        " FROM generate_series(1, 5) i",
        "ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        "CREATE POLICY p ON public.orders USING (tenant = current_setting('app.tenant', true))",
    )
    for role in ("reader_a", "reader_b"):
        db.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"GRANT SELECT ON public.orders TO {role}"
        )
    db.execute("ALTER ROLE reader_a SET app.tenant = 'a'")
    yield db
    for role in ("reader_a", "reader_b"):
        db.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_rows_that_a_policy_hides_are_refused_until_policies_are_asked_for(
    tenants: Database,
) -> None:
    role = {"user": "reader_a", "password": "x"}
    for source in ({"parts": ("orders",)}, {"query": "SELECT * FROM public.orders"}):
        with pytest.raises(BackendError, match="row-level security hides rows") as refused:
            tenants.read(context=tenants.context(options=role), **source)
        assert "row_security: true" in refused.value.hint
    asked = tenants.context(options={**role, "row_security": True})
    assert tenants.read(context=asked, parts=("orders",)).num_rows == 2


def test_settings_that_the_server_keeps_for_a_role_or_database_are_seen(tenants: Database) -> None:
    def sees(**options: object) -> str:
        context = tenants.context(options={"password": "x", **options})
        source = Source(node="source.s", type="postgresql", query="SELECT 1 AS a")
        with plugin.read_source(context, source) as stream:
            assert (f"?{stream.sees}" in stream.identity) == bool(stream.sees)
            return stream.sees

    assert sees(user="reader_b") == ""
    one = sees(user="reader_a")
    assert one
    tenants.execute("ALTER ROLE reader_b SET statement_timeout = '1h'")
    assert sees(user="reader_b") == ""
    tenants.execute("ALTER ROLE reader_b SET app.tenant = 'b'")
    assert sees(user="reader_b") not in ("", one)
    tenants.execute("ALTER ROLE reader_b SET app.tenant = 'a'")
    assert sees(user="reader_b") == one
    assert sees(user="reader_b", options="-c app.tenant=c") not in ("", one)
    database = tenants.value("SELECT quote_ident(current_database())")
    tenants.execute(f"ALTER DATABASE {database} SET role = reader_b")
    assert sees(user="reader_a") not in ("", one)
    tenants.execute(f"ALTER DATABASE {database} RESET ALL")
