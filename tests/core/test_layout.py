"""Every path under ``target/`` is made in one place."""

from __future__ import annotations

import re
from pathlib import Path

import seeknal_core
from seeknal_core.files.layout import OURS, Layout
from support.cli import Cli, write

CORE = Path(seeknal_core.__file__).parent
SPELLED = re.compile(r'/ "(?:target|state|snapshots|tmp|cache)"')
#: The layout itself; the check of the folder; the store of snapshots, below its own root.
ALLOWED = {"files/layout.py", "files/own.py", "engine/snapshots.py", "project/checkout.py"}


def test_no_other_module_spells_a_path_of_ours() -> None:
    assert {
        str(path.relative_to(CORE))
        for path in CORE.rglob("*.py")
        if "testing" not in path.parts and SPELLED.search(path.read_text("utf-8"))
    } <= ALLOWED


def test_a_run_makes_what_the_layout_names_and_nothing_else(seeknal: Cli) -> None:
    write(
        seeknal.cwd,
        {
            "seeknal_project.yml": "name: shop\n",
            "seeknal/a.yml": "kind: transform\nname: a\ntransform: SELECT 1 AS one\n",
        },
    )
    seeknal("run")
    layout = Layout.of_project(seeknal.cwd)
    assert {path.name for path in layout.target.iterdir()} <= OURS
    assert layout.state.is_dir()
    assert layout.snapshots.is_dir()
    assert layout.sql.is_file()
