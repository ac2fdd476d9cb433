"""A ``target/`` that somebody else made: what spares work is not believed, what git has is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.project.checkout import refuse_brought_target
from seeknal_core.project.trust import Trust
from support.cli import Cli, write


def totals(project: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(project / "lake/sales/big.parquet").to_pylist()
    return sorted(rows, key=str)


def forge(project: Path) -> None:
    """Let everything that spares work say that the nodes are others."""
    for path in (project / "target").rglob("*.json"):
        text = path.read_text("utf-8")
        if path.parent.name == "cache":
            path.write_text(text.replace("> 15", "> 20"), "utf-8")


@pytest.mark.parametrize("malformed", [False, True])
def test_an_edited_cache_changes_no_result(project: Path, seeknal: Cli, malformed: bool) -> None:
    seeknal("run")
    caches = [project / "target/cache" / name for name in ("nodes.json", "sql.json")]
    assert all(path.exists() for path in caches)
    before = totals(project)
    shutil.rmtree(project / "target/snapshots")
    shutil.rmtree(project / "target/state")
    forge(project)
    if malformed:
        document = json.loads(caches[0].read_text("utf-8"))
        for nodes in document["entries"].values():
            for node in nodes:
                # Of the right class, with fields of the wrong type.
                node[2] |= {"name": 5, "tags": 7, "targets": {"a": 1}}
        caches[0].write_text(json.dumps(document), "utf-8")
    seeknal("run", "--adopt")
    assert totals(project) == before
    assert len(before) == 2


def test_a_cache_of_another_folder_is_not_read(project: Path, seeknal: Cli, tmp_path: Path) -> None:
    seeknal("run")
    forge(project)
    # Its seal comes along, as with a checkout or an archive.
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    shutil.rmtree(project)
    (tmp_path / "copy").rename(project)
    shutil.rmtree(project / "lake")
    seeknal("run", "--full-refresh", "--yes")
    assert len(totals(project)) == 2


def test_a_digest_of_a_file_that_somebody_wrote_down_is_not_believed(
    project: Path, seeknal: Cli
) -> None:
    path = project / "data/orders.csv"
    os.utime(path, (978_307_200, 978_307_200))
    seeknal("run")
    held = path.stat()
    stamp = [held.st_size, held.st_mtime_ns, held.st_ctime_ns, held.st_ino]
    digests = project / "target/state/file-digests.json"
    digests.parent.mkdir(parents=True, exist_ok=True)
    wrong = {"version": 1, "files": {str(path): [*stamp, "0" * 64]}}
    digests.write_text(json.dumps(wrong), "utf-8")
    done = seeknal("run", "--json").json()
    assert {node["status"] for node in done["nodes"]} == {"reused"}


def git(project: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(project), *args], check=True, capture_output=True)


@pytest.mark.parametrize("version", ["2", "4"])
@pytest.mark.parametrize("below", ["", "pipelines/shop"])
def test_a_target_that_git_has_is_refused_for_an_untrusted_project(
    project: Path, seeknal: Cli, version: str, below: str
) -> None:
    top = project
    seeknal("run")
    if below:
        inner = project.parent / "inner"
        project.rename(inner)
        (project / below).parent.mkdir(parents=True)
        inner.rename(project / below)
        seeknal = Cli(cwd=project / below, environ=seeknal.environ, warm=True)
    git(top, "init", "-q")
    git(top, "update-index", "--index-version", version)
    git(top, "add", ".")
    git(top, "rm", "-r", "-q", "--cached", "target" if not below else f"{below}/target")
    seeknal("env", "list", SEEKNAL_UNTRUSTED="1")
    git(top, "add", "-f", "target/state" if not below else f"{below}/target/state")
    seeknal("env", "list")
    for command in (("env", "list"), ("query", "SELECT 1"), ("run",), ("gc", "--dry-run")):
        ended = seeknal(*command, code=2, SEEKNAL_UNTRUSTED="1")
        assert "came with the checkout" in ended.said
        assert "git rm -r --cached target" in ended.said


@pytest.mark.parametrize("way", ["plain", ".ci", "dotted.", "a/.b./.c", "by a link"])
def test_a_brought_target_is_found_however_the_folder_is_named(tmp_path: Path, way: str) -> None:
    """Dots at an end of a folder's name, or a link to the folder, hid what git tracks."""
    top = tmp_path / "checkout"
    root = top / ("plain" if way == "by a link" else way)
    write(root, {"target/state/forged.json": "{}"})
    git(top, "init", "-q")
    refuse_brought_target(root, Trust(untrusted=True))
    git(top, "add", "-f", ".")
    if way == "by a link":
        (tmp_path / "link").symlink_to(root)
        root = tmp_path / "link"
    with pytest.raises(ConfigError, match="came with the checkout"):
        refuse_brought_target(root, Trust(untrusted=True))


def test_a_target_that_is_a_link_is_refused_for_an_untrusted_project(
    project: Path, seeknal: Cli
) -> None:
    write(project, {"elsewhere/keep": ""})
    (project / "target").symlink_to("elsewhere")
    assert "is a link" in seeknal("env", "list", code=2, SEEKNAL_UNTRUSTED="1").said
