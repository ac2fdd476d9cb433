"""The params of JSON and JSON lines files."""

from __future__ import annotations

import attrs

from seeknal_core.project.formats.text import TextParams


@attrs.frozen(kw_only=True)
class JsonParams(TextParams):
    """The params of ``json`` and ``jsonl``.

    A record may have other keys than the others: what it lacks is NULL.
    """
