"""Commit changes of tables: several in one, where the catalog can, and know the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from pyiceberg.table import CommitTableRequest, Namespace, TableIdentifier

from seeknal_core.types import ExecutionContext
from seeknal_iceberg import catalog as catalogs
from seeknal_iceberg.rest import PatientRestCatalog

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.update import TableRequirement, TableUpdate


@attrs.frozen(kw_only=True)
class Change:
    """A change of one table, and what has to hold for it."""

    table: Table
    requirements: tuple[TableRequirement, ...]
    updates: tuple[TableUpdate, ...]


def at_once(context: ExecutionContext, catalog: Catalog) -> bool:
    """Tell whether the catalog commits several tables at once; it is asked once per command."""
    if not isinstance(catalog, PatientRestCatalog):
        return False
    key = ("iceberg-commits-tables", catalogs.of(context))
    answer: bool = context.resources.get(key, catalog.commits_tables, lambda _: None)
    return answer


def commit(context: ExecutionContext, catalog: Catalog, changes: Sequence[Change]) -> None:
    """Commit changes: all or none where the catalog can, else one after the other.

    Raises what pyiceberg raises; where it does, some may have landed one by one.
    """
    if len(changes) > 1 and at_once(context, catalog):
        assert isinstance(catalog, PatientRestCatalog)
        catalog.commit_tables([_request(change) for change in changes])
        return
    for change in changes:
        catalog.commit_table(change.table, change.requirements, change.updates)


def _request(change: Change) -> CommitTableRequest:
    name = change.table.name()
    return CommitTableRequest(
        identifier=TableIdentifier(namespace=Namespace(root=list(name[:-1])), name=name[-1]),
        requirements=change.requirements,
        updates=change.updates,
    )
