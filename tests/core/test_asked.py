"""What a source asks of its store, as content keys have it."""

from __future__ import annotations

import attrs

from seeknal_core.contract.types import Source
from seeknal_core.plan import keys


def test_an_option_that_came_later_is_no_part_of_keys_while_it_is_not_used() -> None:
    @attrs.frozen(kw_only=True)
    class Options:
        filter: str | None = None
        tag: str | None = attrs.field(default=None, metadata={"later": True})

    def asked(**given: str) -> object:
        return keys.asked_of(Source(node="s", type="x", options=Options(**given)))["options"]

    assert asked() == {"filter": None}
    assert asked(tag="a") == {"filter": None, "tag": "a"}
