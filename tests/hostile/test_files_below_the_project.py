"""A project reads the files below it, and others only where its file allows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from seeknal_core.contract.errors import ConfigError, EngineError
from seeknal_core.engine.files.find import resolve_files
from seeknal_core.project.places import Closed, Places
from seeknal_core.project.specs import SourceNode
from support.cli import Cli, write
from support.engines import HERE, Lab, open_lab, rows

SECRET = "a,b\nvery,s3cret\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a file beside it that holds a secret, and links of all kinds."""
    root = tmp_path / "p"
    write(
        tmp_path,
        {
            "p/seeknal_project.yml": "name: shop\n",
            "p/data/a.csv": "a,b\n1,2\n",
            "p/.env": "TOKEN=s3cret\n",
            "p/.env.local": "TOKEN=s3cret\n",
            "p/profiles.yml": "connections: {}\n",
            "p/conf/profiles-prod.yml": "connections: {}\n",
            "p/.git/config": SECRET,
            "p/target/snapshots/ab/abcd/data_0.csv": SECRET,
            "beside/x.csv": SECRET,
            "secrets/x.csv": SECRET,
            "secrets/.env": SECRET,
        },
    )
    (root / "data/file.csv").symlink_to(tmp_path / "beside/x.csv")
    (root / "data/folder").symlink_to(tmp_path / "beside")
    (root / "data/env.csv").symlink_to(root / ".env")
    (root / "data/process.csv").symlink_to("/proc/self/environ")
    (root / "data/inside.csv").symlink_to("a.csv")
    return root


def source(table: str, **params: object) -> SourceNode:
    return SourceNode(name="s", location=HERE, type="csv", table=table, params=params)


def named(root: Path, table: str, places: Places | None = None) -> tuple[str, ...]:
    return resolve_files(source(table), root, root, places=places).labels


#: What a source names, what is said of it, and what may be written to allow it ("" if nothing).
REFUSED = {
    "absolute": ("/etc/passwd", "outside", "[/etc/passwd]"),
    "absent": ("/nowhere/x.csv", "outside", "[/nowhere]"),
    "file scheme": ("file:///etc/passwd", "outside", "[/etc/passwd]"),
    "above": ("../beside/x.csv", "outside", "[../beside]"),
    "above from a folder": ("data/../../beside/x.csv", "outside", "beside]"),
    "through a link and up": ("data/folder/../secrets/x.csv", "outside", "secrets/x.csv]"),
    "beside secrets": ("../secrets/x.csv", "outside", "[../secrets/x.csv]"),
    "a folder of secrets": ("../secrets/*.csv", "outside", ""),
    "the parent": ("../*/x.csv", "outside", ""),
    "home": ("~/x.csv", "outside", "x.csv]"),
    "secrets of the home": ("~/.netrc", "secrets", ""),
    "keys of the home": ("~/.aws/credentials", "secrets", ""),
    "another's home": ("~root/.ssh/id_rsa", "secrets", ""),
    "link to a file": ("data/file.csv", "outside", "beside]"),
    "link to a folder": ("data/folder/x.csv", "outside", "beside]"),
    "glob of a link": ("data/f*.csv", "outside", "beside]"),
    "glob of a linked folder": ("data/f*/*.csv", "outside", "beside]"),
    "deep glob": ("data/**/x.csv", "outside", "beside]"),
    "link to .env": ("data/env.csv", "secrets", ""),
    "glob of a link to .env": ("data/e*.csv", "secrets", ""),
    "variables of the process": ("data/process.csv", "operating system", ""),
    "variables by name": ("/proc/self/environ", "operating system", ""),
    "a device": ("/dev/stdin", "operating system", ""),
    ".env": (".env", "secrets", ""),
    "a second .env": (".env.local", "secrets", ""),
    "glob of .env": (".env*", "secrets", ""),
    "the profile": ("profiles.yml", "secrets", ""),
    "glob of the profile": ("prof*", "secrets", ""),
    "a profile elsewhere": ("conf/profiles-prod.yml", "secrets", ""),
    ".git": (".git/config", "secrets", ""),
    "glob of .git": (".g*/config", "secrets", ""),
    "snapshots": ("target/snapshots/ab/abcd/data_0.csv", "Seeknal's own", ""),
    "glob of snapshots": ("target/**/*.csv", "Seeknal's own", ""),
}


