"""Commit, and know what became of it.

A commit is a compare-and-set, so it may be asked for again whenever it has
surely not landed. Where the answer is lost the table itself is asked: each
write leaves its id in the summary of the Iceberg snapshot it makes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
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
REFUSED = (ForbiddenError, UnauthorizedError, BadRequestError, NoSuchNamespaceError)


class OutcomeUnknown(Unreachable):
    """The catalog fell silent during a commit; nothing of the write may be deleted."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of a commit.

    ``table`` has the write in it; it is None where the write has to look again.
    ``may_land``: the commit has not landed and still may, so that nothing it
    names may be deleted.
    """

    table: Table | None
    may_land: bool = False


def commit(
    transaction: Transaction,
    catalog: Catalog,
    connection: IcebergConnection,
    parts: tuple[str, ...],
    write_id: str,
    name: str,
) -> Outcome:
    """Commit once.

    Raises:
        OutcomeUnknown: the catalog can no more be asked.
    """
    try:
        return Outcome(table=transaction.commit_transaction())
    except _MOVED:
        return Outcome(table=None)
    except REFUSED:
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
) -> Outcome:
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
            return Outcome(table=table)
        looks += 1
        if looks == 2:
            # Should it still land, the next attempt's compare-and-set fails, and
            # the look after that finds the write id.
            if _may_be_tried_again(error, connection):
                return Outcome(table=None, may_land=True)
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
