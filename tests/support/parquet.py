"""What tests look at in Parquet files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def before_footer(path: Path) -> bytes:
    """Return everything in a file but its footer."""
    content = path.read_bytes()
    return content[: -8 - int.from_bytes(content[-8:-4], "little")]


def field_ids(path: Path) -> list[str | None]:
    """Return the field id of each column and of each field in it, None where there is none."""

    def ids(field: pa.Field) -> list[str | None]:
        number = (field.metadata or {}).get(b"PARQUET:field_id")
        own = [None if number is None else number.decode()]
        type = field.type
        if pa.types.is_map(type):
            return own + ids(type.key_field) + ids(type.item_field)
        if pa.types.is_struct(type):
            return own + [number for child in type for number in ids(child)]
        return own + ids(type.value_field) if pa.types.is_nested(type) else own

    return [number for field in pq.read_schema(path) for number in ids(field)]
