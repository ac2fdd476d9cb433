"""The page about security names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    folders = (ROOT / "tests", ROOT / "plugins", ROOT / "examples")
    written = {
        name
        for folder in folders
        for path in folder.rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)\(", path.read_text("utf-8"), re.M)
    }
    assert len(named) > 20
    assert named - written == set()


def test_every_section_makes_claims_that_name_tests() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    sections = re.split(r"^## ", page, flags=re.M)[1:]
    without = [
        section.splitlines()[0]
        for section in sections
        if "`test_" not in section and "](grants.md)" not in section
    ]
    assert without == []
