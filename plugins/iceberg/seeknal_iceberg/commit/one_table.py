"""Commits, and finds out the outcome.

A commit is a compare-and-set, so it may be sent again whenever it has certainly not
landed. Whatever the catalog answers but "done", the table itself decides: each
write leaves its id in the summary of the Iceberg snapshot that it makes. A proxy
that sends a request twice answers 409 for a commit that landed, so nothing of a
write is deleted before the table was loaded again and the id looked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
    UnauthorizedError,
    ValidationException,
)
from pyiceberg.table import CreateTableTransaction
from pyiceberg.table.update import AssertCreate, AssertTableUUID, TableRequirement

from seeknal_core.contract.errors import Unreachable
from seeknal_iceberg.commit.updates import fence_tag, head_is, without_fences
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import is_no, is_unanswered
from seeknal_iceberg.ledger import ledger

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table, Transaction

    from seeknal_iceberg.connection.profile import IcebergConnection

#: Seconds for which a lost answer is looked for in the table.
LOST_ANSWER = 20.0
#: Another writer was faster; the commit has not landed, unless the table says so.
MOVED = (CommitFailedException, ValidationException, TableAlreadyExistsError, NoSuchTableError)
#: The catalog refused; the commit has not landed, unless the table says so.
REFUSED = (ForbiddenError, UnauthorizedError, BadRequestError, NoSuchNamespaceError)


class OutcomeUnknown(Unreachable):
    """The catalog stopped answering during a commit; nothing of the write may be deleted."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of a commit.

    ``table`` has the write in it; it is None if the write has to look again.
    ``unanswered`` is the failure after which the commit has not landed and still may,
    so that nothing it names may be deleted. ``conflict`` is what the catalog said of one
    that certainly has not landed.
    """

    table: Table | None
    unanswered: Exception | None = None
    conflict: Exception | None = None


def send(transaction: Transaction, write_id: str = "") -> Table:
    """Commit by the catalog's own call.

    pyiceberg's `commit_transaction` deletes the manifests of a commit that the catalog
    answers with 409, which it also does where the commit landed.

    Args:
        write_id: of a write that requires that nobody has set its fence; see `fences`.
    """
    table = transaction._table
    if isinstance(transaction, CreateTableTransaction):
        table._do_commit(updates=transaction._updates, requirements=(AssertCreate(),))
        return table
    same = AssertTableUUID(uuid=transaction.table_metadata.table_uuid)
    requirements: tuple[TableRequirement, ...] = (*transaction._requirements, same)
    # Nothing can be tagged in a table without a snapshot.
    if write_id and table.metadata.current_snapshot_id is not None:
        requirements = (*requirements, head_is(None, fence_tag(write_id)))
    # Fences on the table don't matter: this commit moves it from where their commits began.
    made = (*transaction._updates, *without_fences(table.metadata))
    table._do_commit(updates=made, requirements=requirements)
    return table


def commit(
    transaction: Transaction,
    catalog: Catalog,
    connection: IcebergConnection,
    parts: tuple[str, ...],
    write_id: str,
    name: str,
    *,
    fenced: bool,
) -> Outcome:
    """Commit once, and look into the table where the answer is not "done".

    Args:
        fenced: the commit requires that its fence is not set.

    Raises:
        OutcomeUnknown: the catalog can no longer be asked.
    """
    try:
        return Outcome(table=send(transaction, write_id if fenced else ""))
    except Exception as error:  # noqa: BLE001 - a lost answer looks like any failure of any library below; the table decides
        is_new = isinstance(transaction, CreateTableTransaction)
        return _find_out(error, catalog, connection, parts, write_id, name, is_new=is_new)


def _find_out(
    error: Exception,
    catalog: Catalog,
    connection: IcebergConnection,
    parts: tuple[str, ...],
    write_id: str,
    name: str,
    *,
    is_new: bool,
) -> Outcome:
    answered = isinstance(error, MOVED + REFUSED) or is_no(error)
    wanted = 1 if answered else 2
    ask = catalogs.look if is_new else catalogs.load
    deadline = time.monotonic() + LOST_ANSWER
    pause = 0.0 if answered else 0.2
    looks = 0
    while time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(max(pause, 0.1) * 2, 3.0)
        try:
            table = ask(catalog, parts)
        except Exception:  # noqa: BLE001 - a failure here only means that there is no answer yet
            if isinstance(error, REFUSED):
                raise error from None  # who may not write may be unable to read, too
            continue
        if table is not None and ledger.has_landed(table.metadata, write_id):
            return Outcome(table=table)
        looks += 1
        if looks < wanted:
            continue
        if isinstance(error, MOVED):
            return Outcome(table=None, conflict=error)
        # Should it still land, the next attempt's compare-and-set fails, and
        # the look after that finds the write id.
        if not answered and is_unanswered(error, connection):
            return Outcome(table=None, unanswered=error)
        raise error
    raise OutcomeUnknown(
        f"{name}: the catalog fell silent during the commit; whether it landed is not known",
        "run again: it finds out, and never adds rows twice",
        target=name,
    ) from error
