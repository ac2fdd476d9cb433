"""An environment has all of its targets: what is unchanged is linked, copied or left out."""

from __future__ import annotations

import psycopg
import pytest

from support.cli import write
from support.modes import MODES, in_each_mode, run, views
from support.promotions import ROWS, Shop


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """A table in each mode and store, in production."""
    return in_each_mode(promoted_shop)


def test_an_unchanged_environment_is_complete(shop: Shop) -> None:
    first = shop.seeknal("run", "--env", "dev", "--json")
    found = {one["name"]: one for one in first.json()["targets"]}
    assert {name: one["status"] for name, one in found.items()} == {
        **{f"dev_shop.{t}": "linked" for t in MODES},
        "lake.dev_shop.whole": "copied",
        **{f"lake.dev_shop.{t}": "left out" for t in MODES if t != "whole"},
    }
    assert "mode append is not copied" in found["lake.dev_shop.added"]["reason"]
    assert "lake.dev_shop.merged" in first.err
    assert views(shop) == dict.fromkeys(MODES, True)
    database = shop.database
    assert database.query("SELECT count(*) FROM dev_shop.whole") == [(ROWS,)]
    # Live, and for reading only.
    database.execute("INSERT INTO shop.added VALUES (99, 99, '2023-01-01')")
    assert database.query("SELECT count(*) FROM dev_shop.added") == [(ROWS + 1,)]
    for change in ("DELETE FROM dev_shop.whole", "UPDATE dev_shop.whole SET id = 1"):
        with pytest.raises(psycopg.Error):
            database.execute(change)
    assert len(shop.lake.tables()["dev_shop.whole"]) == ROWS
    again = run(shop, "--env", "dev")
    assert {again[f"dev_shop.{t}"] for t in MODES} == {"unchanged"}
    assert again["lake.dev_shop.whole"] == "unchanged"
    assert "linked" in shop.seeknal("env", "status", "dev", "--exit-code").out
    plan = shop.seeknal("env", "plan", "dev", "--json", "--exit-code").json()
    assert not plan["has_changes"]


def test_a_link_becomes_a_table_where_the_environment_differs_and_stays_one(shop: Shop) -> None:
    shop.seeknal("run", "--env", "dev")
    shop.database.execute("CREATE ROLE links_reader NOLOGIN")
    try:
        shop.database.execute("GRANT SELECT ON dev_shop.whole TO links_reader")
        write(shop.root, shop.node("whole", "SELECT id, amount + 1 AS amount FROM source.orders"))
        shop.seeknal("env", "plan", "dev")
        with psycopg.connect(**shop.database.dsn) as reader:  # type: ignore[arg-type]
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT 1 FROM shop.whole")
            shop.seeknal("env", "apply", "dev")
            assert reader.execute("SELECT count(*) FROM dev_shop.whole").fetchone() == (ROWS,)
        assert views(shop)["whole"] is False
        assert shop.database.query(
            "SELECT has_table_privilege('links_reader', 'dev_shop.whole', 'SELECT')"
        ) == [(True,)]
        shop.promote()
        assert run(shop, "--env", "dev")["dev_shop.whole"] == "unchanged"
        assert views(shop)["whole"] is False
    finally:
        shop.database.execute("DROP OWNED BY links_reader")
        shop.database.execute("DROP ROLE links_reader")


def test_links_are_dropped_with_their_environment(shop: Shop) -> None:
    shop.seeknal("run", "--env", "dev")
    listed = shop.seeknal("env", "delete", "dev", "--yes").said
    assert "dev_shop.whole" in listed
    assert views(shop) == {}
    left = shop.database.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE '%dev%'")
    assert left == []
    assert shop.database.query("SELECT count(*) FROM shop.whole") == [(ROWS,)]
    assert set(run(shop).values()) == {"unchanged"}


