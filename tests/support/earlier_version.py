"""The version before stored outputs got their digests of today, out of the repository's history.

It runs in the same environment: a folder with its three packages and their metadata stands
in front of what is installed.
"""

from __future__ import annotations

import io
import os
import subprocess
import tomllib
import zipfile
from pathlib import Path

import attrs
import pytest

from support.cli import Cli

#: The last commit whose content keys have the earlier digest of rows.
COMMIT = "b4e93acd0994bcaca85856e2d154106d4fcd7042"
#: The last commit before the core's modules moved into rooms.
BEFORE_ROOMS = "53c2fb28dfff8c04ba3f8b378c3bb75412381841"
_ROOT = Path(__file__).parents[2]
_DISTRIBUTIONS = {
    ".": ".",
    "plugins/postgres": "plugins/postgres",
    "plugins/iceberg": "plugins/iceberg",
}


def earlier(seeknal: Cli, folder: Path, commit: str = COMMIT) -> Cli:
    """Return the earlier version's command, in the same project.

    Args:
        folder: an empty one, for the packages.
        commit: the version.
    """
    git = ["git", "-C", str(_ROOT)]
    found = subprocess.run([*git, "cat-file", "-e", commit], capture_output=True, check=False)
    if found.returncode:
        pytest.skip(f"the repository's history lacks {commit[:7]}: git fetch --unshallow")
    packages = ["seeknal_core", "pyproject.toml", "plugins/postgres", "plugins/iceberg"]
    command = [*git, "archive", "--format=zip", commit, *packages]
    archive = subprocess.run(command, capture_output=True, check=True)
    site, tree = folder / "site", folder / "tree"
    tree.mkdir(parents=True)
    site.mkdir()
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as packed:
        packed.extractall(tree)
    for where in _DISTRIBUTIONS:
        project = tomllib.loads((tree / where / "pyproject.toml").read_text("utf-8"))["project"]
        _install(site, tree / where, project)
    paths = [str(site), *seeknal.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environ = {**seeknal.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return attrs.evolve(seeknal, environ=environ, warm=False)


def _install(site: Path, tree: Path, project: dict[str, object]) -> None:
    name = str(project["name"]).replace("-", "_")
    (tree / name).rename(site / name)
    info = site / f"{name}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n", encoding="utf-8"
    )
    lines = []
    groups = project.get("entry-points", {})
    assert isinstance(groups, dict)
    for group, points in groups.items():
        lines += [f"[{group}]", *(f"{point} = {place}" for point, place in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
