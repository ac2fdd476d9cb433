"""Readers of Iceberg tables that have nothing to do with the backend."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest


def by_pyiceberg(table: Any, **scan: Any) -> pa.Table:
    """Read a table with pyiceberg's own reader."""
    return table.scan(**scan).to_arrow()


def by_polars(table: Any, snapshot_id: int | None = None) -> pa.Table:
    """Read a table with Polars' own reader of Parquet and of field ids."""
    import polars as pl

    words = {
        "s3.endpoint": "aws_endpoint_url",
        "s3.access-key-id": "aws_access_key_id",
        "s3.secret-access-key": "aws_secret_access_key",
        "s3.region": "aws_region",
    }
    known = {words[key]: value for key, value in table.io.properties.items() if key in words}
    storage = {**known, "aws_allow_http": "true"} if known else None
    with pytest.MonkeyPatch.context() as patch:
        # Another planner is a package of its own, and its absence is a warning.
        patch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
        scan = pl.scan_iceberg(
            table, snapshot_id=snapshot_id, reader_override="native", storage_options=storage
        )
        return scan.collect().to_arrow()
