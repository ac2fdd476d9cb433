"""``docs/glossary.md`` is in order, in use, and in few words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_PAGE = ROOT / "docs" / "glossary.md"
_ENTRIES = dict(re.findall(r"^### (.+)\n\n((?:.+\n)+)", _PAGE.read_text("utf-8"), re.MULTILINE))
#: Words that every page about the others uses.
_WANTED = """
    adopt apply base binding content_key definition drift environment fence generation interval ledger link
    manifest mark node plan profile promote publish rebuild record ship snapshot stage target undo_data
"""


def _used() -> str:
    pages = [path for path in (ROOT / "docs").glob("*.md") if path != _PAGE]
    pages += (ROOT / "seeknal_core").rglob("*.py")
    return "\n".join(path.read_text("utf-8") for path in pages).lower()


_USED = _used()


def test_the_terms_are_in_alphabetical_order() -> None:
    assert list(_ENTRIES) == sorted(_ENTRIES, key=str.lower)
    assert {word.replace("_", " ") for word in _WANTED.split()} <= set(_ENTRIES)


@pytest.mark.parametrize("term", _ENTRIES)
def test_each_term_is_used_and_said_in_few_words(term: str) -> None:
    assert re.search(rf"\b{re.escape(term)}(?:s|es|ed|d)?\b", _USED), (
        "no page and no module uses it"
    )
    text = _ENTRIES[term]
    assert "](" in text, "a link says where it is explained"
    assert len(text.split()) <= 50
    sentences = re.sub(r"\bSee \[.*", "", text.replace("\n", " "))
    assert 1 <= len(re.findall(r"[.:](?= |$)", sentences)) <= 3
