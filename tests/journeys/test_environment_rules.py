"""The rules of environments, one by one, against real stores.

A test's number is the section, and the item in it, of the specification of environments.
What a rule needs many cases for stands elsewhere too; here is its gist.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cli import write
from support.promotions import Shop, wait_for


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """Version 1 in production, over a database and an embedded catalog."""
    return promoted_shop


def elsewhere(shop: Shop) -> str:
    """Return a profile with the same connections and a prefix of its own."""
    return json.dumps(connections(shop) | {"namespace": {"prefix": "own_"}})


def connections(shop: Shop) -> dict[str, Any]:
    """Return the profile's connections."""
    found: dict[str, Any] = json.loads((shop.root / "profiles.yml").read_text("utf-8"))
    return found


def targets(shop: Shop, *args: str) -> set[str]:
    """Return the final names of a run that writes nothing."""
    return {t["name"] for t in shop.seeknal("run", "--dry-run", "--json", *args).json()["targets"]}


def test_1_1_a_profile_that_is_named_is_used_always_and_must_exist(shop: Shop) -> None:
    write(shop.root, {"mine.yml": elsewhere(shop), "profiles-dev.yml": "{}"})
    said = shop.seeknal("run", "--env", "dev", "--profile", "mine.yml", "--dry-run").out
    assert "--profile mine.yml" in said.splitlines()[0]
    said = shop.seeknal("run", "--env", "dev", "--dry-run", SEEKNAL_PROFILE="mine.yml").out
    assert "SEEKNAL_PROFILE mine.yml" in said.splitlines()[0]
    assert "no such file" in shop.seeknal("run", "--profile", "nope.yml", code=2).said


def test_1_2_a_profile_of_the_environment_in_the_project_comes_next(shop: Shop) -> None:
    write(shop.root, {"profiles-dev.yml": json.dumps(connections(shop))})
    # No prefix by convention: names are as written, so that the guard has to refuse them.
    found = shop.seeknal("run", "--env", "dev", code=2)
    assert "profiles-dev.yml in the project" in found.out.splitlines()[0]
    assert "shop.kept" in found.err


def test_1_3_a_profile_of_the_environment_in_the_home_comes_next(
    shop: Shop, tmp_path: Path
) -> None:
    home = tmp_path / "seeknal-home"
    write(home, {"profiles-dev.yml": elsewhere(shop)})
    said = shop.seeknal("run", "--env", "dev", "--dry-run", SEEKNAL_HOME=str(home)).out
    assert str(home) in said.splitlines()[0]


def test_1_4_the_default_profile_comes_last_with_prefixes_and_production_s_is_no_fallback(
    shop: Shop,
) -> None:
    said = shop.seeknal("run", "--env", "dev", "--dry-run").out
    assert "default profiles.yml, names prefixed with dev_" in said.splitlines()[0]
    shutil.move(shop.root / "profiles.yml", shop.root / "profiles-prod.yml")
    assert "no connection" in shop.seeknal("run", "--env", "dev", "--dry-run", code=2).said
    assert targets(shop) == {"shop.kept", "shop.keyed", "lake.shop.kept", "lake.shop.keyed"}


def test_2_names_are_prefixed_by_convention_and_only_then(shop: Shop) -> None:
    expected = {"dev_shop.kept", "dev_shop.keyed", "lake.dev_shop.kept", "lake.dev_shop.keyed"}
    assert targets(shop, "--env", "dev") == expected
    assert targets(shop, "--env", "DEV") == expected
    own = connections(shop) | {"namespace": {"prefix": "alice_"}}
    write(shop.root, {"profiles-dev.yml": json.dumps(own)})
    assert {name.replace("alice_", "dev_") for name in targets(shop, "--env", "dev")} == expected
    for name in ("../x", "a;b", "", "9a", "x" * 40):
        assert shop.seeknal("run", "--env", name, code=2).err


def test_2_a_profile_that_points_at_production_is_refused_before_any_write(shop: Shop) -> None:
    old = shop.seen()
    write(shop.root, {"profiles-dev.yml": json.dumps(connections(shop))})
    shop.become(2)
    for command in (("run", "--env", "dev"), ("env", "plan", "dev")):
        said = shop.seeknal(*command, code=2).said
        assert "is a target of environment 'prod' too" in said
    assert shop.seen() == old


def test_2_a_table_of_somebody_else_s_is_taken_over_only_on_request(shop: Shop) -> None:
    shop.database.execute("CREATE SCHEMA IF NOT EXISTS dev_shop")
    shop.database.execute("CREATE TABLE dev_shop.kept AS SELECT 7 AS id, 8 AS amount")
    said = shop.seeknal("run", "--env", "dev", "--all-targets", code=1).said
    assert "--adopt" in said
    assert shop.database.query("SELECT * FROM dev_shop.kept") == [(7, 8)]
    shop.seeknal("run", "--env", "dev", "--all-targets", "--adopt")
    assert shop.database.query("SELECT count(*) FROM dev_shop.kept") == [(20,)]


