"""The page about hooks says what the specifications say."""

from __future__ import annotations

from meta import hooks_page


def test_the_hooks_page_is_made_from_the_specifications() -> None:
    assert hooks_page.PAGE.read_text("utf-8") == hooks_page.page(), (
        "run: python tests/meta/hooks_page.py"
    )
