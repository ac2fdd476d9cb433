"""The grants of ``docs/grants.md`` are enough for each role, and none is too many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
import yaml

from support.cli import Cli, write

PAGE = Path(__file__).parents[2] / "docs" / "grants.md"
ROLES = ("shop_prod", "shop_dev")
PASSWORD = "few-rights-few-cares"
PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "seeknal/orders.yml": (
        "kind: source\nname: orders\nsource: postgresql\ntable: raw.orders\n"
        "params: {connection: warehouse, columns: [id, amount]}\n"
    ),
    "seeknal/big.yml": (
        "kind: transform\nname: big\ntransform: SELECT id, amount FROM source.orders\n"
        "materialization: {type: postgresql, connection: warehouse, table: analytics.big}\n"
    ),
    "seeknal/kept.yml": (
        "kind: transform\nname: kept\ntransform: SELECT 1 AS id\n"
        "materialization: {type: postgresql, connection: warehouse, table: analytics.kept}\n"
    ),
}


def blocks() -> list[list[str]]:
    """Return the statements of each SQL block of the page."""
    found = re.findall(r"```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return [block.strip().splitlines() for block in found]


READ, PROD, DEV, LINKS = blocks()


class Shop:
    """A project, the database that it works on, and the roles of the page."""

    def __init__(self, root: Path, dsn: dict[str, object]) -> None:
        self.admin = psycopg.connect(autocommit=True, **dsn)  # type: ignore[arg-type]
        self.name = str(dsn["dbname"])
        write(root, PROJECT)
        for role, file in zip(ROLES, ("profiles.yml", "profiles-dev.yml"), strict=True):
            options = {**dsn, "user": self.role(role), "password": PASSWORD}
            profile: dict[str, object] = {
                "connections": {"warehouse": {"type": "postgresql", **options}}
            }
            if role == "shop_dev":
                profile["namespace"] = {"prefix": True}
            (root / file).write_text(yaml.safe_dump(profile))
        self.seeknal = Cli(cwd=root, environ={"HOME": str(root / "home")}, warm=True)
        self.root = root
        self.execute("CREATE SCHEMA raw")
        self.execute("CREATE TABLE raw.orders AS SELECT 1 AS id, 2 AS amount, 'x' AS secret")

    def role(self, name: str) -> str:
        """Return the name that a role has in this test: roles are the server's."""
        return f"{name}_{self.name}"

    def execute(self, statement: str) -> None:
        for role in ROLES:
            statement = re.sub(rf"\b{role}\b", self.role(role), statement)
        self.admin.execute(statement)

    def grant(self, statements: Sequence[str]) -> None:
        for role in ROLES:
            self.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        for statement in statements:
            self.execute(statement)

    def rows(self, table: str) -> int:
        found = self.admin.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert found
        return int(found[0])

    def journey(self, code: int | None = 0, *, steps: int = 6) -> list[str]:
        """Run production and dev, promote a change, roll it back; stop at a failure."""
        said = []
        for command in (
            ("run",),
            ("run", "--env", "dev"),
            ("env", "promote", "dev"),
            ("env", "status", "prod"),
            ("env", "rollback", "prod"),
            ("env", "delete", "dev", "--yes"),
        )[:steps]:
            if command[-1] == "dev" and command[0] == "run":
                node = self.root / "seeknal/big.yml"
                node.write_text(node.read_text().replace("SELECT id", "SELECT id + 1 AS id"))
            done = self.seeknal(*command, code=code)
            said.append(done.said)
            if done.code:
                break
        return said

    def drop(self) -> None:
        self.execute("DROP SCHEMA IF EXISTS raw CASCADE")
        for role in ROLES:
            self.execute(f"DROP OWNED BY {role} CASCADE")
            self.execute(f"DROP ROLE {role}")
        self.admin.close()


@pytest.fixture
def shop(tmp_path: Path, postgres_dsn: dict[str, object]) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop", postgres_dsn)
    yield made
    made.drop()


def test_the_grants_of_the_page_are_enough(shop: Shop) -> None:
    shop.grant([*READ, *PROD, *DEV, *LINKS])
    said = shop.journey()
    assert len(said) == 6 and "linked" in said[1], said[1]


def test_without_rights_on_production_its_tables_are_left_out_of_dev(shop: Shop) -> None:
    shop.grant([*READ, *PROD, *DEV])
    assert "analytics.kept left out" in shop.journey()[1]


@pytest.mark.parametrize("missing", [*READ, *PROD, *DEV])
def test_each_grant_is_needed(shop: Shop, missing: str) -> None:
    shop.grant([line for line in (*READ, *PROD, *DEV) if line != missing])
    *_, last = shop.journey(code=None)
    named = "raw" if " raw" in missing else missing.split()[2]
    assert "failed" in last and named in last, last


@pytest.mark.parametrize("missing", LINKS)
def test_each_grant_for_links_is_needed(shop: Shop, missing: str) -> None:
    shop.grant([line for line in (*READ, *PROD, *DEV, *LINKS) if line != missing])
    said = shop.journey(steps=2)[1]
    assert "linked" not in said
    assert "copied" in said if "TO shop_prod" in missing else "analytics.kept left out" in said


def test_dev_can_not_change_production(shop: Shop) -> None:
    shop.grant([*READ, *PROD, *DEV, *LINKS])
    shop.seeknal("run")
    (shop.root / "profiles-dev.yml").rename(shop.root / "profiles.yml")
    node = shop.root / "seeknal/big.yml"
    node.write_text(node.read_text().replace("SELECT id", "SELECT id + 7 AS id"))
    assert "permission denied" in shop.seeknal("run", code=None).said
    assert shop.rows("analytics.big WHERE id = 1") == 1
