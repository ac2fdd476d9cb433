"""The params of Parquet files."""

from __future__ import annotations

import attrs

from seeknal_core.project.formats.params import FileParams


@attrs.frozen(kw_only=True)
class ParquetParams(FileParams):
    """The params of ``parquet``.

    ``union_by_name`` allows files that have more or fewer columns than the others.
    """

    union_by_name: bool = False
