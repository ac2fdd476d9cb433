"""Read Iceberg tables with DuckDB's extension and with Daft, in an environment of their own.

Run as ``python read_elsewhere.py LIST``: each line of the file is a number and the location
of a table's metadata. The rows are left beside it, as ``NUMBER.READER.arrow``, or why there are
none, as ``NUMBER.READER.txt``.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def by_duckdb() -> Any:
    """Return what reads a table with DuckDB; its extensions are packages."""
    duckdb: Any = importlib.import_module("duckdb")
    connection = duckdb.connect()
    for name in ("avro", "iceberg"):
        package = importlib.import_module(f"duckdb_extension_{name}")
        (file,) = Path(str(package.__file__)).parent.rglob(f"{name}.duckdb_extension")
        connection.execute(f"LOAD '{file}'")
    connection.execute("SET timezone = 'UTC'")
    return lambda path: connection.sql(f"SELECT * FROM iceberg_scan('{path}')").to_arrow_table()


def by_daft() -> Any:
    """Return what reads a table with Daft."""
    daft: Any = importlib.import_module("daft")
    tables: Any = importlib.import_module("pyiceberg.table")
    return lambda path: daft.read_iceberg(tables.StaticTable.from_metadata(path)).to_arrow()


def main(listed: Path) -> None:
    """Read every table with every reader."""
    ipc: Any = importlib.import_module("pyarrow.ipc")
    readers = {"duckdb": by_duckdb(), "daft": by_daft()}
    for line in listed.read_text("utf-8").splitlines():
        number, _, location = line.partition(" ")
        for name, read in readers.items():
            place = listed.parent / f"{number}.{name}"
            try:
                rows = read(location)
                with ipc.new_file(place.with_suffix(f".{name}.arrow"), rows.schema) as writer:
                    writer.write_table(rows)
            # Whatever it is, the test says it.
            except Exception as error:  # noqa: BLE001
                place.with_suffix(f".{name}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
