"""The params of Parquet files."""

from __future__ import annotations

import attrs

from seeknal_core.formats.params import FileParams


@attrs.frozen(kw_only=True)
class ParquetParams(FileParams):
    """The params of ``parquet``."""