def test_2_protected_production_runs_what_was_promoted_only(shop: Shop) -> None:
    write(
        shop.root,
        {"profiles-prod.yml": json.dumps(connections(shop) | {"protected": True})},
    )
    shop.seeknal("run")
    shop.become(2)
    assert "protected" in shop.seeknal("run", code=3).said
    shop.apply()
    shop.promote()
    shop.expect(2)
    shop.seeknal("run")


def test_3_where_a_node_reads_and_writes_is_never_a_change(shop: Shop) -> None:
    path = shop.root / "seeknal" / "kept.sql"
    text = path.read_text("utf-8")
    path.write_text(text.replace("SELECT id,", "-- why\nselect   id,"), "utf-8")
    moved = connections(shop)
    moved["connections"]["warehouse"] |= {"host": "localhost", "application_name": "another"}
    write(shop.root, {"profiles.yml": json.dumps(moved)})
    planned = shop.seeknal("env", "plan", "dev", "--json").json()
    assert {n["change"] for n in planned["nodes"]} == {"unchanged"}
    assert {n["action"] for n in planned["nodes"]} == {"reuse"}


def test_3_a_changed_target_is_written_again_and_nothing_computed(shop: Shop) -> None:
    path = shop.root / "seeknal" / "kept.sql"
    path.write_text(path.read_text("utf-8").replace("shop.kept}", "shop.moved}"), "utf-8")
    report = shop.seeknal("run", "--json").json()
    assert {n["status"] for n in report["nodes"]} == {"reused"}
    written = {t["name"] for t in report["targets"] if t["status"] == "written"}
    assert written == {"shop.moved", "lake.shop.moved"}


def test_3_a_lost_state_folder_is_rebuilt_from_the_ledgers(shop: Shop) -> None:
    shutil.rmtree(shop.root / "target" / "state")
    recovered = shop.seeknal("state", "recover", "--json").json()
    assert len(recovered["targets"]) == 4
    report = shop.seeknal("run", "--json").json()
    assert {t["status"] for t in report["targets"]} == {"unchanged"}


def test_4_a_plan_writes_nothing_and_says_what_an_apply_does(shop: Shop) -> None:
    shop.become(2)
    before = {place.name: place.tables() for place in shop.places}
    planned = shop.seeknal("plan", "dev", "--json", "--exit-code", code=3).json()
    assert {place.name: place.tables() for place in shop.places} == before
    changes = {n["id"]: n["change"] for n in planned["nodes"] if n["change"] != "unchanged"}
    assert changes == {
        "transform.kept": "changed",
        "transform.keyed": "changed",
        "transform.new2": "added",
    }
    assert {t["guarantee"] for t in planned["targets"]} == {
        "staged, with 2 more of lake",
        "staged, with 2 more of warehouse",
    }
    assert "SELECT id, amount + 2" in shop.seeknal("plan", "dev", "--show-sql").out


def test_5_an_apply_refuses_a_stale_plan_before_any_write(shop: Shop) -> None:
    shop.become(2)
    shop.seeknal("env", "plan", "dev")
    before = {place.name: place.tables() for place in shop.places}
    shop.become(3)
    said = shop.seeknal("env", "apply", "dev", code=3).said
    assert "definitions changed" in said and "seeknal env plan dev" in said
    assert {place.name: place.tables() for place in shop.places} == before
    shop.seeknal("env", "apply", "dev", "--force")


def test_5_what_hangs_on_a_table_survives_a_promotion_and_its_way_back(shop: Shop) -> None:
    database = shop.database
    for statement in (
        "CREATE ROLE reader_of_shop" if not _role(shop) else "SELECT 1",
        "ALTER TABLE shop.kept ADD PRIMARY KEY (id)",
        "GRANT SELECT ON shop.kept TO reader_of_shop",
        "COMMENT ON TABLE shop.kept IS 'ours'",
        "CREATE TABLE shop.child (id int REFERENCES shop.kept (id) ON DELETE CASCADE)",
        "INSERT INTO shop.child VALUES (1), (2)",
        "CREATE VIEW shop.v AS SELECT * FROM shop.kept",
        "CREATE VIEW shop.vv AS SELECT sum(amount) AS s FROM shop.v",
        "CREATE MATERIALIZED VIEW shop.mv AS SELECT * FROM shop.vv",
        "ALTER TABLE shop.kept ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON shop.kept USING (true)",
        "CREATE INDEX ON shop.kept (amount)",
    ):
        database.execute(statement)
    attached = _attached(shop)
    shop.become(2)
    shop.apply()
    shop.promote()
    assert _attached(shop) == attached
    assert database.query("SELECT count(*) FROM shop.child") == [(2,)]
    assert database.query("SELECT s FROM shop.vv") == [(2140,)]
    shop.seeknal("env", "rollback", "prod")
    assert _attached(shop) == attached
    assert database.query("SELECT count(*) FROM shop.child") == [(2,)]
    assert database.query("SELECT s FROM shop.vv") == [(2120,)]


def _role(shop: Shop) -> bool:
    return bool(shop.database.query("SELECT 1 FROM pg_roles WHERE rolname = 'reader_of_shop'"))


