"""``docs/architecture.md`` tells of the code as it is."""

from __future__ import annotations

import re
from pathlib import Path

from meta.architecture_page import PAGE, page

ROOT = Path(__file__).resolve().parents[2]


def test_the_made_parts_are_those_that_the_code_makes() -> None:
    text = PAGE.read_text("utf-8")
    assert text == page(text), "python tests/meta/architecture_page.py"


def test_the_map_has_every_room() -> None:
    rooms = re.findall(r"^\| `(\w+)/` \|", PAGE.read_text("utf-8"), flags=re.M)
    folders = {path.parent.name for path in (ROOT / "seeknal_core").glob("*/__init__.py")}
    # What is beside the rooms: the suite for backends, the example, and re-exports until 1.0.
    assert folders - set(rooms) <= {"testing", "example", "rules"}
    assert set(rooms) <= folders


def test_every_module_that_is_named_is_there() -> None:
    text = PAGE.read_text("utf-8")
    for name in re.findall(r"`([\w/]+\.py)`", text):
        places = [
            ROOT / name,
            ROOT / "seeknal_core" / name,
            ROOT / "plugins/postgres/seeknal_postgres" / name,
        ]
        assert any(place.exists() for place in places), name
