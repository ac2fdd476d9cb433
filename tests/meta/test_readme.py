"""The README's example prints what it shows, and its figures are those of the benchmarks."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tutorial import Command, File, follow, steps

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BENCH = (ROOT / "bench" / "README.md").read_text("utf-8")
_PICTURE = ROOT / "docs" / "images" / "overview.svg"
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty folder that the account of the private server can enter."""
    folder = Path(tempfile.mkdtemp(prefix="seeknal-readme-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
def test_the_example_prints_what_the_page_shows(root: Path) -> None:
    # Seconds differ from run to run, and with them the width of nothing else.
    page = re.sub(r"\d+\.\d+ s\b", "… s", README)
    environ = {
        "HOME": str(root / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    done = [command.line for command, _ in follow(page, root, environ)]
    assert len(done) == 5


def test_every_command_of_the_example_has_an_answer() -> None:
    found = list(steps(README))
    assert [step.path for step in found if isinstance(step, File)]
    assert all(step.answer for step in found if isinstance(step, Command))


@pytest.mark.parametrize("command", ["run -e demo", "run"])
def test_the_two_commands_are_there(command: str) -> None:
    assert f"```sh\npython3 -m pip install tox && python3 -m tox {command}\n```\n" in README


def test_the_figures_are_those_of_the_benchmarks() -> None:
    [section] = re.findall(r"^## Four figures\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    figures = re.findall(r"\d+\.\d+ s, \d+ MB", section)
    assert len(figures) == 9
    assert [each for each in figures if each not in BENCH] == []
    ratios = re.findall(r"(1\.\d+) times", section)
    assert ratios and all(f"| {each} |" in BENCH for each in ratios)


def test_the_picture_says_what_it_shows() -> None:
    picture = ElementTree.parse(_PICTURE).getroot()
    labels = picture.attrib["aria-labelledby"].split()
    described = [
        each.text
        for tag in ("title", "desc")
        for each in picture.findall(f"{_SVG}{tag}")
        if each.attrib["id"] in labels
    ]
    assert len(described) == 2
    for stage in ("sources", "dev", "verify", "publish"):
        assert any(stage == (text.text or "") for text in picture.iter(f"{_SVG}text"))
        assert stage in (described[0] or "")
    assert re.search(r"!\[[^]]{40,}\]\(docs/images/overview\.svg\)", README)
    # An image on a page may load nothing.
    assert "href" not in _PICTURE.read_text("utf-8")
