"""Rows that a login sees and another does not are never shipped to another environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cli import Cli, write

_FIRST = """
kind: transform
name: first
transform: SELECT 1 AS one
materialization: {type: postgresql, connection: warehouse, table: public.first}
"""
_NODES = """
kind: source
name: orders
source: postgresql
table: public.{table}
params: {{connection: warehouse, row_security: {policies}}}
---
kind: transform
name: totals
transform: SELECT count(*) AS n FROM ref('source.orders')
materialization: {{type: postgresql, connection: warehouse, table: public.totals}}
"""

#: Views that filter by who asks, without a setting of the role.
_BY_ROLE = {
    "by_user": "WHERE current_user LIKE '%\\_' || tenant",
    "by_function": "WHERE public.own(tenant)",
}


@pytest.fixture
def tenants(
    postgres_dsn: dict[str, object], request: pytest.FixtureRequest
) -> Iterator[tuple[Any, dict[str, str]]]:
    """A table whose policy, and a view whose filter, shows each of two roles its own rows."""
    # Whose filter asks for the role needs no setting of the role.
    settings = "by_role" not in request.node.name
    with psycopg.connect(autocommit=True, **postgres_dsn) as admin:  # type: ignore[arg-type]
        roles = {each: f"{postgres_dsn['dbname']}_{each}" for each in ("a", "b")}
        admin.execute(
            "CREATE TABLE public.secured AS SELECT i AS id,"
            " CASE WHEN i < 3 THEN 'a' ELSE 'b' END AS tenant FROM generate_series(1, 5) i"
        )
        admin.execute("ALTER TABLE public.secured ENABLE ROW LEVEL SECURITY")
        admin.execute(
            "CREATE POLICY p ON public.secured USING (tenant = current_setting('app.tenant'))"
        )
        admin.execute(
            "CREATE VIEW public.mine AS"
            " SELECT * FROM public.secured WHERE tenant = current_setting('app.tenant')"
        )
        admin.execute(
            "CREATE FUNCTION public.own(text) RETURNS boolean LANGUAGE sql STABLE"
            " AS $$ SELECT current_user LIKE '%\\_' || $1 $$"
        )
        for view, filter in _BY_ROLE.items():
            admin.execute(f"CREATE VIEW public.{view} AS SELECT * FROM public.secured {filter}")
        admin.execute("CREATE VIEW public.below AS SELECT id FROM public.by_user")
        database = f'"{postgres_dsn["dbname"]}"'
        for tenant, role in roles.items():
            admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
            if settings:
                admin.execute(f"ALTER ROLE {role} SET app.tenant = '{tenant}'")
            admin.execute(f"GRANT CREATE ON DATABASE {database} TO {role}")
            admin.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
            admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        yield admin, roles
        for role in roles.values():
            admin.execute(f"DROP OWNED BY {role} CASCADE")
            admin.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("source", ["by_user", "by_function", "below", "query"])
def test_rows_that_a_filter_by_role_hides_are_not_shipped(
    tenants: tuple[Any, dict[str, str]],
    postgres_dsn: dict[str, object],
    tmp_path: Path,
    source: str,
) -> None:
    nodes = _NODES.format(table=source, policies="false")
    if source == "query":
        query = "SELECT b.id FROM public.by_user AS b"
        nodes = nodes.replace("table: public.query\n", "").replace(
            "row_security: false", f"query: '{query}'"
        )
    _promote(tenants, postgres_dsn, tmp_path, nodes)


@pytest.mark.parametrize(("table", "policies"), [("secured", "true"), ("mine", "false")])
def test_rows_that_another_login_does_not_see_are_not_shipped(
    tenants: tuple[Any, dict[str, str]],
    postgres_dsn: dict[str, object],
    tmp_path: Path,
    table: str,
    policies: str,
) -> None:
    nodes = _NODES.format(table=table, policies=policies)
    _promote(tenants, postgres_dsn, tmp_path, nodes)


def _promote(
    tenants: tuple[Any, dict[str, str]],
    postgres_dsn: dict[str, object],
    tmp_path: Path,
    nodes: str,
) -> None:
    """Promote what dev's role sees into what another role sees; its own rows must arrive."""
    admin, roles = tenants
    root = tmp_path / "shop"

    def profile(tenant: str, **more: Any) -> str:
        login = {**postgres_dsn, "user": roles[tenant], "password": "x", "type": "postgresql"}
        return json.dumps({"connections": {"warehouse": login}, **more})

    write(
        root,
        {
            "seeknal_project.yml": "name: shop",
            "profiles.yml": profile("b"),
            "profiles-dev.yml": profile("a", namespace={"prefix": "dev_"}),
            "seeknal/first.yml": _FIRST,
        },
    )
    seeknal = Cli(cwd=root, environ={"HOME": str(tmp_path / "home")}, warm=True)
    seeknal("run")
    # New in dev: production knows no snapshot of the source.
    write(root, {"seeknal/nodes.yml": nodes})
    seeknal("run", "--env", "dev")
    assert admin.execute("SELECT n FROM dev_public.totals").fetchall() == [(2,)]
    seeknal("env", "promote", "dev", "--yes", code=None)
    assert admin.execute("SELECT n FROM public.totals").fetchall() == [(3,)]
