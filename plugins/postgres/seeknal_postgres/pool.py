"""One small pool of connections per profile connection and command."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import tenacity
from psycopg import errors as pg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from seeknal_core.errors import PluginError
from seeknal_core.types import ExecutionContext
from seeknal_postgres.connection import PostgresConnection
from seeknal_postgres.errors import connect_failure

if TYPE_CHECKING:
    from seeknal_postgres.arrow import ArrowConnection

#: The most connections one command holds to one server.
LIMIT = 8

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
        #: What `ledger.ensure` has seen to in this command, and what of it it made.
        self.done: set[str] = set()
        self.made: set[str] = set()
        #: What `tables.store_identity` has found out, empty until then.
        self.identity = ""
        self._release = release
        self._slots = threading.BoundedSemaphore(LIMIT)
        self._lock = threading.Lock()
        #: Idle connections, and when each was given back.
        self._idle: list[tuple[Conn, float]] = []
        #: Idle connections of ADBC, which reads to Arrow.
        self._readers: list[ArrowConnection] = []
        self._held: dict[str, tuple[Conn, ExitStack]] = {}

    @contextmanager
    def take(self, context: ExecutionContext) -> Iterator[Conn]:
        """Lend a connection outside a transaction; a user's stop cancels its query."""
        while not self._slots.acquire(timeout=0.5):
            context.cancellation.check()
        try:
            conn = self._checkout()
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

    def take_reader(self) -> ArrowConnection | None:
        """Return an idle connection of ADBC's, None where one has to be opened."""
        with self._lock:
            return self._readers.pop() if self._readers else None

    def give_reader(self, reader: ArrowConnection) -> None:
        """Keep a connection of ADBC's, outside a transaction, for the next who reads."""
        with self._lock:
            self._readers.append(reader)

    def close(self) -> None:
        """Roll back what is held, close what is idle; what is lent, when it comes back."""
        for key in list(self._held):
            self.let_go(key)
        with self._lock:
            idle, self._idle = self._idle, []
            readers, self._readers = self._readers, []
        for conn, _ in idle:
            conn.close()
        for reader in readers:
            reader.close()
        self._release()

    def _checkout(self) -> Conn:
        while True:
            with self._lock:
                conn, since = self._idle.pop() if self._idle else (None, 0.0)
            if conn is None:
                return self._connect()
            if time.monotonic() - since < _FRESH and not _has_word(conn):
                return conn
            try:
                conn.execute("SELECT 1")
                conn.rollback()
            except psycopg.Error:
                conn.close()
            else:
                return conn

    def _checkin(self, conn: Conn) -> None:
        if not conn.closed and conn.info.transaction_status is not TransactionStatus.IDLE:
            try:
                conn.rollback()
            except psycopg.Error:
                conn.close()
        if not conn.closed:
            with self._lock:
                self._idle.append((conn, time.monotonic()))

    def _connect(self) -> Conn:
        try:
            # Prepared statements and poolers between us and the server don't agree.
            conn: Conn = _patient(psycopg.connect, self.conninfo, prepare_threshold=None)
            conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            return conn
        except psycopg.Error as error:
            raise connect_failure(error, self.connection) from error


def _has_word(conn: Conn) -> bool:
    """Whether the server has sent something unasked: it does so when it ends a session."""
    waiting = select.poll()
    waiting.register(conn.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def _is_busy(error: BaseException) -> bool:
    """Whether a server refuses only for the moment: starting up, or too many clients.

    libpq gives no SQLSTATE for a failed log-in, only the server's words.
    """
    text = str(error)
    return isinstance(error, psycopg.OperationalError) and (
        isinstance(error, pg.CannotConnectNow | pg.TooManyConnections)
        or "the database system is starting up" in text
        or "too many clients already" in text
    )


_patient = tenacity.Retrying(
    retry=tenacity.retry_if_exception(_is_busy),
    stop=tenacity.stop_after_delay(10),
    wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
    reraise=True,
)


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
        from seeknal_postgres.embedded import ensure_server

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
    # Keepalives find a dead server within about a minute instead of two hours.
    words: dict[str, Any] = {
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "connect_timeout": connection.connect_timeout,
        "application_name": connection.application_name,
        "client_encoding": "UTF8",
        **dict(connection.settings),
        "host": connection.host,
        "port": connection.port,
        "user": connection.user,
        "password": connection.password.reveal() if connection.password else None,
        "dbname": connection.database,
    }
    return make_conninfo(base, **{key: value for key, value in words.items() if value is not None})
