"""The params of JSON and JSON lines files."""

from __future__ import annotations

import attrs

from seeknal_core.formats.params import FileParams


@attrs.frozen(kw_only=True)
class JsonParams(FileParams):
    """The params of ``json`` and ``jsonl``."""
