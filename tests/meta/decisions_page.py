"""Make ``docs/adr/README.md``, the list of decisions: ``python tests/meta/decisions_page.py``."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adr" / "README.md"
_INTRODUCTION = """\
# Decisions

Why things are as they are: one page for each decision that somebody could undo by accident, or that a reader
would not expect. [Record 1](0001-record-decisions.md) says what such a page holds. A page is not rewritten when
the decision changes: a new one replaces it, and the old one says by which.

| | decision | state |
|---|---|---|
"""
_RECORD = re.compile(r"# (\d+)\. (.+)\n\nDate: \d{4}-\d\d-\d\d\. (.+)\n")


def page() -> str:
    """Return the page's text, a row for each record.

    Raises:
        ValueError: a record lacks its number, title, date or state.
    """
    rows = []
    for path in sorted(PAGE.parent.glob("[0-9]*.md")):
        found = _RECORD.match(path.read_text("utf-8"))
        if found is None or int(found[1]) != int(path.name[:4]):
            raise ValueError(
                f"{path.name} doesn't begin with '# N. Title' and 'Date: …. Accepted.'"
            )
        rows.append(f"| {found[1]} | [{found[2]}]({path.name}) | {found[3]} |\n")
    return _INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
