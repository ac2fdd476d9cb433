"""The list of decisions has every record, with its title and state."""

from __future__ import annotations

import re

from meta import decisions_page


def test_the_list_is_made_from_the_records() -> None:
    assert decisions_page.PAGE.read_text("utf-8") == decisions_page.page(), (
        "run: python tests/meta/decisions_page.py"
    )


def test_what_was_replaced_and_what_replaced_it_name_each_other() -> None:
    states = dict(re.findall(r"^\| (\d+) \|.*\| (.+) \|$", decisions_page.page(), re.MULTILINE))
    replaced = {
        (number, by)
        for number, state in states.items()
        for by in re.findall(r"(?:Superseded|Replaced) by \[(\d+)\]", state)
    }
    replacing = {
        (number, by)
        for by, state in states.items()
        for number in re.findall(r"Supersedes \[?(\d+)", state)
    }
    assert replaced == replacing != set()
