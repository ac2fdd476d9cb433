"""Links of an unchanged environment where something stands in their way.

Rare cases of `tests/journeys/test_links.py`.
"""

from __future__ import annotations

import json

import pytest

from support.cli import write
from support.modes import MODES, in_each_mode, run, views
from support.promotions import Shop


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """A table in each mode and store, in production."""
    return in_each_mode(promoted_shop)


def test_what_others_hang_on_a_link_is_named_where_it_is_in_the_way(shop: Shop) -> None:
    shop.seeknal("run", "--env", "dev")
    shop.database.execute("CREATE VIEW public.report AS SELECT id, amount FROM dev_shop.merged")
    more = "SELECT id, CAST(amount AS INTEGER) AS amount, 1 AS more, DATE '2024-01-01' AS day FROM source.orders"
    write(shop.root, shop.node("merged", more, MODES["merged"]))
    shop.seeknal("run")
    wide = more.replace("CAST(amount AS INTEGER)", "amount * 3000000000")
    write(shop.root, shop.node("merged", wide, MODES["merged"]))
    said = shop.seeknal("run", code=1).said
    assert "view public.report" in said and "dev_shop.merged" in said


def test_row_level_security_is_neither_linked_nor_copied(shop: Shop) -> None:
    shop.database.execute("ALTER TABLE shop.whole ENABLE ROW LEVEL SECURITY")
    done = shop.seeknal("run", "--env", "dev", "--json")
    found = {one["name"]: one["status"] for one in done.json()["targets"]}
    assert found["dev_shop.whole"] == "left out"
    assert "row-level security" in done.err


def test_an_environment_with_links_is_promoted_into(shop: Shop) -> None:
    """Staging has production's rows by links; dev is promoted into it, and back."""
    shop.seeknal("run", "--env", "staging")
    write(shop.root, shop.node("whole", "SELECT id, amount + 1 AS amount FROM source.orders"))
    shop.apply()
    shop.seeknal("env", "promote", "dev", "staging")
    query = "SELECT max(amount) FROM staging_shop.whole"
    assert shop.database.query(query) == [(201,)]
    shop.seeknal("env", "rollback", "staging")
    assert shop.database.query(query) == [(200,)]


def test_rights_decide_what_may_be_linked(shop: Shop) -> None:
    """Dev logs in as a role of its own, beside production's."""
    database = shop.database
    database.execute("CREATE ROLE links_dev LOGIN PASSWORD 'links-word'")
    name = database.query("SELECT current_database()")[0][0]
    database.execute(f'GRANT CREATE ON DATABASE "{name}" TO links_dev')
    try:
        profile = json.loads((shop.root / "profiles.yml").read_text("utf-8"))
        warehouse = profile["connections"]["warehouse"]
        warehouse |= {"user": "links_dev", "password": "links-word"}
        profile["namespace"] = {"prefix": True}
        write(shop.root, {"profiles-dev.yml": json.dumps(profile)})
        first = shop.seeknal("run", "--env", "dev", "--json")
        found = {one["name"]: one["status"] for one in first.json()["targets"]}
        # What it may not read is not copied to it either.
        assert found["dev_shop.whole"] == "left out"
        assert "may not read shop.whole" in first.err
        database.execute("GRANT USAGE ON SCHEMA shop TO links_dev")
        database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA shop TO links_dev")
        assert run(shop, "--env", "dev")["dev_shop.whole"] == "linked"
        # Production's role is a superuser, or a member: links make way for it.
        (shop.root / "seeknal" / "daily.sql").unlink()
        shop.seeknal("env", "plan", "prod", "--prune")
        said = shop.seeknal("env", "apply", "prod").said
        assert "daily" not in views(shop), said
        assert database.query(
            "SELECT pg_get_userbyid(relowner)::text FROM pg_class"
            " WHERE oid = 'dev_shop.whole'::regclass"
        ) == [("links_dev",)]
        shop.seeknal("env", "delete", "dev", "--yes")
    finally:
        database.execute("DROP OWNED BY links_dev")
        database.execute("DROP ROLE links_dev")
