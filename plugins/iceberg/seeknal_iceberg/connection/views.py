"""Distinguishes views of a catalog from tables: only tables are read and written here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiceberg.catalog.rest import Capability, RestCatalog

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

#: What to do about a source or a target that is one.
SOURCE_HINT = "name the tables that the view reads, and write its SQL as a transform"
TARGET_HINT = "write to another table, or drop the view"


def is_view(catalog: Catalog, parts: tuple[str, ...], *, unlisted: bool = False) -> bool:
    """Return whether a name, of which there is no table, is a view's.

    Args:
        unlisted: a REST catalog is asked also where it doesn't say that it knows views.
    """
    # A catalog that doesn't answer tells nothing; what is looked for is a better message.
    try:
        if not isinstance(catalog, RestCatalog):
            return parts[-1] in in_sql(catalog, parts[:-1])
        known = catalog._supported_endpoints
        if Capability.V1_VIEW_EXISTS in known or Capability.V1_LOAD_VIEW in known:
            return bool(catalog.view_exists(parts))
        if Capability.V1_LIST_VIEWS in known:
            return any(tuple(each) == parts for each in catalog.list_views(parts[:-1]))
        return unlisted and bool(catalog.view_exists(parts))
    except Exception:  # noqa: BLE001 - no answer: it is not known to be a view
        return False


def in_sql(catalog: Catalog, levels: tuple[str, ...]) -> list[str]:
    """Return the names of the views that others made in a namespace of a SQL catalog."""
    if getattr(catalog, "_schema_version", "") != "v1":
        return []  # its tables have no column that would say so
    from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
    from sqlalchemy import select

    assert isinstance(catalog, SqlCatalog)
    asked = select(IcebergTables.table_name).where(
        IcebergTables.catalog_name == catalog.name,
        IcebergTables.table_namespace == ".".join(levels),
        IcebergTables.iceberg_type == "VIEW",
    )
    with catalog.engine.connect() as connection:
        return [str(row[0]) for row in connection.execute(asked)]
