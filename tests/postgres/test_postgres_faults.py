"""Whatever dies, a target is old or new, and the same call again finishes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, Unreachable, WriteRefused
from seeknal_core.types import Mode, Resources
from seeknal_postgres import plugin
from support.postgres import PostgresServer
from support.postgres_hooks import Database

SMALL = pa.table({"id": [1], "v": ["old"]})
LARGE = pa.table({"id": range(400_000), "v": ["x" * 50] * 400_000})


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


def again(db: Database) -> tuple[Database, psycopg.Connection]:
    """Return the database after its server came back."""
    admin = psycopg.connect(autocommit=True, **db.dsn)  # type: ignore[arg-type]
    return Database(dsn=db.dsn, admin=admin, folder=db.folder, resources=Resources()), admin


def test_a_server_killed_in_the_middle_of_a_write_leaves_the_old_rows(
    own: tuple[PostgresServer, Database],
) -> None:
    server, db = own
    target = db.target("s.t", Mode.APPEND)
    db.write(target, SMALL)
    snapshot = db.snapshot(LARGE)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            plugin.materialize(db.context(), target, snapshot)
        except BaseException as error:  # noqa: BLE001 - looked at below
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    while not db.value("SELECT count(*) FROM pg_stat_progress_copy"):
        time.sleep(0.002)
    server.kill9()
    thread.join()
    assert [type(error) for error in failures] == [Unreachable]
    assert "run again" in str(failures[0])
    server.start()
    back, admin = again(db)
    with admin:
        assert back.rows("SELECT id, v FROM s.t") == [(1, "old")]
        context = back.context()
        assert plugin.materialize(context, target, snapshot).rows_after == 400_001
        assert plugin.materialize(context, target, snapshot).rows_written == 0
        back.resources.close()


_CHILD = """
import json, os, sys
from pathlib import Path
from support.postgres_hooks import Database
from support.contexts import snapshot_of
from seeknal_core.types import Mode, Resources
from seeknal_postgres import plugin
given = json.loads(os.environ["GIVEN"])
db = Database(dsn=given["dsn"], admin=None, folder=Path(given["folder"]), resources=Resources())
snapshot = snapshot_of(given["files"], content_key=given["key"])
plugin.materialize(db.context(), db.target("s.t", Mode(given["mode"])), snapshot)
"""


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND])
@pytest.mark.parametrize("existing", [False, True])
def test_a_client_killed_at_any_moment_leaves_old_or_new(
    db: Database, mode: Mode, existing: bool
) -> None:
    target = db.target("s.t", mode)
    if existing:
        db.write(target, SMALL)
    snapshot = db.snapshot(LARGE)
    given = {
        "dsn": dict(db.dsn), "folder": str(db.folder), "files": snapshot.files,
        "key": snapshot.content_key, "mode": mode.value,
    }  # fmt: skip
    kept = int(existing and mode is Mode.APPEND)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        env={
            **os.environ,
            "GIVEN": json.dumps(given),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        },
    )
    while not db.value("SELECT count(*) FROM pg_stat_progress_copy") and child.poll() is None:
        time.sleep(0.002)
    child.kill()
    child.wait()
    while db.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seeknal'") > 1:
        time.sleep(0.01)
    if existing:
        assert db.value("SELECT count(*) FROM s.t") in (1, 400_000 + kept)
    assert plugin.materialize(db.context(), target, snapshot).rows_after == 400_000 + kept
    assert plugin.materialize(db.context(), target, snapshot).rows_after == 400_000 + kept


def test_a_session_ended_by_the_servers_administrator_is_unreachable(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, SMALL)
    snapshot = db.snapshot(LARGE)

    def end() -> None:
        with psycopg.connect(autocommit=True, **db.dsn) as conn:  # type: ignore[arg-type]
            for _ in range(1000):
                found = conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_copy"
                ).fetchall()
                if found:
                    return
                time.sleep(0.002)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(Unreachable, match="run again"):
        plugin.materialize(db.context(), target, snapshot)
    thread.join()
    assert db.rows("SELECT id, v FROM s.t") == [(1, "old")]
    assert plugin.materialize(db.context(), target, snapshot).rows_after == 400_000


def test_a_snapshot_that_cannot_be_read_changes_nothing_and_ends(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, SMALL)
    snapshot = db.snapshot(LARGE)
    Path(snapshot.files[0]).write_bytes(b"PAR1 broken PAR1")
    with pytest.raises(pa.ArrowInvalid):
        plugin.materialize(db.context(), target, snapshot)
    assert db.rows("SELECT id, v FROM s.t") == [(1, "old")]
    assert not [thread for thread in threading.enumerate() if thread.name == "seeknal-encode"]


def test_a_trigger_that_objects_refuses_the_write_in_its_own_words(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, SMALL)
    db.execute(
        "CREATE FUNCTION s.no() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN RAISE EXCEPTION 'closed for the year'; END$$",
        "CREATE TRIGGER no BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.no()",
    )
    with pytest.raises(WriteRefused, match="closed for the year"):
        db.write(target, SMALL)
    assert db.rows("SELECT id, v FROM s.t") == [(1, "old")]


def test_a_deferred_constraint_speaks_before_the_commit(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, SMALL)
    db.execute("ALTER TABLE s.t ADD UNIQUE (v) DEFERRABLE INITIALLY DEFERRED")
    with pytest.raises(WriteRefused, match="unique"):
        db.write(target, pa.table({"id": [1, 2], "v": ["a", "a"]}))
    assert db.rows("SELECT id, v FROM s.t") == [(1, "old")]


def test_a_server_out_of_temporary_space_is_told_plainly(db: Database) -> None:
    db.execute(f"ALTER DATABASE {db.dsn['dbname']} SET temp_file_limit = '64kB'")
    try:
        context = db.context(resources=Resources())
        query = (
            "SELECT g, repeat('x', 100) AS t FROM generate_series(1, 300000) g ORDER BY t, g DESC"
        )
        with pytest.raises(BackendError, match="temporary file"):
            db.read(context=context, query=query)
        context.resources.close()
    finally:
        db.execute(f"ALTER DATABASE {db.dsn['dbname']} RESET temp_file_limit")
