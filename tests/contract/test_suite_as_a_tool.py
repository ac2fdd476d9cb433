"""The suite in the hands of a backend's authors: what runs, what is reported, what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seeknal_core import __version__
from seeknal_core.contract.hooks import HOOK_API

TESTS = Path(__file__).parents[1]
MODULE = """
import pytest
from seeknal_core.testing import (
    Backend, BackendContract, CleanupContract, SourceContract, StagingContract,
)
from contract.test_four_hooks import FilesOutsider

@pytest.fixture(scope="session")
def backend():
    return Backend(type="minimal", plugin="support.seeknal_minimal")

@pytest.fixture
def connection():
    return {"path": "files"}

@pytest.fixture
def outsider(tmp_path):
    return FilesOutsider(tmp_path / "files")

class TestMine(BackendContract, StagingContract, SourceContract, CleanupContract):
    pass
"""


def run(folder: Path, module: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a backend's tests as its authors do, in a folder of their own."""
    (folder / "test_mine.py").write_text(module, encoding="utf-8")
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {TESTS}\naddopts = --strict-markers\nfilterwarnings = error\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )


def report(folder: Path, module: str, *args: str) -> Any:
    done = run(folder, module, "--seeknal-report", "out/report.json", *args)
    assert (folder / "out/report.json").exists(), done.stdout + done.stderr
    return json.loads((folder / "out/report.json").read_text("utf-8"))


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "in workers"])
def test_the_report_says_of_each_test_how_it_ended(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    document = report(
        tmp_path, MODULE, *workers, "-k", "mode or full or append or owner or discard"
    )
    assert document["seeknal_core"] == __version__
    assert document["hook_api"] == HOOK_API
    [backend] = document["backends"]
    assert backend["type"] == "minimal"
    assert backend["hooks"] == ["count_rows", "materialize", "namespace_for", "resolve_profile"]
    assert backend["contracts"] == {
        "BackendContract": "passed",
        "StagingContract": "not applicable",
        "SourceContract": "not applicable",
        "CleanupContract": "not applicable",
    }
    outcomes = {test["test"]: test for test in backend["tests"]}
    assert outcomes["test_a_full_write_replaces_all_rows"]["outcome"] == "passed"
    append = outcomes["test_an_append_adds_its_rows"]
    assert append["outcome"] == "refused" and "mode full alone" in append["detail"]
    revert = outcomes["test_a_discard_can_be_repeated"]
    assert revert["outcome"] == "not applicable" and "needs discard" in revert["detail"]


def test_what_does_not_apply_is_left_out_and_not_skipped(tmp_path: Path) -> None:
    done = run(tmp_path, MODULE, "-k", "discard or name_is_always")
    assert "1 passed" in done.stdout and "deselected" in done.stdout
    assert "skipped" not in done.stdout
    assert "StagingContract: " in done.stdout and "not applicable" in done.stdout


def test_a_failure_is_in_the_report_with_its_reason(tmp_path: Path) -> None:
    module = MODULE.replace(
        "support.seeknal_minimal", "support.broken_writing:AddsInsteadOfReplacing"
    )
    module = module.replace("FilesOutsider(tmp_path / ", "MemoryOutsider(tmp_path / ").replace(
        "from contract.test_four_hooks import FilesOutsider",
        "from support.memory_outsider import MemoryOutsider",
    )
    [backend] = report(tmp_path, module, "-k", "full_write_replaces")["backends"]
    [failed] = [test for test in backend["tests"] if test["outcome"] == "failed"]
    assert "5 rows, not 2" in failed["detail"]
    assert backend["contracts"]["BackendContract"] == "failed"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('type="minimal", plugin="support.seeknal_minimal"', 'type="clickhaus"', "no installed"),
        ("support.seeknal_minimal", "support.nowhere", "No module named 'support.nowhere'"),
        ("def backend():", "def backend(tmp_path_factory):", "it must take nothing"),
    ],
)
def test_a_mistake_in_the_fixture_is_told_in_a_line(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    done = run(tmp_path, MODULE.replace(old, new))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_mistake_in_the_fixture_is_told_also_in_workers(tmp_path: Path) -> None:
    module = MODULE.replace("def backend():", "def backend(tmp_path_factory):")
    done = run(tmp_path, module, "-n", "1")
    assert done.returncode != 0
    assert "it must take nothing" in done.stdout + done.stderr
    assert "INTERNALERROR" not in done.stdout + done.stderr


def test_the_command_line_does_not_load_the_suite() -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom seeknal_core.cli import main\n"
        "from seeknal_core.cli.main import cli\n"
        "CliRunner().invoke(cli, ['--help'])\nCliRunner().invoke(cli, ['plugins', 'list'])\n"
        "found = [m for m in sys.modules if m.startswith(('pytest', 'seeknal_core.testing'))]\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_pytest_run_without_backends_loads_no_arrow(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\ndef test_nothing():\n    assert 'pyarrow' not in sys.modules\n", "utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "conformance" not in done.stdout
