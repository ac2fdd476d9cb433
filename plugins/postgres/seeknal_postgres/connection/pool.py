"""One small pool of connections per profile connection and command."""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from seeknal_core.contract.errors import PluginError
from seeknal_core.contract.types import ExecutionContext
from seeknal_postgres.connection.errors import connect_failure
from seeknal_postgres.connection.profile import PostgresConnection
from seeknal_postgres.connection.watch import END, Watch, Watched

#: The most connections one command holds to one server.
LIMIT = 8

log = logging.getLogger("seeknal.postgres")

#: Seconds after which the log says what the command waits for.
_TOLD_AFTER = 10.0

#: Seconds for which an idle connection is taken to be alive unless the server says otherwise.
_FRESH = 30.0

Conn = psycopg.Connection[tuple[Any, ...]]


class Pool:
    """Hands out connections, each to one thread at a time.

    psycopg_pool is not used here: it connects in the background, so that a wrong
    password would come out as a time-out.
    """

    def __init__(
        self,
        conninfo: str,
        connection: PostgresConnection,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.conninfo = conninfo
        self.connection = connection
        #: What `ledger.ensure` checked in this command, and what of it was created.
        self.done: set[str] = set()
        self.made: set[str] = set()
        #: What `tables.store_identity` has found out, empty until then.
        self.identity = ""
        self._release = release
        self._slots = threading.BoundedSemaphore(LIMIT)
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        #: Idle connections, and when each was given back.
        self._idle: list[tuple[Conn, float]] = []
        #: How many are lent, wanted and being opened; why the last could not be.
        self._lent = self._wanting = self._opening = 0
        self._failure: BaseException | None = None
        self._closed = False
        self._host: dict[str, str] = {}
        self._watch: Watch | None = None
        #: Connections that were opened, and perhaps lost since.
        self._all: list[Watched] = []
        self._held: dict[str, tuple[Conn, ExitStack]] = {}

    @contextmanager
    def take(self, context: ExecutionContext) -> Iterator[Conn]:
        """Lend a connection outside a transaction; a user's stop cancels its query."""
        while not self._slots.acquire(timeout=0.5):
            context.cancellation.check()
        try:
            conn = self._checkout(context)
            with self._ready:
                self._lent += 1
            remove = context.cancellation.on_request(lambda: _cancel(conn))
            try:
                yield conn
            finally:
                remove()
                self._checkin(conn)
        finally:
            self._slots.release()

    def hold(self, context: ExecutionContext, key: str) -> Conn:
        """Lend a connection, and the transaction it begins, until `let_go` of the key."""
        with ExitStack() as stack:
            conn = stack.enter_context(self.take(context))
            with self._lock:
                self._held[key] = (conn, stack.pop_all())
        return conn

    def held(self, key: str) -> Conn | None:
        """Return the connection that is held under a key."""
        with self._lock:
            found = self._held.get(key)
        return found[0] if found is not None else None

    def let_go(self, key: str) -> None:
        """Roll back what is held under a key, if anything, and take the connection back."""
        with self._lock:
            found = self._held.pop(key, None)
        if found is not None:
            found[1].close()

    def close(self) -> None:
        """Roll back held connections and close idle ones; lent ones close when they come back."""
        for key in list(self._held):
            self.let_go(key)
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for conn, _ in idle:
            conn.close()
        if self._watch is not None:
            self._watch.stop()
        self._release()

    def _checkout(self, context: ExecutionContext) -> Conn:
        while True:
            conn, since = self._next(context)
            if time.monotonic() - since < _FRESH and not _has_word(conn):
                return conn
            try:
                conn.execute("SELECT 1")
                conn.rollback()
            except psycopg.Error:
                conn.close()
            else:
                return conn

    def _next(self, context: ExecutionContext) -> tuple[Conn, float]:
        """Return a connection that was given back, or a new one: whichever is there first.

        A server or pooler without capacity lets a new one fail or wait, while others of this
        command come back.

        Raises:
            Unreachable: no connection can be had.
        """
        patience = Patience(self.connection)
        with self._ready:
            self._wanting += 1
            try:
                while True:
                    if self._idle:
                        return self._idle.pop()
                    failure, self._failure = self._failure, None
                    if failure is not None:
                        patience.after(failure, others=bool(self._lent))
                    elif self._opening < self._wanting:
                        self._open()
                    self._ready.wait(patience.pause)
                    context.cancellation.check()
            finally:
                self._wanting -= 1

    def _open(self) -> None:
        """Open a connection in the background, and put it with those that are idle."""
        self._opening += 1
        threading.Thread(target=self._opened, name="seeknal-connect", daemon=True).start()

    def _opened(self) -> None:
        conn: Watched | None = None
        failure: BaseException | None = None
        try:
            conn = self._connect()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            failure = error
        with self._ready:
            self._opening -= 1
            if conn is not None and not self._closed:
                self._idle.append((conn, time.monotonic()))
                conn = None
            if failure is not None:
                self._host = {}
            self._failure = failure if self._wanting else None
            self._ready.notify_all()
        if conn is not None:
            conn.close()

    def _checkin(self, conn: Conn) -> None:
        if not conn.closed and conn.info.transaction_status is not TransactionStatus.IDLE:
            try:
                conn.rollback()
            except psycopg.Error:
                conn.close()
        with self._ready:
            self._lent -= 1
            if not conn.closed:
                self._idle.append((conn, time.monotonic()))
            self._ready.notify_all()

    def _connect(self) -> Watched:
        conn = _log_in(self.conninfo, self._host)
        self._watched(conn)
        row: Any = conn.execute("SELECT pg_backend_pid()").fetchone()
        conn.server_pid = row[0] if row[0] == conn.info.backend_pid else 0
        self._end_lost(conn)
        conn.autocommit = False
        conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        # A multi-host URL leads elsewhere the next time; one command stays where it is.
        self._host = _host_of(conn)
        return conn

    def _end_lost(self, conn: Watched) -> None:
        """End sessions whose connections were given up: they may hold locks."""
        with self._ready:
            lost = [each.server_pid for each in self._all if each.lost and each.server_pid]
            self._all = [each for each in self._all if not each.closed]
        if lost:
            conn.execute(END, [lost])

    def _watched(self, conn: Watched) -> None:
        with self._ready:
            self._all.append(conn)
            if self._watch is None:
                silence = self.connection.silence_timeout
                self._watch = Watch(self.connection.place, self._probe, silence)
        self._watch.add(conn)

    def _probe(self, stuck: Watched) -> Watched:
        return _log_in(self.conninfo, _host_of(stuck))


def _log_in(conninfo: str, host: Mapping[str, str]) -> Watched:
    """Open a connection in autocommit mode.

    Args:
        host: ``host`` and ``port`` where one of several has been chosen.

    Raises:
        psycopg.Error: the driver's, which may hold secrets.
    """
    # Prepared statements and poolers between us and the server don't agree.
    return Watched.connect(make_conninfo(conninfo, **host), prepare_threshold=None, autocommit=True)


def _host_of(conn: Watched) -> dict[str, str]:
    found = {"host": conn.info.host, "port": str(conn.info.port)}
    if "hostaddr" in conn.info.get_parameters():
        found["hostaddr"] = conn.info.hostaddr
    return found


class Patience:
    """How long a connection is waited for, and what is said meanwhile."""

    #: Seconds between tries.
    pause = 0.2

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._begun = time.monotonic()
        self._told = False

    def after(self, failure: BaseException, *, others: bool) -> None:
        """Keep waiting after a try that failed, or raise.

        Args:
            others: whether connections of this command are in use, which come back.
        """
        if not isinstance(failure, psycopg.Error):
            raise failure
        waited = time.monotonic() - self._begun
        bound = self._connection.lock_wait if others else min(10, self._connection.lock_wait)
        if not _is_busy(failure) or waited > bound:
            raise connect_failure(failure, self._connection) from failure
        self.pause = min(2 * self.pause, 1.0)
        if waited > _TOLD_AFTER and not self._told:
            self._told = True
            log.warning(
                "%s has no room for another connection; waiting up to %s s",
                self._connection.place, bound,
            )  # fmt: skip


def _has_word(conn: Conn) -> bool:
    """Whether the server has sent something unasked: it does so when it ends a session."""
    waiting = select.poll()
    waiting.register(conn.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def _is_busy(error: BaseException) -> bool:
    """Whether a server refuses only for the moment: starting up, or too many clients.

    libpq gives no SQLSTATE for a failed log-in, only the server's message.
    """
    text = str(error)
    return isinstance(error, psycopg.OperationalError) and (
        isinstance(error, pg.CannotConnectNow | pg.TooManyConnections)
        or any(word in text for word in _BUSY)
    )


#: The last two are pgbouncer's.
_BUSY = (
    "the database system is starting up", "too many clients already", "too many connections for",
    "remaining connection slots are reserved", "no more connections allowed",
    "query_wait_timeout",
)  # fmt: skip


def _cancel(conn: Conn) -> None:
    """Cancel what `conn` is doing, without waiting for the server's answer."""

    def send() -> None:
        # A connection that ends meanwhile needs no cancelling.
        try:
            conn.cancel_safe(timeout=3)
        except psycopg.Error:
            return

    threading.Thread(target=send, name="seeknal-cancel", daemon=True).start()


def connection_of(context: ExecutionContext) -> PostgresConnection:
    """Return the call's connection, which the dispatcher resolved by this backend."""
    if not isinstance(context.connection, PostgresConnection):
        raise PluginError("a PostgreSQL hook was called without its connection")
    return context.connection


def pool_of(context: ExecutionContext) -> Pool:
    """Return the command's pool for the call's connection, opening it first if need be."""
    connection = connection_of(context)

    def open() -> Pool:
        if not connection.embedded:
            return Pool(_conninfo(connection), connection)
        from seeknal_postgres.connection.embedded.server import ensure_server

        server = ensure_server(context.target_dir, context.project_root)
        there = attrs.evolve(
            connection,
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            database=server.database,
        )
        return Pool(_conninfo(there), connection, server.release)

    return context.resources.get(("postgres", connection), open, Pool.close)


def _conninfo(connection: PostgresConnection) -> str:
    base = connection.url.reveal() if connection.url else ""
    # A dead server or network is found within about a minute instead of two hours.
    defaults = {
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 1000 * connection.silence_timeout,
    }
    words: dict[str, Any] = {
        **defaults,
        **conninfo_to_dict(base),
        "connect_timeout": connection.connect_timeout,
        "application_name": connection.application_name,
        "client_encoding": "UTF8",
        **dict(connection.settings),
    }
    own = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.user,
        "password": connection.password.reveal() if connection.password else None,
        "dbname": connection.database,
    }
    words |= {key: value for key, value in own.items() if value is not None}
    return make_conninfo("", **words)