def test_links_are_never_in_productions_way(shop: Shop) -> None:
    shop.seeknal("run", "--env", "dev")
    shop.database.execute("COMMENT ON VIEW dev_shop.merged IS 'mine'")
    shop.database.execute("GRANT SELECT ON dev_shop.merged TO PUBLIC")
    # A type that has to be widened, by a run and by a promotion.
    wide = "SELECT id, amount * 3000000000 AS amount, DATE '2024-01-01' AS day FROM source.orders"
    write(shop.root, shop.node("merged", wide, MODES["merged"]))
    shop.seeknal("run")
    assert views(shop)["merged"] is True
    assert shop.database.query("SELECT max(amount) FROM dev_shop.merged") == [(200 * 3000000000,)]
    assert shop.database.query(
        "SELECT obj_description('dev_shop.merged'::regclass),"
        " has_table_privilege('public', 'dev_shop.merged', 'SELECT')"
    ) == [("mine", True)]
    assert "linked; production moved on" in shop.seeknal("env", "status", "dev").out
    # Columns that came to production's table come to the link, and what hangs on it stays.
    shop.database.execute("CREATE VIEW public.report AS SELECT id FROM dev_shop.merged")
    more = wide.replace("DATE", "7 AS more, DATE")
    write(shop.root, shop.node("merged", more, MODES["merged"]))
    shop.seeknal("run")
    assert run(shop, "--env", "dev")["dev_shop.merged"] == "linked"
    assert shop.database.query("SELECT max(more) FROM dev_shop.merged") == [(7,)]
    shop.database.execute("DROP VIEW public.report")
    # Whole tables go, too.
    (shop.root / "seeknal" / "daily.sql").unlink()
    shop.seeknal("env", "plan", "prod", "--prune")
    shop.seeknal("env", "apply", "prod")
    assert "daily" not in views(shop)


def test_casts_and_dropped_columns_move_links_aside(shop: Shop) -> None:
    sync = MODES["merged"] + ", on_schema_change: sync"
    shop.seeknal("run", "--env", "dev")
    shop.seeknal("run", "--env", "qa", "--select", "merged")
    shop.database.execute("GRANT SELECT ON qa_shop.merged TO PUBLIC")
    # A cast and a column that goes, by a run; the plan knows that nothing is in the way.
    text = "SELECT id, CAST(amount AS VARCHAR) AS amount FROM source.orders"
    write(shop.root, shop.node("merged", text, sync))
    assert "refused" not in shop.seeknal("env", "plan", "prod").said
    shop.seeknal("run", "--select", "merged")
    assert shop.database.query("SELECT max(amount) FROM qa_shop.merged") == [("90",)]
    # A wider type and a cast, by a promotion, and back.
    more = "SELECT id, CAST(amount AS INTEGER) + 3000000000 AS amount FROM source.orders"
    write(shop.root, shop.node("merged", more, sync))
    shop.seeknal("run", "--env", "dev")
    shop.database.execute("CREATE VIEW public.report AS SELECT amount FROM qa_shop.merged")
    for dry in (("--dry-run",), ()):
        said = shop.seeknal("env", "promote", "dev", *dry, code=0 if dry else 1).said
        assert "link qa_shop.merged has to make way" in said and "view public.report" in said
    shop.database.execute("DROP VIEW public.report")
    shop.seeknal("env", "promote", "dev")
    assert shop.database.query("SELECT max(amount) FROM qa_shop.merged") == [(3000000200,)]
    shop.seeknal("env", "rollback", "prod")
    assert shop.database.query(
        "SELECT max(amount), bool_and(has_table_privilege('public', 'qa_shop.merged', 'SELECT'))"
        " FROM qa_shop.merged"
    ) == [("90", True)]


def test_what_is_unchanged_may_be_copied_or_left_out(shop: Shop) -> None:
    settings = shop.root / "seeknal_project.yml"
    settings.write_text("name: shop\nenvironments: {unchanged: skip}\n")
    assert set(run(shop, "--env", "dev").values()) == {"left out"}
    settings.write_text("name: shop\nenvironments: {unchanged: copy, copy_limit: 10}\n")
    assert set(run(shop, "--env", "dev").values()) == {"left out"}
    settings.write_text("name: shop\nenvironments: {unchanged: copy, copy_limit: 1 MB}\n")
    found = run(shop, "--env", "dev", "--select", "whole")
    assert found == {"dev_shop.whole": "copied", "lake.dev_shop.whole": "copied"}
    assert set(run(shop, "--env", "qa", "--only-changed").values()) == {"left out"}
    assert set(run(shop, "--env", "qa", "--all-targets").values()) == {"written"}
