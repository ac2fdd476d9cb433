"""A project with a folder for a store: whole runs without any server."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Cli, write
from support.distributions import install

PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "profiles.yml": (
        "connections:\n  lake: {type: folder, path: ./lake, password: '${PW:s3cret-word}'}\n"
    ),
    "data/orders.csv": "id,customer,amount\n1,ada,10\n2,bela,20\n3,ada,9007199254740993\n",
    "seeknal/orders.yml": (
        "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
        "schema:\n  - {name: id, data_type: integer}\n  - {name: amount, data_type: integer}\n"
    ),
    "seeknal/totals.sql": (
        "/* ---\ntags: [gold]\n"
        "materialization: {type: folder, table: sales.totals}\n--- */\n"
        "SELECT customer, sum(amount) AS total FROM source.orders GROUP BY ALL\n"
    ),
    "seeknal/big.yml": (
        "kind: transform\nname: big\n"
        "transform: SELECT * FROM ref('transform.totals') WHERE total > 15\n"
        "materialization: {type: folder, table: sales.big}\n"
    ),
}


@pytest.fixture
def folder_site(tmp_path: Path) -> Path:
    """A path on which the folder backend is installed."""
    source = (Path(__file__).parent / "seeknal_folder.py").read_text("utf-8")
    return install(
        tmp_path / "site",
        distribution="seeknal-folder",
        module="seeknal_folder",
        source=source,
        entry_points={"seeknal.backends": {"folder": "seeknal_folder"}},
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's folder."""
    root = tmp_path / "shop"
    write(root, PROJECT)
    return root


@pytest.fixture
def seeknal(project: Path, folder_site: Path, tmp_path: Path) -> Cli:
    """The command, in the project."""
    environ = {"PYTHONPATH": str(folder_site), "HOME": str(tmp_path / "home")}
    return Cli(cwd=project, environ=environ, warm=True)