def _attached(shop: Shop) -> list[tuple[Any, ...]]:
    """Describe what hangs on ``shop.kept``, by the server's catalogs."""
    return shop.database.query(
        "SELECT c.oid, c.relacl::text, obj_description(c.oid), c.relrowsecurity,"
        " (SELECT array_agg(indexrelid ORDER BY 1) FROM pg_index WHERE indrelid = c.oid),"
        " (SELECT array_agg(oid ORDER BY 1) FROM pg_constraint"
        "   WHERE conrelid = c.oid OR confrelid = c.oid),"
        " (SELECT array_agg(oid ORDER BY 1) FROM pg_policy WHERE polrelid = c.oid),"
        " (SELECT array_agg(DISTINCT ev_class) FROM pg_rewrite r JOIN pg_depend d"
        "   ON d.objid = r.oid WHERE d.refobjid = c.oid)"
        " FROM pg_class c WHERE c.oid = 'shop.kept'::regclass"
    )


def test_5_a_repeatable_reader_sees_the_old_rows_until_it_ends(shop: Shop) -> None:
    shop.become(2)
    shop.apply()
    with psycopg.connect(**shop.database.dsn) as reader:  # type: ignore[arg-type]
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        shop.promote()
        for table, total in (("kept", 2120), ("keyed", 2100)):
            found = reader.execute(f"SELECT sum(amount) FROM shop.{table}").fetchone()
            assert found == (total,)
        reader.rollback()
        assert reader.execute("SELECT sum(amount) FROM shop.kept").fetchone() == (2140,)


def test_6_1_preflight_refuses_what_is_not_applied_has_moved_or_drifted(shop: Shop) -> None:
    assert "it never ran" in shop.promote(code=3).said
    shop.become(2)
    shop.apply()
    shop.database.execute("DELETE FROM shop.keyed WHERE id = 1")
    assert "shop.keyed was changed by somebody else" in shop.promote(code=3).said


def test_6_2_and_6_3_what_is_staged_is_unseen_and_compared_with_what_was_computed(
    shop: Shop, tmp_path: Path
) -> None:
    shop.become(2)
    shop.apply()
    old = shop.seen()
    go = tmp_path / "go"
    # Four targets are verified at a time, so that two wait until the first are let go.
    running = shop.seeknal.start("env", "promote", "dev", SEEKNAL_WAIT=f"checksum:{go}")
    wait_for(Path(f"{go}.reached"))
    running.send_signal(19)  # SIGSTOP: staged, and not verified
    staged = [n for n in shop.database.tables() if n.startswith("_seeknal_prod.stage_")]
    assert shop.seen() == old
    assert len(staged) == 3
    for table in staged:
        shop.database.execute(
            f"DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} LIMIT 1)"
        )
    go.touch()
    running.send_signal(18)  # SIGCONT
    out, err = running.communicate(timeout=60)
    assert running.returncode == 4, out + err
    assert "19 rows staged, 20 in" in err or "staged with other values" in err
    assert shop.seen() == old
    assert shop.leftovers(undo=True) == []


def test_6_4_and_6_5_all_is_published_or_nothing_and_the_record_follows(shop: Shop) -> None:
    shop.become(2)
    shop.apply()
    shop.promote()
    shop.expect(2)
    held = shop.seeknal("env", "show", "prod", "--json").json()
    assert held["generation"] == 1
    assert set(held["nodes"]) == {
        "source.orders", "transform.kept", "transform.keyed", "transform.new2",
    }  # fmt: skip
    ledger = shop.database.query("SELECT DISTINCT generation FROM _seeknal_prod.promotions")
    assert ledger == [(1,)]


def test_7_looking_and_cleaning_leave_what_is_not_the_environment_s(shop: Shop) -> None:
    shop.become(2)
    shop.apply()
    shop.database.execute("CREATE TABLE dev_shop.mine AS SELECT 1 AS one")
    listed = {one["name"]: one for one in shop.seeknal("env", "list", "--json").json()}
    assert listed["dev"]["changed"] == 2 and listed["dev"]["only_here"] == 1
    shop.seeknal("env", "status", "dev", "--exit-code")
    said = shop.seeknal("env", "delete", "dev", "--yes", code=1).said
    assert "dev_shop" in said
    tables = [name for name in shop.database.tables() if name.startswith("dev_")]
    assert tables == ["dev_shop.mine"]
    shop.expect(1)


def test_8_exit_codes(shop: Shop) -> None:
    shop.seeknal("run", code=0)
    write(shop.root, {"seeknal/bad.sql": "SELECT error('x') AS x FROM source.orders\n"})
    shop.seeknal("run", code=1)
    shop.seeknal("run", "--nonsense", code=2)
    (shop.root / "seeknal" / "bad.sql").unlink()
    shop.seeknal("env", "promote", "dev", code=3)
    shop.become(2)
    shop.apply()
    shop.database.execute("DELETE FROM dev_shop.kept WHERE id = 1")
    shop.seeknal("env", "promote", "dev", code=4)
