"""A network that goes silent ends a command, with the truth about what was committed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import Unreachable, WriteRefused
from seeknal_core.types import ExecutionContext, Resources, Source
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import promotion
from support.silent_proxy import SilentProxy

ROWS = pa.table({"id": [1, 2], "name": ["a", "b"]})
QUICK = {"silence_timeout": 2, "connect_timeout": 2}


@pytest.fixture
def proxy(db: Database) -> Iterator[SilentProxy]:
    proxy = SilentProxy(int(str(db.dsn["port"])))
    yield proxy
    db.resources.close()
    proxy.stop()


def through(db: Database, proxy: SilentProxy) -> ExecutionContext:
    return db.context(options={**QUICK, "host": "127.0.0.1", "port": proxy.port})


def test_a_read_ends_when_the_network_goes_silent(db: Database, proxy: SilentProxy) -> None:
    db.execute("CREATE TABLE public.t AS SELECT generate_series(1, 10) AS a")
    query = "SELECT a, pg_sleep(0.2)::text FROM generate_series(1, 1000000) a"
    source = Source(node="source.s", type="postgresql", query=query)
    with plugin.read_source(through(db, proxy), source) as stream:
        proxy.silent.set()
        with pytest.raises(Unreachable, match="no answer"):
            stream.open().read_all()


def test_a_write_ends_when_the_network_goes_silent(db: Database, proxy: SilentProxy) -> None:
    context = through(db, proxy)
    db.write(db.target("s.t"), ROWS, context=context)
    proxy.silent.set()
    with pytest.raises(Unreachable, match=r"no answer|cannot connect"):
        db.write(db.target("s.u"), ROWS, context=context)


def test_a_commit_whose_answer_is_lost_was_finished(
    db: Database, proxy: SilentProxy, caplog: pytest.LogCaptureFixture
) -> None:
    context = through(db, proxy)
    db.write(db.target("s.t"), ROWS, context=context)
    proxy.swallow_answers_to = b"COMMIT\0"
    result = db.write(db.target("s.t"), ROWS.slice(1), context=context)
    assert result.rows_after == 1
    assert db.rows("SELECT id, name FROM s.t") == [(2, "b")]
    assert "it was finished" in caplog.text


def test_a_commit_that_never_arrived_is_said_to_be_not_finished(
    db: Database, proxy: SilentProxy
) -> None:
    context = through(db, proxy)
    db.write(db.target("s.t"), ROWS, context=context)
    proxy.swallow_from = b"COMMIT\0"
    with pytest.raises(Unreachable, match="not finished"):
        db.write(db.target("s.t"), ROWS.slice(1), context=context)
    assert db.value("SELECT count(*) FROM s.t") == 2
    # Nothing of it is left that would keep the table locked.
    proxy.swallow_from = b""
    assert db.write(db.target("s.t"), ROWS.slice(1), context=context).rows_after == 1


def test_a_publish_whose_answer_is_lost_was_finished(db: Database, proxy: SilentProxy) -> None:
    db.write(db.target("s.t"), ROWS)
    given = promotion(db, {"s.t": ROWS.slice(1)}, context=through(db, proxy)).stage()
    batch = given.batch(1)
    assert plugin.prepare_publish(given.context, batch)
    proxy.swallow_answers_to = b"COMMIT\0"
    published = plugin.publish(given.context, batch)
    assert published.targets[0].rows_after == 1
    proxy.swallow_answers_to = b""
    plugin.revert(given.context, batch, overwrite=False)
    assert db.value("SELECT count(*) FROM s.t") == 2


def test_who_holds_a_lock_is_said_while_it_is_waited_for(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    db.execute("CREATE TABLE public.t AS SELECT 1 AS a")
    caplog.set_level(logging.WARNING, "seeknal.postgres")
    with psycopg.connect(**db.dsn) as other:  # type: ignore[arg-type]
        other.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        threading.Timer(2.5, other.cancel_safe).start()
        pid = other.info.backend_pid
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(
                lambda: db.read(context=db.context(options=QUICK), parts=("t",)).to_pydict()
            )
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute("SELECT pg_sleep(30)")
            other.rollback()
            assert waits.result() == {"a": [1]}
    assert f"lock held by pid {pid}" in caplog.text


def limited(db: Database, limit: int) -> dict[str, object]:
    """Make a role that may have so many connections, and return its options."""
    db.execute(
        "DROP OWNED BY few"
        if db.rows("SELECT 1 FROM pg_roles WHERE rolname = 'few'")
        else "SELECT 1",
        "DROP ROLE IF EXISTS few",
        f"CREATE ROLE few LOGIN PASSWORD 'x' CONNECTION LIMIT {limit} IN ROLE pg_read_all_data",
    )
    return {"user": "few", "password": "x"}


def test_one_reader_needs_one_connection(db: Database) -> None:
    options = limited(db, 1)
    db.execute("CREATE TABLE public.t AS SELECT 1.5 AS a")
    context = db.context(options=options)
    assert db.read(context=context, parts=("t",)).num_rows == 1
    context.resources.close()
    db.execute("DROP OWNED BY few", "DROP ROLE few")


def test_six_sources_do_with_four_connections(db: Database) -> None:
    options = limited(db, 4)
    db.execute("CREATE TABLE public.t AS SELECT 1 AS a")
    context = db.context(options=options, resources=Resources())
    source = Source(node="s", type="postgresql", query="SELECT a, pg_sleep(0.3)::text AS b FROM t")

    def read(_: int) -> int:
        with plugin.read_source(context, source) as stream:
            return int(stream.open().read_all().num_rows)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(read, range(6))) == [1] * 6
    context.resources.close()
    db.execute("DROP OWNED BY few", "DROP ROLE few")


def test_a_session_that_was_given_up_keeps_no_lock(db: Database, proxy: SilentProxy) -> None:
    context = through(db, proxy)
    db.write(db.target("s.t"), ROWS, context=context)
    proxy.swallow_answers_to = b"LOCK TABLE"
    with pytest.raises(Unreachable, match="answer was lost"):
        db.write(db.target("s.t"), ROWS.slice(1), context=context)
    proxy.swallow_answers_to = b""
    assert db.write(db.target("s.t"), ROWS.slice(1), context=context).rows_after == 1


def test_who_keeps_a_table_from_being_written_is_said_meanwhile(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    db.write(db.target("s.t"), ROWS)
    caplog.set_level(logging.WARNING, "seeknal.postgres")
    with psycopg.connect(**db.dsn) as other:  # type: ignore[arg-type]
        other.execute("LOCK TABLE s.t IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(WriteRefused, match="stayed locked"):
            db.write(db.target("s.t"), ROWS, context=db.context(options={"lock_wait": 3}))
        assert f"s.t is locked by pid {other.info.backend_pid}" in caplog.text
        other.rollback()
