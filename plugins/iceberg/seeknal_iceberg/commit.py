"""Commit, and know what became of it.

A commit is a compare-and-set, so it may be asked for again whenever it has
surely not landed. Where the answer is lost the table itself is asked: each
write leaves its id in the summary of the Iceberg snapshot it makes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
    UnauthorizedError,
    ValidationException,
)

from seeknal_core.errors import Unreachable
from seeknal_iceberg import catalog as catalogs
from seeknal_iceberg import ledger
from seeknal_iceberg.failures import translate

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table, Transaction

    from seeknal_iceberg.connection import IcebergConnection

#: Seconds for which a lost answer is looked for in the table.
LOST_ANSWER = 20.0
#: Somebody else was faster; the commit has not landed.
_MOVED = (CommitFailedException, ValidationException, TableAlreadyExistsError, NoSuchTableError)
#: The catalog says no; the commit has not landed.
_REFUSED = (ForbiddenError, UnauthorizedError, BadRequestError, NoSuchNamespaceError)


class OutcomeUnknown(Unreachable):
    """The catalog fell silent during a commit; nothing of the write may be deleted."""


def commit(
    transaction: Transaction,
    catalog: Catalog,
    connection: IcebergConnection,
    parts: tuple[str, ...],
    write_id: str,
    name: str,
) -> Table | None:
    """Commit once.

    Returns:
        The table with the write in it, or None where the commit did not land and
        the write has to look at the table again.

    Raises:
        OutcomeUnknown: the catalog can no more be asked.
    """
    try:
        return transaction.commit_transaction()
    except _MOVED:
        return None
    except _REFUSED:
        raise
    # A lost answer looks like any failure of any library below; the table decides.
    except Exception as error:  # noqa: BLE001
        return _find_out(error, catalog, connection, parts, write_id, name)


def _find_out(
    error: Exception,
    catalog: Catalog,
    connection: IcebergConnection,
    parts: tuple[str, ...],
    write_id: str,
    name: str,
) -> Table | None:
    deadline = time.monotonic() + LOST_ANSWER
    pause = 0.2
    looks = 0
    while time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 2, 3.0)
        try:
            table = catalogs.load(catalog, parts)
        # Whatever fails here, it only means that there is no answer yet.
        except Exception:  # noqa: BLE001
            continue
        if table is not None and ledger.landed(table.metadata, write_id) is not None:
            return table
        looks += 1
        if looks == 2:
            # Should it still land, the next attempt's compare-and-set fails, and
            # the look after that finds the write id.
            if _may_be_tried_again(error, connection):
                return None
            raise error
    raise OutcomeUnknown(
        f"{name}: the catalog fell silent during the commit; whether it landed is not known",
        "run again: it finds out, and never adds rows twice",
        target=name,
    ) from error


def _may_be_tried_again(error: Exception, connection: IcebergConnection) -> bool:
    return isinstance(error, CommitStateUnknownException) or isinstance(
        translate(error, connection), Unreachable
    )
