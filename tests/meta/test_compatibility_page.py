"""The page about compatibility says what its data say, and the data know the whole suite."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from meta import compatibility_page
from seeknal_core.plugins.host import HOOKS
from seeknal_core.testing import contracts


@pytest.fixture
def data() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(compatibility_page.DATA.read_text("utf-8"))
    return found


def test_the_compatibility_page_is_made_from_its_data(data: Mapping[str, Any]) -> None:
    assert compatibility_page.PAGE.read_text("utf-8") == compatibility_page.page(data), (
        "run: python tests/meta/compatibility_page.py"
    )
    assert set(data) == set(compatibility_page.TYPES)


@pytest.mark.parametrize("type", compatibility_page.TYPES)
def test_the_data_know_every_test_of_the_suite(data: Mapping[str, Any], type: str) -> None:
    for contract in compatibility_page.CONTRACTS:
        wanted = {name for name in dir(getattr(contracts, contract)) if name.startswith("test_")}
        found = {test.partition("[")[0] for test in data[type]["outcomes"][contract]}
        assert found == wanted, "remake the page; CONTRIBUTING.md tells how"


def test_the_page_knows_the_hooks_and_outcomes() -> None:
    assert {hook for hooks in compatibility_page.GROUPS.values() for hook in hooks} <= set(HOOKS)


def report(**changes: str) -> dict[str, Any]:
    outcomes = {"test_a": "passed", "test_b": "refused", **changes}
    tests = [
        {"contract": "BackendContract", "test": test, "outcome": outcome}
        for test, outcome in outcomes.items()
    ]
    known = {"type": "memory", "distribution": "seeknal-core", "hooks": ["materialize"]}
    return {"backends": [{**known, "tests": tests}, {"type": "somebody's", "tests": tests}]}


def test_a_report_that_differs_is_noticed() -> None:
    known = compatibility_page.condensed([report()])
    assert list(known) == ["memory"]
    assert compatibility_page.differences(known, known) == []
    for changes in ({"test_a": "refused"}, {"test_c": "passed"}):
        found = compatibility_page.condensed([report(**changes)])
        [line] = compatibility_page.differences(known, found)
        assert next(iter(changes)) in line
    other = copy.deepcopy(known)
    other["memory"]["hooks"] = []
    assert len(compatibility_page.differences(known, other)) == 1


def test_a_failed_suite_makes_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report(test_a="failed")), encoding="utf-8")
    monkeypatch.setattr(compatibility_page, "DATA", tmp_path / "compatibility.json")
    monkeypatch.setattr(compatibility_page, "PAGE", tmp_path / "compatibility.md")
    monkeypatch.setattr("sys.argv", ["compatibility_page.py", str(path)])
    with pytest.raises(SystemExit, match="memory: test_a"):
        compatibility_page.main()
    assert not (tmp_path / "compatibility.md").exists()
