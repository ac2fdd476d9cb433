"""Install a distribution of ``examples/`` on a path: what its wheel holds, entry points and all."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from support.cli import Cli, write
from support.distributions import install

EXAMPLES = Path(__file__).parents[2] / "examples"


def install_example(name: str, site: Path) -> Path:
    """Build the wheel of ``examples/NAME`` and unpack it into `site`, which belongs on ``sys.path``."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    wheels = site.parent / f"{site.name}-wheels"
    done = subprocess.run(
        [*command, str(wheels), str(EXAMPLES / name)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


PASSWORD = "s3cret-word"
_LAKE = "{type: folder, path: %s, password: '${PW:" + PASSWORD + "}'}\n"
#: Production and dev have stores of their own, and dev another number of rows.
PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "profiles.yml": f"connections:\n  lake: {_LAKE % './lake'}",
    "profiles-dev.yml": f"connections:\n  lake: {_LAKE % './dev-lake'}",
    "seeknal/stored.yml": "kind: source\nname: stored\nsource: folder\ntable: raw.stored\n",
    "seeknal/doubled.sql": (
        "/* ---\nmaterialization: {type: folder, table: sales.doubled}\n--- */\n"
        "SELECT n, n * 2 AS double FROM source.stored\n"
    ),
    "seeknal/big.sql": (
        "/* ---\nmaterialization: {type: folder, table: sales.big}\n--- */\n"
        "SELECT n FROM ref('transform.doubled') WHERE double > 2\n"
    ),
}


def example_project(folder: Path, site: Path) -> Cli:
    """Make a project over the folder backend; return the command in it, with `site` installed."""
    root = folder / "shop"
    write(root, PROJECT)
    for lake, rows in (("lake", 5), ("dev-lake", 3)):
        path = root / lake / "raw" / "stored.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table({"n": list(range(rows))}), path)
    source = (Path(__file__).parent / "seeknal_folder.py").read_text("utf-8")
    said = "is told to fail"
    assert said in source
    # What a careless driver says of a connection.
    source = source.replace(said, said + " {connection.options.password.reveal()}")
    backend = install(
        folder / "backend",
        distribution="seeknal-folder",
        module="seeknal_folder",
        source=source,
        entry_points={"seeknal.backends": {"folder": "seeknal_folder"}},
    )
    installed = f"{site}{os.pathsep}{backend}"
    environ = {"PYTHONPATH": installed, "HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"}
    return Cli(cwd=root, environ=environ, warm=True)


def having(seeknal: Cli, environ: Mapping[str, str]) -> Cli:
    """Return the command with more variables in its environment."""
    return attrs.evolve(seeknal, environ={**seeknal.environ, **environ})


def fail_writes_of(root: Path, table: str) -> None:
    """Make dev's store refuse a table, with its password in the message."""
    write(
        root,
        {
            "profiles-dev.yml": PROJECT["profiles-dev.yml"].replace(
                "}'}", f"}}', fail_on: {table}}}"
            )
        },
    )


def run_own_tests(name: str, site: Path) -> None:
    """Run the tests that are in the folder of an example, on what its wheel holds."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(EXAMPLES / name), str(EXAMPLES / name)],
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
