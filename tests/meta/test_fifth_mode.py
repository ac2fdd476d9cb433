"""One more mode: how many files mypy names, and that a run writes by it once those are changed.

Runs in tox's environment ``types``, which has mypy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODES = "seeknal_core/contract/modes.py"
POSTGRES = "plugins/postgres/seeknal_postgres"
ICEBERG = "plugins/iceberg/seeknal_iceberg"
#: What has to be written besides the member itself: (file, before, after).
CHANGES = [
    (
        MODES,
        "        case Mode.APPEND:\n",
        "        case Mode.TOY:\n            return _FULL\n        case Mode.APPEND:\n",
    ),
    (
        "seeknal_core/testing/memory_rows.py",
        "case Mode.FULL | Mode.APPEND:",
        "case Mode.FULL | Mode.APPEND | Mode.TOY:",
    ),
    (f"{POSTGRES}/write/modes/__init__.py", "case Mode.FULL:", "case Mode.FULL | Mode.TOY:"),
    (f"{ICEBERG}/write/modes/__init__.py", "case Mode.FULL:", "case Mode.FULL | Mode.TOY:"),
]


@pytest.fixture(scope="module")
def branch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the code that has a mode more, by its name alone."""
    copy = tmp_path_factory.mktemp("branch")
    for folder in ("seeknal_core", POSTGRES, ICEBERG):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    replace(copy / MODES, "    APPEND = ", '    TOY = "toy"\n    APPEND = ')
    return copy


def replace(path: Path, before: str, after: str) -> None:
    """Replace the one occurrence of a text in a file."""
    text = path.read_text("utf-8")
    assert text.count(before) == 1, path
    path.write_text(text.replace(before, after), "utf-8")


def wrong(copy: Path) -> set[str]:
    """Return the files in which mypy finds something."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-error-summary",
        "seeknal_core",
        POSTGRES,
        ICEBERG,
    ]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    found = set(re.findall(r"^([^:\n]+\.py):\d+: error", done.stdout, re.MULTILINE))
    assert done.returncode == bool(found), done.stdout + done.stderr
    return found


def test_mypy_names_two_files_of_the_core_and_two_of_each_backend_at_most(branch: Path) -> None:
    named = wrong(branch)
    assert {MODES} <= named <= {path for path, _, _ in CHANGES}
    for place in ("seeknal_core", POSTGRES, ICEBERG):
        assert 1 <= len([path for path in named if path.startswith(place)]) <= 2
    for path, before, after in CHANGES:
        replace(branch / path, before, after)
    assert not wrong(branch)


def test_with_these_files_changed_a_run_writes_by_the_mode(branch: Path, tmp_path: Path) -> None:
    if "TOY:" not in (branch / MODES).read_text("utf-8"):
        for path, before, after in CHANGES:
            replace(branch / path, before, after)
    (tmp_path / "seeknal").mkdir()
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n", "utf-8")
    (tmp_path / "profiles.yml").write_text(
        "connections:\n"
        "  warehouse: {type: postgresql, embedded: true}\n"
        "  lake: {type: iceberg, warehouse: ./warehouse}\n",
        "utf-8",
    )
    (tmp_path / "seeknal" / "orders.yml").write_text(
        "kind: transform\n"
        "name: orders\n"
        "transform: SELECT 1 AS id\n"
        "materializations:\n"
        "  - {type: postgresql, table: shop.orders, mode: toy}\n"
        "  - {type: iceberg, table: lake.shop.orders, mode: toy}\n",
        "utf-8",
    )
    places = [branch, branch / "plugins/postgres", branch / "plugins/iceberg"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    command = [sys.executable, "-m", "seeknal_core", "run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 targets (2 written)" in done.stdout
