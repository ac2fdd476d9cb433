"""The tools around the code agree with each other: tox, CI, pre-commit, dependency groups, changelog."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
_PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
_GROUPS: dict[str, list[Any]] = _PYPROJECT["dependency-groups"]
_TYPES = {each["directory"] for each in _PYPROJECT["tool"]["towncrier"]["type"]}
_FRAGMENT = re.compile(r"(?:\d+|\+[a-z0-9]+(?:-[a-z0-9]+)*)\.([a-z]+)(?:\.\d+)?\.md")
_FRAGMENTS = sorted(path for path in (ROOT / "changes").iterdir() if path.name != "README.md")


def _tox() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    parser.read(ROOT / "tox.ini", "utf-8")
    return parser


def _environments() -> set[str]:
    names = {name.removeprefix("testenv:") for name in _tox().sections()}
    return {name for name in names if f"testenv:{name}" in _tox().sections()}


def _included(group: str) -> set[str]:
    found = set()
    for each in _GROUPS[group]:
        found |= {each} if isinstance(each, str) else _included(each["include-group"])
    return found


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_the_dev_group_has_what_every_environment_of_everything_needs() -> None:
    tox = _tox()
    wanted: set[str] = set()
    for name in ["quick", "fix", *re.split(r",\s*", tox["tox"]["env_list"])]:
        section = tox[f"testenv:{name}"]
        groups = section.get("dependency_groups", tox["testenv"]["dependency_groups"])
        for group in re.findall(r"[\w-]+", groups):
            wanted |= _included(group)
        assert set(section.get("deps", "").split()) <= _included("dev"), name
    assert wanted - _included("dev") == set()


def test_every_path_that_tox_names_exists() -> None:
    named = re.findall(r"(?<![\w/])tests/[\w./]+", (ROOT / "tox.ini").read_text("utf-8"))
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_environment_is_described() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = " ".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    assert {name for name in _environments() if f"`{name}`" not in rows} == set()


def test_every_environment_that_a_page_names_exists() -> None:
    for page in ("README.md", "CONTRIBUTING.md", "RELEASING.md", "docs/reliability.md"):
        text = (ROOT / page).read_text("utf-8")
        for names in re.findall(r"tox run -e ([\w,-]+)", text):
            assert set(names.split(",")) <= _environments(), page


def test_before_a_commit_the_same_ruff_runs() -> None:
    hooks = [hook for repo in _yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split(" -")[0] for hook in hooks} == {"ruff check", "ruff format"}
    assert all(hook["additional_dependencies"] == _GROUPS["lint"] for hook in hooks)


def test_ci_runs_the_two_commands_of_the_readme_and_may_only_read() -> None:
    workflow = _yaml(".github/workflows/ci.yml")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(set(commands)) == 2
    assert all(f"```sh\n{command}\n```" in readme for command in commands)
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    for step in steps:
        assert re.fullmatch(
            r"actions/[\w-]+@(?:v\d+|[0-9a-f]{40})", step.get("uses", "actions/x@v1")
        )


@pytest.mark.parametrize("name", ["bug", "wish"])
def test_an_issue_form_asks_for_something(name: str) -> None:
    form = _yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 1


@pytest.mark.parametrize("path", _FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_of_the_changelog_has_a_type_and_one_entry(path: Path) -> None:
    found = _FRAGMENT.fullmatch(path.name)
    assert found and found[1] in _TYPES, "NUMBER.TYPE.md or +a-few-words.TYPE.md: CONTRIBUTING.md"
    text = path.read_text("utf-8")
    assert text.strip() and text.endswith("\n")
    assert not re.search(r"^(?:[-*#]|\n)", text, re.MULTILINE), "one entry, without a dash"


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("123.fixed.md", True),
        ("+a-view.added.2.md", True),
        ("123.mended.md", False),
        ("fixed.md", False),
        ("+A view.fixed.md", False),
    ],
)
def test_the_names_of_fragments_are_told_apart(name: str, valid: bool) -> None:
    found = _FRAGMENT.fullmatch(name)
    assert bool(found and found[1] in _TYPES) is valid