@pytest.mark.parametrize(("table", "what", "line"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_elsewhere_is_refused_with_the_line_that_allows_it(
    root: Path, table: str, what: str, line: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        named(root, table)
    said = str(caught.value)
    assert what in said
    assert ("files: {allow: [" in said) == bool(line)
    assert line in said
    assert ".env" not in said.partition("allow:")[2]
    assert "s3cret" not in said


def test_what_lies_below_is_read_through_links_too(root: Path) -> None:
    assert named(root, "data/inside.csv") == ("data/inside.csv",)
    assert named(root, "data/[ai]*.csv") == ("data/a.csv", "data/inside.csv")
    assert named(root, str(root / "data/a.csv")) == ("data/a.csv",)
    assert named(root, "data/../data/a.csv") == ("data/a.csv",)


def test_a_glob_passes_over_the_folder_of_seeknal(root: Path) -> None:
    for link in ("file.csv", "folder", "env.csv", "process.csv"):
        (root / "data" / link).unlink()
    assert named(root, "**/*.csv") == ("data/a.csv", "data/inside.csv")
    with pytest.raises(EngineError, match="no file matches"):
        named(root, "*/**/*_0.csv")


def test_links_that_lead_round_in_circles_end(root: Path) -> None:
    for number in range(12):
        folder = root / "loops" / f"d{number}"
        folder.mkdir(parents=True)
        for other in range(12):
            (folder / f"l{other}").symlink_to(f"../d{other}")
    write(root, {"loops/d0/x.csv": "a\n1\n"})
    assert named(root, "loops/**/*.csv") == ("loops/d0/x.csv",)


def test_an_allowed_folder_is_read_and_its_secrets_are_not(root: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(tmp_path / "beside")
    for allow in (tmp_path / "beside", tmp_path / "way", tmp_path / "beside/x.csv"):
        places = Places.of(root, [str(allow)])
        tables = ["../beside/x.csv", "data/file.csv"]
        tables += ["data/folder/*.csv", "../beside/*.csv"] if allow.is_dir() else []
        for table in tables:
            assert len(named(root, table, places)) == 1
    everything = Places.of(root, ["/"])
    assert len(named(root, "../secrets/x.csv", everything)) == 1
    for table in ("../secrets/.env", "../secrets/.e*", ".git/config", "/proc/self/environ"):
        with pytest.raises(ConfigError, match="never read"):
            named(root, table, everything)


def test_a_second_name_of_a_secret_file_is_refused(root: Path) -> None:
    os.link(root / ".env", root / "data/hard.csv")
    with pytest.raises(Closed, match=r"another name of \.env"):
        Places.of(root).open(root / "data/hard.csv")


def test_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "data/pipe.csv")
    with pytest.raises(EngineError, match="it is a pipe, not a file"):
        named(root, "data/pipe.csv")


@pytest.fixture
def lab(root: Path) -> Iterator[Lab]:
    with open_lab(root) as opened:
        yield opened


@pytest.mark.parametrize("moment", ["before it is opened", "while it is read"])
def test_a_link_put_in_place_of_a_checked_file_is_not_read(
    root: Path, lab: Lab, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, {"swap/data.csv": "a,b\n1,2\n"})
    write(tmp_path, {"beside2/data.csv": SECRET})
    node = source("swap/data.csv")
    found = resolve_files(node, root, root)

    def swap(*_: object) -> None:
        os.rename(root / "swap", root / "away")
        os.symlink(tmp_path / "beside2", root / "swap")

    if moment == "before it is opened":
        swap()
    else:
        monkeypatch.setattr("seeknal_core.engine.sources.load._check_space", swap)
    with lab.store.staging() as staging:
        if moment == "before it is opened":
            with pytest.raises(EngineError, match=r"data\.csv: lies outside of the project"):
                lab.engine.read_files(node, found, staging)
            return
        lab.engine.read_files(node, found, staging)
        assert rows(lab.keep(staging, "source.s")) == [{"a": 1, "b": 2}]


# --- the commands

NODE = "kind: source\nname: s\nsource: csv\ntable: {table}\n"


def project(folder: Path, files: dict[str, str], table: str = "../beside/x.csv") -> Cli:
    write(
        folder,
        {
            "p/seeknal_project.yml": "name: shop\n",
            "p/seeknal/s.yml": NODE.format(table=table),
            "beside/x.csv": SECRET,
            **files,
        },
    )
    return Cli(cwd=folder / "p", environ={"HOME": str(folder / "home")}, warm=True)


def test_every_command_refuses_and_prints_the_line_that_works(tmp_path: Path) -> None:
    seeknal = project(tmp_path, {})
    for command in (["check"], ["run"], ["run", "--dry-run"], ["plan", "dev"]):
        said = seeknal(*command, code=2).said
        assert "seeknal/s.yml:1:1: source.s: ../beside/x.csv lies outside of the project" in said
        line = "files: {allow: [../beside]}"
        assert line in said
    assert not (tmp_path / "p/target/snapshots").exists()
    write(tmp_path, {"p/seeknal_project.yml": f"name: shop\n{line}\n"})
    assert seeknal("check").code == 0
    assert seeknal("run").code == 0


def test_a_profile_may_allow_a_folder(tmp_path: Path) -> None:
    seeknal = project(tmp_path, {"conf/x.yml": "files: {allow: [../beside]}\n"})
    assert seeknal("run", "--profile", "../conf/x.yml").code == 0
    seeknal("run", "--env", "dev", code=2)


def test_secrets_cannot_be_allowed(tmp_path: Path) -> None:
    files = {
        "p/seeknal_project.yml": "name: shop\nfiles: {allow: [.env, ../beside/profiles.yml]}\n"
    }
    said = project(tmp_path, files)("check", code=2).said
    assert "seeknal_project.yml:2:17: files.allow[0]: .env is a file for secrets" in said
    assert "files.allow[1]" in said


def test_an_untrusted_project_cannot_allow_itself_a_folder(tmp_path: Path) -> None:
    allow = {"p/seeknal_project.yml": "name: shop\nfiles: {allow: [../beside]}\n"}
    seeknal = project(tmp_path, allow)
    said = seeknal("check", code=2, SEEKNAL_UNTRUSTED="1").said
    folder = str(tmp_path / "beside")
    assert f"SEEKNAL_FILES_ALLOW={folder}" in said
    seeknal("check", SEEKNAL_UNTRUSTED="1", SEEKNAL_FILES_ALLOW=folder)


def test_files_of_nodes_do_not_come_from_elsewhere(tmp_path: Path) -> None:
    seeknal = project(tmp_path, {"nodes/t.sql": "SELECT 1 AS a\n"}, table="data.csv")
    write(tmp_path, {"p/data.csv": "a\n1\n", "p/profiles.yml": "connections: {}\n"})
    links = tmp_path / "p/seeknal"
    (links / "linked").symlink_to(tmp_path / "nodes")
    (links / "one.sql").symlink_to(tmp_path / "nodes/t.sql")
    (links / "two.yml").symlink_to(tmp_path / "p/profiles.yml")
    said = seeknal("check", code=2).said
    assert f"seeknal/linked: leads to {tmp_path / 'nodes'}, which lies outside" in said
    assert f"files: {{allow: [{tmp_path / 'nodes'}]}}" in said
    assert "seeknal/one.sql: leads to" in said
    assert "seeknal/two.yml: leads to" in said
    (links / "one.sql").unlink()
    (links / "two.yml").unlink()
    write(tmp_path, {"p/seeknal_project.yml": "name: shop\nfiles: {allow: [../nodes]}\n"})
    seeknal("check")
