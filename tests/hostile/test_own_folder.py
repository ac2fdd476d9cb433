"""``target/`` is Seeknal's own: no link is followed there, and nobody else reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from seeknal_core.contract.errors import StateError
from seeknal_core.engine.snapshots import SnapshotStore
from seeknal_core.files.own import check_target
from seeknal_core.project.readable import rights_warning
from seeknal_core.state.documents import remove_unfinished
from seeknal_core.state.locks import exclusive_lock
from support.cli import Cli, write

PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "seeknal/s.yml": "kind: source\nname: s\nsource: csv\ntable: a.csv\n",
    "seeknal/t.sql": "SELECT a + 1 AS a FROM source.s",
    "a.csv": "a\n1\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path / "p", PROJECT)
    write(tmp_path / "foreign", {"precious.txt": "precious", "dev/precious.txt": "precious"})
    return tmp_path / "p"


@pytest.fixture
def seeknal(project: Path) -> Cli:
    return Cli(cwd=project, warm=True)


def foreign(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


LINKS = [
    *("snapshots", "snapshots/tmp", "snapshots/aliases", "snapshots/ab", "snapshots/lock"),
    *("state", "state/environments", "state/environments/prod.lock", "state/id", "state/plans"),
    *("state/environments/prod.journal", "state/environments/prod.json"),
    *("tmp", "tmp/prod", "tmp/dev", "cache", "cache/nodes.json", "state/file-digests.json"),
    *("postgres", "postgres.lock", "postgres/password", "iceberg-writes/x/y", "another"),
]


@pytest.mark.parametrize("name", LINKS)
def test_no_command_follows_a_link_in_the_folder(project: Path, seeknal: Cli, name: str) -> None:
    beside = project.parent / "foreign"
    link = project / "target" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    is_file = "." in link.name or link.name in ("id", "lock", "password")
    link.symlink_to(beside / "precious.txt" if is_file else beside)
    before = foreign(beside)
    for command in (["run"], ["plan", "dev"], ["gc"], ["env", "list"], ["check"]):
        said = seeknal(*command, code=2).said
        assert f"target/{name} is a link to {beside}" in said
        assert f"rm {link}" in said
    assert foreign(beside) == before


def test_the_folder_itself_may_be_a_link_to_one_made_for_it(project: Path, seeknal: Cli) -> None:
    disk = project.parent / "disk"
    disk.mkdir()
    (project / "target").symlink_to(disk)
    seeknal("run")
    seeknal("run")
    assert (disk / "state").is_dir()
    said = seeknal("run", code=2, SEEKNAL_UNTRUSTED="1").said
    assert "is a link" in said and f"rm {project / 'target'}" in said


@pytest.mark.parametrize("where", ["foreign", ".", "p"])
def test_the_folder_may_not_be_a_link_to_somebodys_files(
    project: Path, seeknal: Cli, where: str
) -> None:
    (project / "target").symlink_to(project.parent / where)
    assert "holds other files than Seeknal's" in seeknal("run", code=2).said


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_what_is_written_is_closed_to_others(project: Path, seeknal: Cli, umask: int) -> None:
    before = os.umask(umask)
    try:
        for command in (["run"], ["plan", "dev"], ["run", "--env", "dev"], ["check"]):
            Cli(cwd=project)(*command)
    finally:
        os.umask(before)
    target = project / "target"
    found = [target, *target.rglob("*")]
    open_to_others = [
        f"{path} {stat.S_IMODE(path.stat().st_mode):o}"
        for path in found
        if path.stat().st_mode & 0o077
    ]
    assert len(found) > 12 and open_to_others == []


def test_an_older_folder_is_closed(project: Path) -> None:
    target = project / "target"
    (target / "state").mkdir(parents=True)
    target.chmod(0o775)
    check_target(project, untrusted=False)
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


def test_a_folder_that_a_group_shares_stays_shared(project: Path) -> None:
    target = project / "target"
    target.mkdir()
    target.chmod(0o2777)
    check_target(project, untrusted=False)
    assert stat.S_IMODE(target.stat().st_mode) == 0o2770


def test_only_names_of_our_own_making_are_removed(tmp_path: Path) -> None:
    root = tmp_path / "target" / "snapshots"
    write(root, {"tmp/notes/x.txt": "precious", "tmp/x.txt": "precious", "tmp/notes.lock": ""})
    stale = root / "tmp" / ("0" * 32)
    write(stale, {"data_0.parquet": "left by a killed process"})
    store = SnapshotStore(root)
    with store.staging():
        pass
    store.close()
    assert not stale.exists()
    assert foreign(root / "tmp").keys() == {
        str(root / "tmp" / name) for name in ("notes/x.txt", "x.txt", "notes.lock")
    }
    write(root, {".mine.tmp": "precious", ".dev.json.0123abcd.tmp": ""})
    assert remove_unfinished(root) == 1
    assert (root / ".mine.tmp").exists()


def test_a_lock_that_is_another_name_of_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"precious.txt": "precious"})
    os.link(tmp_path / "precious.txt", tmp_path / "dev.lock")
    with pytest.raises(StateError, match="another name"), exclusive_lock(tmp_path / "dev.lock", ""):
        pass
    assert (tmp_path / "precious.txt").read_text() == "precious"


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_in_place_of_a_lock_is_not_waited_for(
    project: Path, seeknal: Cli, kind: str
) -> None:
    path = project / "target/state/environments/prod.lock"
    path.parent.mkdir(parents=True)
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert f"cannot use {path}" in seeknal("run", code=1).said


# --- profiles and .env that others may read


@pytest.fixture
def shared() -> object:
    """A folder that everybody can reach, as ``/tmp`` is and pytest's folders are not."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize(
    ("mode", "password", "warned"),
    [
        (0o644, "hunter2", "other users may read it"),
        (0o644, "${PW}", ""),
        (0o600, "hunter2", ""),
        (0o602, "${PW}", "other users may write it"),
        (0o666, "hunter2", "other users may write it"),
    ],
)
def test_a_profile_that_others_may_read_or_write_is_warned_about(
    shared: Path, mode: int, password: str, warned: str
) -> None:
    connection = f"{{type: folder, path: lake, password: '{password}'}}"
    write(shared, {**PROJECT, "profiles.yml": f"connections:\n  lake: {connection}\n"})
    (shared / "profiles.yml").chmod(mode)
    said = Cli(cwd=shared, warm=True)("check", code=None, PW="x").said
    assert said.count("other users") == bool(warned)
    if warned:
        assert f"profiles.yml: {warned}" in said
        assert f"chmod {mode & 0o700:o} {shared / 'profiles.yml'}" in said


def test_an_env_file_that_others_may_read_is_warned_about(shared: Path) -> None:
    write(shared, {**PROJECT, ".env": "DB_PASSWORD=hunter2\n"})
    (shared / ".env").chmod(0o644)
    said = Cli(cwd=shared, warm=True)("check").said
    assert ".env: other users may read it" in said
    (shared / ".env").chmod(0o600)
    assert "other users" not in Cli(cwd=shared, warm=True)("check").said


def test_a_file_that_nobody_can_reach_is_not_warned_about(shared: Path) -> None:
    write(shared, {"closed/.env": ""})
    (shared / "closed/.env").chmod(0o666)
    (shared / "closed").chmod(0o700)
    assert rights_warning(shared / "closed/.env", ".env", secret=True) == ()
