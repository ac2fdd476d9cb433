"""Reading Parquet files. Columns of several files are matched by name."""

from __future__ import annotations

import duckdb

from seeknal_core.engine import quoting
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources.reading import Reading


def store(reading: Reading) -> Output:
    """Store the rows of Parquet files."""
    files = quoting.paths(map(str, reading.paths))
    try:
        return reading.store(f"SELECT * FROM read_parquet({files}, union_by_name = true)")
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise reading.unreadable(error, "fix the file") from None
