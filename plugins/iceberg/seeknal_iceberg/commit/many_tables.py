"""Commit changes of tables: several in one, where the catalog can, and know the outcome."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.commit import capabilities
from seeknal_iceberg.commit.one_table import MOVED
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import is_busy, is_unanswered, sentence, translate, wait_of
from seeknal_iceberg.connection.rest import commit_body
from seeknal_iceberg.connection.rest.rest_catalog import NotTogether, PatientRestCatalog
from seeknal_iceberg.names import quote

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.update import TableRequirement, TableUpdate


#: How often a commit is sent to a catalog that fails, or doesn't answer.
SENT = 3
#: The same, to a catalog that says that it is busy (429, 503).
BUSY = 8


@attrs.frozen(kw_only=True)
class Change:
    """A change of one table, and what has to hold for it."""

    table: Table
    requirements: tuple[TableRequirement, ...]
    updates: tuple[TableUpdate, ...]


def at_once(context: ExecutionContext, catalog: Catalog) -> bool:
    """Return whether the catalog commits several tables at once, as far as is known.

    Where nothing tells, the first such commit does.
    """
    if not isinstance(catalog, PatientRestCatalog):
        return False
    return capabilities.of(context).together is not False


def commit(context: ExecutionContext, catalog: Catalog, changes: Sequence[Change]) -> None:
    """Commit changes: all or none if the catalog can, else one after the other.

    Raises what pyiceberg raises; where it does, some may have landed one by one.
    """
    left = list(changes)
    if len(changes) > 1 and at_once(context, catalog):
        assert isinstance(catalog, PatientRestCatalog)
        bodies = [_body(change) for change in changes]
        try:
            for group in commit_body.groups(bodies):
                catalog.commit_tables([bodies[number] for number in group])
                left = left[len(group) :]
            capabilities.learn(context, together=True)
        except NotTogether:
            # Where the reason is another one, a commit of one table says which.
            capabilities.learn(context, together=False)
    for change in left:
        catalog.commit_table(change.table, change.requirements, change.updates)


def carry_out(
    context: ExecutionContext,
    catalog: Catalog,
    changes: Sequence[Change],
    is_done: Callable[[], bool],
) -> bool:
    """Commit changes that may be sent again, and find out the outcome of them.

    A failing catalog (5xx) or a lost answer is no conflict: the tables tell whether the
    commit landed, else it is sent again, `SENT` times at most, `BUSY` times where it says that it is busy.

    Args:
        is_done: loads the tables, and says whether they are as they should be.

    Returns:
        Whether it is done; False if another writer was faster.

    Raises:
        BackendError: the catalog keeps failing, with its own message.
        Exception: as pyiceberg raises it, where the catalog refuses.
    """
    connection = catalogs.of(context)
    sent = busy = 0
    while sent < SENT and busy < BUSY:
        try:
            commit(context, catalog, changes)
            return True
        except MOVED:
            return is_done()
        # A lost answer looks like any failure of any library below; the tables decide.
        except Exception as error:
            time.sleep(wait_of(error, 0.3 * 2 ** (sent + busy)))
            if is_done():
                return True
            if not is_unanswered(error, connection):
                raise
            failure = error
            busy += is_busy(error)
            sent += not is_busy(error)
    known = translate(failure, connection, changes[0].table.name()[-1])
    raise BackendError(
        f"{known or sentence(failure)}; it was asked {sent + busy} times",
        "look at the catalog's own log, then run the same command again",
        target=quote(changes[0].table.name()),
    ) from failure


def _body(change: Change) -> commit_body.Body:
    table = change.table
    return commit_body.body_of(table.name(), table.metadata, change.requirements, change.updates)
