"""Whatever dies during a promotion, the same calls again end in all of it or in none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import StaleStage, Unreachable, WriteRefused
from seeknal_core.types import Batch, Mode, Resources, Target
from seeknal_postgres import plugin
from support.contexts import snapshot_of
from support.postgres import PostgresServer
from support.postgres_hooks import Database
from support.postgres_promotions import (
    Promotion,
    contents,
    everything,
    leftovers,
    promotion,
    target_of,
)

OLD = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
NEW = pa.table({"id": [2, 3, 4], "name": ["b", "C", "d"]})
WIDE = NEW.append_column("more", pa.array([1, 2, 3]))
STEPS = ("stage", "prepare", "publish", "revert", "discard")


def targets(db: Database) -> list[tuple[Target, pa.Table]]:
    """Return a batch of all kinds."""
    return [
        (target_of(db, "s.whole"), WIDE),
        (target_of(db, "s.keyed", unique_keys=("id",)), NEW),
        (target_of(db, "s.added", mode=Mode.APPEND), NEW),
        (target_of(db, "new.made"), NEW),
    ]


def prepared(db: Database) -> Promotion:
    """Write the old rows and return the promotion of the new ones, not staged."""
    for target, _ in targets(db)[:3]:
        db.write(target, OLD)
    return Promotion(
        db=db,
        context=db.context(),
        wanted=tuple((target, db.snapshot(rows)) for target, rows in targets(db)),
    )


# Kills itself when it has sent its n-th statement, counted over all connections.
_CHILD = """
import json, os, signal, sys
from pathlib import Path
import psycopg
given = json.loads(os.environ["GIVEN"])
sys.path.insert(0, given["tests"])
count = 0
def counted(call):
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if count == given["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped
for name in ("execute", "commit", "rollback"):
    setattr(psycopg.Connection, name, counted(getattr(psycopg.Connection, name)))
from seeknal_core.types import Resources
from seeknal_postgres import plugin
from postgres.test_postgres_promotion_faults import one_of
from support.postgres_hooks import Database
db = Database(dsn=given["dsn"], admin=None, folder=Path(given["folder"]), resources=Resources())
one = one_of(db, given["snapshots"])
for step in given["steps"]:
    if step == "stage":
        one = one.stage()
        batch = one.batch(1)
    elif step == "prepare":
        plugin.prepare_publish(one.context, batch)
    elif step == "publish":
        plugin.publish(one.context, batch)
    elif step == "revert":
        plugin.revert(one.context, batch, False)
    else:
        plugin.discard(one.context, batch)
    print(step, count, flush=True)
"""


def one_of(db: Database, snapshots: list[dict[str, Any]]) -> Promotion:
    """Make the promotion again from the files of its snapshots."""
    return Promotion(
        db=db,
        context=db.context(),
        wanted=tuple(
            (target, snapshot_of(given["files"], content_key=given["content_key"]))
            for (target, _), given in zip(targets(db), snapshots, strict=True)
        ),
    )


def run_child(one: Promotion, steps: tuple[str, ...], kill: int = -1) -> subprocess.Popen[str]:
    given = {
        "dsn": dict(one.db.dsn),
        "folder": str(one.db.folder),
        "tests": str(Path(__file__).parents[1]),
        "snapshots": [{"files": s.files, "content_key": s.content_key} for _, s in one.wanted],
        "kill": kill,
        "steps": steps,
    }
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        env={**os.environ, "GIVEN": json.dumps(given)},
        stdout=subprocess.PIPE,
        text=True,
    )


def counts(child: subprocess.Popen[str]) -> dict[str, int]:
    """Wait for a child; return the statements sent by the end of each step."""
    out, _ = child.communicate(timeout=120)
    return {line.split()[0]: int(line.split()[1]) for line in out.splitlines()}


def test_a_client_killed_at_any_statement_leaves_all_or_nothing(db: Database) -> None:
    one = prepared(db)
    old = everything(db)
    whole = counts(run_child(one, STEPS))
    assert list(whole) == list(STEPS)
    assert everything(db) == old
    staged = one.stage()
    batch = staged.batch(1)
    plugin.publish(one.context, batch)
    new = contents(db)
    plugin.revert(one.context, batch, False)
    plugin.discard(one.context, batch)
    total = whole["discard"]
    for kill in sorted({*range(3, total, max(1, total // 15)), whole["publish"], total}):
        assert everything(db) == old
        child = run_child(one, STEPS, kill)
        child.communicate(timeout=120)
        assert child.returncode == -signal.SIGKILL
        # Seen from outside, between all of it and none of it there is nothing.
        assert contents(db) in (old["rows"], new), kill
        # The way back, by what the journal knows: the batch as it was before staging.
        plugin.revert(one.context, batch, False)
        plugin.discard(one.context, one.unstaged().batch(1))
        assert everything(db) == old, kill
        assert leftovers(db) == []
    # And the way on.
    for kill in range(whole["stage"] + 2, whole["publish"], 12):
        child = run_child(one, STEPS[:3], kill)
        child.communicate(timeout=120)
        # Only `stage` knows what it staged; a journal has it from then on.
        published = plugin.publish(one.context, batch_like(one, batch))
        assert contents(db) == new, kill
        assert plugin.publish(one.context, batch_like(one, batch)) == published
        plugin.revert(one.context, batch, False)
        plugin.discard(one.context, batch)
    assert everything(db) == old


def batch_like(one: Promotion, batch: Batch) -> Batch:
    """Return the batch with the versions that the targets have now, as if just staged."""
    found = []
    for target in batch.targets:
        assert target.staged is not None
        state = plugin.inspect_target(one.context, attrs.evolve(target, staged=None))
        staged = attrs.evolve(target.staged, base=state.version)
        found.append(attrs.evolve(target, staged=staged))
    return attrs.evolve(batch, targets=tuple(found))


SLOW = (
    "CREATE FUNCTION s.slow() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN PERFORM pg_sleep(4); RETURN NULL; END'",
    "CREATE TRIGGER slow AFTER INSERT ON s.whole FOR EACH STATEMENT EXECUTE FUNCTION s.slow()",
)


@pytest.mark.parametrize("then", ["revert", "discard", "publish", "stage"])
def test_what_the_server_still_does_for_a_killed_client_is_waited_for(
    db: Database, then: str
) -> None:
    one = prepared(db)
    wanted = [pair for pair in one.wanted if "whole" not in pair[0].key]
    db.execute(*SLOW)
    one = attrs.evolve(one, wanted=((target_of(db, "s.whole"), db.snapshot(NEW)), *wanted)).stage()
    batch = one.batch()
    before = everything(db)
    child = subprocess.Popen(
        [sys.executable, "-c", _PUBLISHER],
        env={**os.environ, "GIVEN": json.dumps(given_batch(db, batch))},
    )
    while not db.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert db.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == 1
    db.execute("ALTER FUNCTION s.slow() RENAME TO slow_")
    if then == "publish":
        plugin.publish(one.context, batch)
        assert db.value("SELECT count(*) FROM s.whole WHERE name = 'C'") == 1
        return
    if then == "stage":
        one.stage().verify()
    elif then == "revert":
        assert plugin.revert(one.context, batch, False) is False
    plugin.discard(one.context, batch)
    assert contents(db) == before["rows"]
    assert leftovers(db) == []


_PUBLISHER = """
import json, os, sys
from pathlib import Path
given = json.loads(os.environ["GIVEN"])
sys.path.insert(0, given["tests"])
from seeknal_core.types import Batch, Resources, Staged
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import target_of
from seeknal_core.types import Mode
import attrs
db = Database(dsn=given["dsn"], admin=None, folder=Path(given["folder"]), resources=Resources())
targets = tuple(
    attrs.evolve(
        target_of(db, t["table"], mode=Mode(t["mode"]), unique_keys=tuple(t["unique_keys"])),
        staged=Staged(**t["staged"]),
    )
    for t in given["targets"]
)
batch = Batch(
    promotion=given["promotion"], generation=given["generation"], targets=targets,
    content_keys=given["content_keys"],
)
plugin.publish(db.context(), batch)
"""


def given_batch(db: Database, batch: Batch) -> dict[str, Any]:
    return {
        "dsn": dict(db.dsn),
        "folder": str(db.folder),
        "tests": str(Path(__file__).parents[1]),
        "promotion": batch.promotion,
        "generation": batch.generation,
        "content_keys": dict(batch.content_keys),
        "targets": [
            {
                "table": target.key.rpartition(":")[2],
                "mode": target.mode.value,
                "unique_keys": list(target.unique_keys),
                "staged": attrs.asdict(target.staged) if target.staged else None,
            }
            for target in batch.targets
        ],
    }


@pytest.mark.parametrize("then", ["stage", "discard"])
def test_a_staging_that_is_under_way_elsewhere_is_waited_for(db: Database, then: str) -> None:
    db.execute(
        "CREATE SCHEMA s",
        "CREATE FUNCTION s.slowly(int) RETURNS boolean LANGUAGE sql"
        " AS 'SELECT pg_sleep(0.5) IS NOT NULL'",
        "CREATE DOMAIN s.slow AS int CHECK (s.slowly(VALUE))",
        "CREATE TABLE s.t (id s.slow)",
    )
    context = db.context(adopt=True)
    one = promotion(db, {"s.t": pa.table({"id": pa.array([1, 2], pa.int32())})}, context=context)
    elsewhere = attrs.evolve(one, context=db.context(adopt=True, resources=Resources()))
    thread = threading.Thread(target=elsewhere.stage)
    thread.start()
    while not db.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
        time.sleep(0.01)
    if then == "stage":
        one.stage().verify()
        thread.join()
        assert len(leftovers(db)) == 2
    else:
        plugin.discard(context, one.batch(1))
        thread.join()
        assert leftovers(db) == []
    plugin.discard(context, one.batch(1))
    assert leftovers(db) == []
    elsewhere.context.resources.close()


@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.parametrize("then", ["publish", "revert"])
def test_a_publish_that_is_under_way_elsewhere_is_waited_for_and_tells_the_truth(
    db: Database, then: str, commits: bool
) -> None:
    one = prepared(db).stage()
    batch = one.batch()
    old = everything(db)
    elsewhere = db.context(resources=Resources())
    assert plugin.prepare_publish(elsewhere, batch)
    results: list[object] = []

    def call() -> None:
        if then == "publish":
            results.append(plugin.publish(one.context, batch))
        else:
            results.append(plugin.revert(one.context, batch, False))

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.7)
    assert thread.is_alive()
    published = plugin.publish(elsewhere, batch) if commits else None
    elsewhere.resources.close()
    thread.join()
    if then == "revert":
        assert results == [commits]
        assert contents(db) == old["rows"]
        with pytest.raises(StaleStage):
            plugin.publish(one.context, batch)
    else:
        assert contents(db) != old["rows"]
        if commits:
            assert results == [published]


def test_a_lock_that_is_not_let_go_is_named_by_every_hook(db: Database) -> None:
    context = db.context(options={"lock_wait": 1})
    one = attrs.evolve(prepared(db), context=context).stage()
    batch = one.batch()
    plugin.publish(context, batch)
    with psycopg.connect(**db.dsn, application_name="a report") as other:  # type: ignore[arg-type]
        other.execute("SELECT * FROM s.whole")  # a column of it has to go
        with pytest.raises(WriteRefused, match=r"s\.whole .*a report"):
            plugin.revert(context, batch, False)
    assert plugin.revert(context, batch, False)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[PostgresServer, Database]]:
    """A server of the test's own, to be killed, and a database in it."""
    server = PostgresServer(fsync=True)
    resources = Resources()
    try:
        server.start()
        dsn = server.create_database()
        with psycopg.connect(autocommit=True, **dsn) as admin:  # type: ignore[arg-type]
            yield server, Database(dsn=dsn, admin=admin, folder=tmp_path, resources=resources)
            resources.close()
    finally:
        server.stop()


def alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another account's
        return True
    return True


def kill(server: PostgresServer, db: Database) -> None:
    """Kill the server, and wait for the processes that it leaves behind."""
    left = [pid for (pid,) in db.rows("SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL")]
    server.kill9()
    while any(alive(pid) for pid in left):
        time.sleep(0.01)


@pytest.mark.parametrize("on", [False, True])
def test_a_server_killed_between_prepare_and_publish_has_published_nothing(
    own: tuple[PostgresServer, Database], on: bool
) -> None:
    server, db = own
    one = prepared(db).stage()
    batch = one.batch()
    before = everything(db)
    assert plugin.prepare_publish(one.context, batch)
    kill(server, db)
    with pytest.raises(Unreachable):
        plugin.publish(one.context, batch)
    with pytest.raises(Unreachable):
        plugin.publish(one.context, batch)
    server.start()
    with psycopg.connect(autocommit=True, **db.dsn) as admin:  # type: ignore[arg-type]
        back = attrs.evolve(db, admin=admin)
        assert everything(back) == before
        if on:
            # What was staged survived, in the same process as well.
            published = plugin.publish(one.context, batch)
            assert contents(back) != before["rows"]
            kill(server, back)
            server.start()
            assert plugin.publish(one.context, batch) == published
            with psycopg.connect(autocommit=True, **db.dsn) as admin:  # type: ignore[arg-type]
                assert plugin.revert(one.context, batch, False)
                plugin.discard(one.context, batch)
                assert everything(attrs.evolve(db, admin=admin)) == before
        else:
            assert plugin.revert(one.context, batch, False) is False
            plugin.discard(one.context, batch)
            assert everything(back) == before
            assert leftovers(back) == []


@pytest.mark.parametrize("when", ["prepared", "publishing"])
def test_a_connection_that_is_ended_is_unreachable_and_the_same_call_publishes(
    db: Database, when: str
) -> None:
    one = prepared(db).stage()
    batch = one.batch()
    assert plugin.prepare_publish(one.context, batch)
    ended = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE {}"
    assert db.value(ended.format("state = 'idle in transaction'")) == 1
    if when == "prepared":
        assert plugin.prepare_publish(one.context, batch)
    else:
        with pytest.raises(Unreachable):
            plugin.publish(one.context, batch)
    plugin.publish(one.context, batch)
    assert db.value("SELECT count(*) FROM new.made") == 3


def test_a_publish_waits_longer_than_the_role_may_be_idle(db: Database) -> None:
    db.execute(
        f"ALTER DATABASE {db.dsn['dbname']} SET idle_in_transaction_session_timeout = '200ms'"
    )
    try:
        context = db.context(resources=Resources())
        one = attrs.evolve(prepared(db), context=context).stage()
        batch = one.batch()
        assert plugin.prepare_publish(context, batch)
        time.sleep(0.6)
        plugin.publish(context, batch)
        context.resources.close()
    finally:
        db.execute(f"ALTER DATABASE {db.dsn['dbname']} RESET idle_in_transaction_session_timeout")
