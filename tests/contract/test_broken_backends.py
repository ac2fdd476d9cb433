"""Each test of the suite fails for a backend that is broken in that one way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seeknal_core.testing import contracts
from support.broken import all_broken

_HERE = Path(__file__).parent
_SUITES = ("BackendContract", "StagingContract", "SourceContract", "CleanupContract")
_PARTS = 4


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(_PARTS))
def test_a_broken_backend_is_noticed_by_the_tests_that_are_meant(tmp_path: Path, part: int) -> None:
    chosen = dict(list(all_broken().items())[part::_PARTS])
    report = tmp_path / "report.json"
    places = [f"{_HERE / 'broken_suite.py'}::Test{name}" for name in chosen]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=native"]
    command += ["--rootdir", str(_HERE.parents[1]), "--seeknal-report", str(report), *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    found = {
        suite["suite"].rpartition("::Test")[2]: {
            test["test"].partition("[")[0] for test in suite["tests"] if test["outcome"] == "failed"
        }
        for suite in json.loads(report.read_text("utf-8"))["backends"]
    }
    assert found == {name: set(broken.red) for name, broken in chosen.items()}, done.stdout[-3000:]


def test_no_test_of_the_suite_is_without_a_backend_that_fails_it() -> None:
    tests = {
        name
        for suite in _SUITES
        for name in dir(getattr(contracts, suite))
        if name.startswith("test_")
    }
    noticed = {test for broken in all_broken().values() for test in broken.red}
    assert sorted(tests - noticed) == [], "give each a backend in tests/support/broken_*.py"
    assert sorted(noticed - tests) == [], "no such test in the suite"


def test_no_two_contracts_have_a_test_of_one_name() -> None:
    """One class inherits all contracts: of two tests of one name, only one would run."""
    seen: dict[str, str] = {}
    themes = {cls for suite in _SUITES for cls in getattr(contracts, suite).__mro__}
    for theme in sorted(themes, key=lambda cls: cls.__name__):
        for name in vars(theme):
            if name.startswith("test_"):
                assert name not in seen, f"{name} is in {seen[name]} and in {theme.__name__}"
                seen[name] = theme.__name__
