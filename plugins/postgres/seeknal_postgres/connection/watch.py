"""Watches connections that wait for an answer.

A network may swallow an answer without closing anything; then a client waits until the
kernel gives up, or for ever. So long waits are watched: a second connection queries the server
for what the first one's session is doing. If the server has already answered, does not know the
session, or answers nobody, the connection is ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import psycopg

from seeknal_core.contract.types import redact

log = logging.getLogger("seeknal.postgres")

#: Seconds after which a wait is examined, at most.
_FIRST_LOOK = 10.0
#: Seconds that a session may be idle while its client still waits: an answer on its way.
_ON_ITS_WAY = 5.0


class Watched(psycopg.Connection[tuple[Any, ...]]):
    """A connection that records since when it has been waiting.

    ``server_pid`` is the server's process, 0 if a pooler stands between. ``lost``
    says why the watch ended the connection, empty if it didn't.
    """

    waiting_since: float | None = None
    looked_at: float = 0.0
    told: bool = False
    server_pid: int = 0
    lost: str = ""

    def wait(self, *given: Any, **named: Any) -> Any:
        """Wait as psycopg does; a connection that was given up says so."""
        self.waiting_since = time.monotonic()
        try:
            return super().wait(*given, **named)
        except psycopg.OperationalError as error:
            if self.lost:
                raise psycopg.OperationalError(self.lost) from error
            raise
        finally:
            self.waiting_since, self.told = None, False

    def give_up(self, reason: str) -> None:
        """End the connection from another thread: anybody who waits for it gets an error."""
        self.lost = reason
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self.fileno())) as doubled,
        ):
            doubled.shutdown(socket.SHUT_RDWR)


@attrs.frozen(kw_only=True)
class _Session:
    """The state of a session on the server. ``idle`` is how long it has been idle, in seconds."""

    idle: float | None
    event: str
    blockers: str


#: Ends sessions of ours that no client uses any more, with the locks that they hold.
END = """
SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE pid = ANY(%s) AND usename = session_user
  AND (state LIKE 'idle in transaction%%' OR wait_event_type = 'Client')
"""

_ASK = """
SELECT a.pid, CASE WHEN a.state LIKE 'idle%%'
    THEN extract(epoch FROM clock_timestamp() - a.state_change)::float8 END,
  coalesce(a.wait_event, ''),
  (SELECT string_agg(format('pid %%s (%%s)', b.pid,
      concat_ws(', ', b.usename, nullif(b.application_name, ''), b.state, left(b.query, 60))), '; ')
   FROM pg_catalog.pg_stat_activity b WHERE b.pid = ANY(pg_catalog.pg_blocking_pids(a.pid)))
FROM pg_catalog.pg_stat_activity a WHERE a.pid = ANY(%s)
"""


class Watch:
    """Watches connections in a separate thread, until it is stopped.

    Args:
        place: what messages call the server.
        probe: opens a further connection to the host of the one that is given.
        silence: seconds without any answer after which a connection is given up.
    """

    def __init__(self, place: str, probe: Callable[[Watched], Watched], silence: float) -> None:
        self._place = place
        self._probe = probe
        self._silence = silence
        self._first = min(_FIRST_LOOK, silence / 3)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._connections: list[Watched] = []
        self._thread: threading.Thread | None = None

    def add(self, conn: Watched) -> None:
        """Watch a connection until it is closed."""
        with self._lock:
            self._connections = [each for each in self._connections if not each.closed]
            self._connections.append(conn)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="seeknal-watch", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._first / 5):
            now = time.monotonic()
            with self._lock:
                waiting = [
                    conn
                    for conn in self._connections
                    if (since := conn.waiting_since) is not None
                    and now - max(since, conn.looked_at) >= self._first
                ]
            # The server is one for all of them.
            if waiting:
                self._look(waiting)

    def _look(self, waiting: list[Watched]) -> None:
        found, trouble = self._ask(waiting)
        for conn in waiting:
            since = conn.waiting_since
            if since is None:
                continue
            conn.looked_at = time.monotonic()
            waited = time.monotonic() - since
            if trouble:
                self._unanswered(conn, waited, trouble)
            elif found is not None and conn.server_pid:
                self._answered(conn, waited, found.get(conn.server_pid))

    def _unanswered(self, conn: Watched, waited: float, trouble: str) -> None:
        if waited >= self._silence:
            conn.give_up(f"no answer for {waited:.0f} s, nor to a new connection: {trouble}")
        elif not conn.told:
            conn.told = True
            log.warning(
                "%s has not answered for %.0f s, nor to a new connection; waiting up to %.0f s",
                self._place, waited, self._silence,
            )  # fmt: skip

    def _answered(self, conn: Watched, waited: float, session: _Session | None) -> None:
        if session is None:
            conn.give_up(f"no answer for {waited:.0f} s: the server has ended the session")
        elif session.idle is not None and session.idle > min(_ON_ITS_WAY, self._first):
            conn.give_up(f"no answer for {waited:.0f} s: the server's answer was lost on its way")
        elif session.event in ("ClientRead", "ClientWrite") and waited >= self._silence:
            conn.give_up(f"nothing has come through for {waited:.0f} s")
        elif session.blockers and not conn.told:
            conn.told = True
            log.warning(
                "%s: waiting for %.0f s for a lock held by %s",
                self._place, waited, redact(session.blockers),
            )  # fmt: skip

    def _ask(self, waiting: Iterable[Watched]) -> tuple[dict[int, _Session] | None, str]:
        """Query the server about the sessions; else return why it did not answer.

        If it answers, but refuses, nothing is known.
        """
        conns = list(waiting)
        late: threading.Timer | None = None
        try:
            with self._probe(conns[0]) as conn:
                late = threading.Timer(self._first, conn.give_up, ["no answer in time"])
                late.daemon = True
                late.start()
                known = [each.server_pid for each in conns if each.server_pid]
                if not known:
                    # A pooler lets a client in, and may let its statements wait for long.
                    return None, ""
                rows = conn.execute(_ASK, [known]).fetchall()
        except psycopg.Error as error:
            text = " ".join(str(error).split())
            # A server that refuses a connection with its own message is there.
            return None, "" if "FATAL" in text else redact(text)
        finally:
            if late is not None:
                late.cancel()
        return {
            pid: _Session(idle=idle, event=event, blockers=blockers or "")
            for pid, idle, event, blockers in rows
        }, ""
