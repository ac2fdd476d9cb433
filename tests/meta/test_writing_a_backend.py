"""``docs/writing-a-backend.md`` is followed from its first file to its last command."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path

import pytest

from meta.public_surface import PUBLIC, TESTING, imported
from support.distributions import install
from support.tutorial import Command, File, follow, missing, steps

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-a-backend.md").read_text("utf-8")
DISTRIBUTION = "seeknal-sqlite"

pytestmark = pytest.mark.xdist_group("writing_a_backend")


def shown(suffix: str) -> dict[str, str]:
    """Return the last text of each file of the page."""
    files = (step for step in steps(PAGE) if isinstance(step, File))
    return {file.path: file.text for file in files if file.path.endswith(suffix)}


def environment(root: Path) -> dict[str, str]:
    """Make of the page's folder an installed distribution, as ``pip install -e`` does."""
    project = tomllib.loads(shown("pyproject.toml")[f"{DISTRIBUTION}/pyproject.toml"])["project"]
    site = install(
        root / "site",
        distribution=project["name"],
        module="nothing_of_interest",
        source="",
        entry_points=project["entry-points"],
        version=project["version"],
    )
    # The page's commands are those of the environment that runs the tests.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        "HOME": str(root / "home"),
        "PATH": path,
        "PYTHONPATH": os.pathsep.join([str(site), str(root / DISTRIBUTION)]),
        "COLUMNS": "200",
    }


@pytest.mark.long
def test_the_page_leads_from_an_empty_folder_to_the_whole_suite(tmp_path: Path) -> None:
    runs = [
        printed
        for command, printed in follow(PAGE, tmp_path, environment(tmp_path))
        if command.line.startswith("pytest")
    ]
    assert len(runs) == 5
    for printed in runs:
        assert "skipped" not in printed and "failed" not in printed
    [backend] = json.loads((tmp_path / DISTRIBUTION / "report.json").read_text("utf-8"))["backends"]
    assert set(backend["contracts"].values()) == {"passed"}
    outcomes = {test["outcome"] for test in backend["tests"]}
    assert outcomes == {"passed", "refused", "not applicable"}
    lacking = {t["detail"] for t in backend["tests"] if t["outcome"] == "not applicable"}
    assert {why for why in lacking if not why.endswith("_targets")} == {
        "needs the fixture rejected"
    }
    refused = [test["test"] for test in backend["tests"] if test["outcome"] == "refused"]
    refused = [test for test in refused if "overwrite" not in test]
    assert all("[" in test for test in refused), "something else than a value or a name is refused"


def test_the_page_uses_the_public_modules_only() -> None:
    for path, text in shown(".py").items():
        assert imported(text) <= ({TESTING} if "/tests/" in path else PUBLIC), path


def test_a_page_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    page = "```text file=a/b\nhello\n```\n\n```console in=a\n$ cat b\n{}\n$ {}\n```\n"
    for answer, command in (("goodbye", "true"), ("hello", "false")):
        with pytest.raises(AssertionError, match=r"\$ "):
            list(follow(page.format(answer, command), tmp_path, {}))
    [first, second] = follow(page.format("he…o", "true"), tmp_path, {})
    assert (first[1], second[0].line) == ("hello\n", "true")


def test_an_answer_is_looked_for_line_by_line_and_in_order() -> None:
    printed = "one   1\ntwo 2 s\nthree"
    assert missing(("one 1", "two … s"), printed) == ""
    assert missing(("two … s", "one 1"), printed) == "one 1"
    assert missing(("thr",), printed) == "thr"


def test_every_command_of_the_page_has_an_answer() -> None:
    assert all(
        step.answer or "CREATE" in step.line for step in steps(PAGE) if isinstance(step, Command)
    )
