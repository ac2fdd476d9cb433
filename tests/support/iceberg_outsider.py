"""An Iceberg catalog as somebody sees it who knows pyiceberg alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

from seeknal_core.testing import Outsider


class IcebergOutsider(Outsider):
    """Opens the catalog anew for every look.

    Args:
        properties: the catalog's, as pyiceberg names them.
        folder: where its files are, None where they are no local ones.
    """

    def __init__(self, properties: Mapping[str, str], folder: Path | None = None) -> None:
        self._properties = dict(properties)
        self._folder = folder

    def _catalog(self) -> Catalog | None:
        file = urlsplit(self._properties.get("uri", "")).path
        if self._folder is not None and not Path(file).exists():
            return None
        return load_catalog("default", **self._properties)

    def read(self, parts: tuple[str, ...]) -> pa.Table | None:
        catalog = self._catalog()
        if catalog is None:
            return None
        try:
            table = catalog.load_table(parts)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        schema = table.schema().as_arrow()
        found = [_rows(table, task, schema) for task in table.scan().plan_files()]
        rows = pa.concat_tables([schema.empty_table(), *found], promote_options="permissive")
        return rows.select(schema.names)

    def objects(self) -> frozenset[str]:
        catalog = self._catalog()
        if catalog is None:
            return frozenset(self._files(set()))
        found: set[str] = set()
        known: set[str] = set()
        for namespace in _namespaces(catalog, ()):
            found.add(f"namespace {namespace}")
            for name in catalog.list_tables(namespace):
                table = catalog.load_table(name)
                found |= {f"table {name}", *(f"ref {name} {ref}" for ref in table.refs())}
                known |= _files_of(table)
        return frozenset(found | self._files(known))

    def _files(self, known: set[str]) -> set[str]:
        """Name the local files that no table knows of; a table's old metadata is its history."""
        if self._folder is None or not self._folder.exists():
            return set()
        places = {urlsplit(one).path for one in known}
        return {
            f"file {path.relative_to(self._folder)}"
            for path in self._folder.rglob("*")
            if path.is_file()
            and str(path) not in places
            and not path.name.endswith((".metadata.json", ".avro"))
            and not path.name.startswith("catalog.db")
        }

    def write(self, parts: tuple[str, ...], rows: pa.Table) -> None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        catalog = load_catalog("default", **self._properties)
        for depth in range(1, len(parts)):
            catalog.create_namespace_if_not_exists(parts[:depth])
        catalog.create_table_if_not_exists(parts, rows.schema).append(rows)


def _namespaces(catalog: Catalog, inside: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for namespace in catalog.list_namespaces(inside):
        yield namespace
        yield from _namespaces(catalog, namespace)


def _rows(table: Any, task: Any, schema: pa.Schema) -> pa.Table:
    """Read a data file as it is: pyiceberg's own reader makes an empty list of a NULL one."""
    assert not task.delete_files
    with table.io.new_input(task.file.file_path).open() as file:
        rows = pq.read_table(file)
    names = {field.field_id: field.name for field in table.schema().fields}
    columns = {}
    for field, column in zip(rows.schema, rows.columns, strict=True):
        number = (field.metadata or {}).get(b"PARQUET:field_id")
        name = names.get(int(number), field.name) if number else field.name
        columns[name] = column.cast(schema.field(name).type)
    return pa.table(columns)


def _files_of(table: Any) -> set[str]:
    files = table.inspect.all_files()["file_path"].to_pylist()
    return {str(file) for file in files}
