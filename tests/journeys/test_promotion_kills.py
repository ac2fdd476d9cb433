"""Whatever dies at whatever step: all old or all new, and nothing left after the same command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import PostgresServer
from support.promotions import Place, Shop, make_shop, wait_for

#: Hooks that change something in a store.
MUTATING = "stage,prepare_publish,publish,revert,discard"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that syncs, as one does that may be killed."""
    running = PostgresServer(fsync=True)
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def shop(tmp_path: Path, server: PostgresServer, killer: Path) -> Iterator[Shop]:
    """Version 1 in production, over a database and an embedded catalog."""
    dsn = server.create_database()
    places = [
        Place(name="warehouse", dsn=dsn),
        Place(name="lake", warehouse=tmp_path / "lake"),
    ]
    yield make_shop(tmp_path, places, str(killer))
    server.drop_database(dsn)


def next_version(shop: Shop, number: int) -> None:
    """Get version `number` ready to be promoted."""
    shop.become(number)
    shop.seeknal("run", "--env", "dev")


def calls_of(shop: Shop, tmp_path: Path, *command: str) -> list[str]:
    """Run a command that is let through and return the mutating hooks it called."""
    log = tmp_path / "calls"
    log.unlink(missing_ok=True)
    shop.seeknal(*command, SEEKNAL_KILL_LOG=str(log), SEEKNAL_KILL_HOOKS=MUTATING)
    return log.read_text("utf-8").splitlines()


def is_whole(shop: Shop, old: object, new: int) -> bool:
    """Check that each store is old or new, and tell whether both are the same of the two."""
    states = []
    for place in shop.places:
        seen = place.seen()
        states.append(f"{place.schema}.new{new}" in seen)
        if not states[-1]:
            assert isinstance(old, dict)
            assert seen == old[place.name], place
    return len(set(states)) == 1


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_promotion_killed_at_any_hook_call_is_finished_by_the_same_command(
    shop: Shop, tmp_path: Path
) -> None:
    number = 2
    next_version(shop, number)
    calls = calls_of(shop, tmp_path, "env", "promote", "dev")
    assert calls.count("stage") == 6 and calls.count("publish") == 2
    assert calls.count("prepare_publish") == 1
    # From now on the undo data of the promotion before is discarded as well.
    calls += ["discard"] * 2
    # A death before a call is one after the call before it. So every second call is enough:
    # the first deaths are at the even gaps between calls, the second ones at the odd gaps.
    assert len(calls) % 2 == 1
    for point in range(1, len(calls) + 1, 2):
        number += 1
        next_version(shop, number)
        old = shop.seen()
        # It dies before the call; then whoever goes on dies after a call, at another place.
        died = killed(shop, f"before:{point}", "env", "promote", "dev")
        assert died == -9, point
        is_whole(shop, old, number)
        killed(shop, f"after:{len(calls) + 1 - point}", "env", "promote", "dev")
        is_whole(shop, old, number)
        shop.promote()
        shop.expect(number)
        assert shop.leftovers() == [], (point, calls)
    shop.seeknal("env", "rollback", "prod")
    shop.expect(number - 1)
    assert shop.leftovers(undo=True) == []


def killed(shop: Shop, moment: str, *command: str, hooks: str = MUTATING) -> int:
    """Run a command that dies at a hook call, if it comes that far; return its exit code."""
    ended = shop.seeknal(*command, code=None, SEEKNAL_KILL_AT=moment, SEEKNAL_KILL_HOOKS=hooks)
    assert ended.code in (0, -9), ended.said
    return ended.code


@pytest.mark.timeout(600)
def test_an_aborted_promotion_leaves_production_as_it_was(shop: Shop, tmp_path: Path) -> None:
    next_version(shop, 2)
    calls = calls_of(shop, tmp_path, "env", "promote", "dev")
    next_version(shop, 3)
    old = shop.seen()
    for point in range(1, len(calls) + 1):
        assert killed(shop, f"after:{point}", "env", "promote", "dev") == -9, point
        if point in (1, len(calls)):
            assert "is unfinished" in shop.seeknal("run", code=5).said
            assert shop.seeknal("env", "list", "--json").json()[0]["status"] == "promoting"
        shop.promote("--abort")
        assert shop.seen() == old, point
        assert shop.leftovers() == [], point
    shop.promote()
    shop.expect(3)


@pytest.mark.timeout(600)
def test_a_rollback_killed_at_any_hook_call_is_finished_by_the_same_command(
    shop: Shop, tmp_path: Path
) -> None:
    next_version(shop, 2)
    shop.promote()
    calls = calls_of(shop, tmp_path, "env", "rollback", "prod")
    assert calls.count("revert") == 2 and calls.count("discard") == 2
    shop.expect(1)
    for point in range(1, len(calls) + 1):
        next_version(shop, 2)
        shop.promote()
        assert killed(shop, f"before:{point}", "env", "rollback", "prod") == -9, point
        if killed(shop, f"after:{point}", "env", "rollback", "prod") == -9:
            shop.seeknal("env", "rollback", "prod")
        shop.expect(1)
        assert shop.leftovers(undo=True) == [], point


@pytest.mark.timeout(600)
def test_an_apply_killed_at_any_write_is_finished_by_the_next(shop: Shop) -> None:
    old = shop.seen()
    shop.become(2)
    for moment in ("before:1", "after:1", "before:4", "after:6"):
        shop.seeknal("env", "plan", "dev")
        assert killed(shop, moment, "env", "apply", "dev", hooks="materialize") == -9, moment
        shop.apply()
        report = shop.seeknal("run", "--env", "dev", "--json").json()
        assert {t["status"] for t in report["targets"]} == {"unchanged"}
        shop.seeknal("env", "delete", "dev", "--yes")
        assert shop.leftovers() == [], moment
    assert shop.seen() == old


@pytest.mark.timeout(600)
def test_a_delete_killed_at_any_drop_is_finished_by_the_same_command(shop: Shop) -> None:
    old = shop.seen()
    shop.become(2)
    for moment in ("before:1", "after:1", "before:5", "after:6"):
        shop.apply()
        delete = ("env", "delete", "dev", "--yes")
        assert killed(shop, moment, *delete, hooks="drop_target") == -9, moment
        shop.seeknal(*delete)
        left = [name for place in shop.places for name in place.tables()]
        assert not [name for name in left if "dev" in name], moment
        assert shop.leftovers() == [], moment
    assert shop.seen() == old


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "wait", ["stage", "checksum", "prepare_publish", "publish"], ids=lambda hook: f"after {hook}"
)
def test_a_database_killed_at_any_step_ends_all_old_or_all_new(
    shop: Shop, server: PostgresServer, tmp_path: Path, wait: str
) -> None:
    next_version(shop, 2)
    old = shop.seen()
    go = tmp_path / "go"
    running = shop.seeknal.start("env", "promote", "dev", SEEKNAL_WAIT=f"{wait}:{go}")
    wait_for(Path(f"{go}.reached"))
    server.kill9()
    go.touch()
    out, err = running.communicate(timeout=120)
    assert running.returncode in (1, 5), out + err
    assert "Traceback" not in err
    server.start()
    is_whole(shop, old, 2)
    shop.promote()
    shop.expect(2)
    assert shop.leftovers() == []
