"""Commit changes of tables: several in one, where the catalog can, and know the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.types import ExecutionContext
from seeknal_iceberg import catalog as catalogs
from seeknal_iceberg import sending
from seeknal_iceberg.rest import NotTogether, PatientRestCatalog

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


@attrs.define(kw_only=True)
class _Known:
    """What the command knows of a catalog: whether it commits several tables at once.

    ``together`` is None where nothing tells before it is tried.
    """

    together: bool | None


def _known(context: ExecutionContext, catalog: PatientRestCatalog) -> _Known:
    key = ("iceberg-commits-tables", catalogs.of(context))
    found: _Known = context.resources.get(
        key, lambda: _Known(together=catalog.commits_tables()), lambda _: None
    )
    return found


def at_once(context: ExecutionContext, catalog: Catalog) -> bool:
    """Tell whether the catalog commits several tables at once, as far as is known.

    It is asked once per command. Where nothing tells, the first such commit does.
    """
    if not isinstance(catalog, PatientRestCatalog):
        return False
    return _known(context, catalog).together is not False


def commit(context: ExecutionContext, catalog: Catalog, changes: Sequence[Change]) -> None:
    """Commit changes: all or none where the catalog can, else one after the other.

    Raises what pyiceberg raises; where it does, some may have landed one by one.
    """
    left = list(changes)
    if len(changes) > 1 and at_once(context, catalog):
        assert isinstance(catalog, PatientRestCatalog)
        bodies = [_body(change) for change in changes]
        try:
            for group in sending.groups(bodies):
                catalog.commit_tables([bodies[number] for number in group])
                left = left[len(group) :]
            _known(context, catalog).together = True
        except NotTogether:
            # Where the reason is another one, a commit of one table says which.
            _known(context, catalog).together = False
    for change in left:
        catalog.commit_table(change.table, change.requirements, change.updates)


def _body(change: Change) -> sending.Body:
    table = change.table
    return sending.body_of(table.name(), table.metadata, change.requirements, change.updates)
