"""Drop a table of a catalog that deletes files itself, or doesn't.

A catalog is asked to delete a dropped table's files (``purgeRequested``). Polaris and
Glue refuse that, S3 Tables refuses to drop without it. Where it is refused, the table is
dropped without, and the files that this project wrote are deleted here. A note of them is
written first, so that the same call again finishes what a killed one left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyiceberg.exceptions import ForbiddenError, NoSuchTableError

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.commit import capabilities, dropped_files
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import is_no, sentence
from seeknal_iceberg.names import quote

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

log = logging.getLogger("seeknal")


def drop(
    context: ExecutionContext,
    catalog: Catalog,
    parts: tuple[str, ...],
    table: Table,
    *,
    quiet: bool = False,
) -> None:
    """Drop a table that was loaded a moment ago, with the files that may be deleted.

    Args:
        quiet: nothing is said of files that stay.

    Raises:
        WriteRefused: the catalog refuses to drop it.
    """
    connection = catalogs.of(context)
    asks = connection.purge != "no"
    refusal: Exception | None = None
    if asks and (connection.purge == "yes" or capabilities.of(context).purges is not False):
        refusal = _refused(lambda: catalog.purge_table(parts), catalog, parts)
        if refusal is None:
            dropped_files.forget_writes(context, catalog, parts)
            return
        if connection.purge == "yes":
            raise WriteRefused(
                f"{quote(parts)}: the catalog refuses to drop it with its files: "
                f"{sentence(refusal)}",
                f"set connections.{connection.name}.purge: auto in the profile, which drops it "
                "without, and deletes the files that Seeknal wrote",
                target=quote(parts),
            ) from refusal
    note = dropped_files.Note.of_written(context, parts, table)
    note.write(context)
    again = _refused(lambda: catalog.drop_table(parts), catalog, parts)
    if again is not None:
        note.remove(context)
        advice = (
            "ask for the right to drop it"
            if asks
            else f"set connections.{connection.name}.purge: auto in the profile: some catalogs "
            "drop a table only with its files"
        )
        raise WriteRefused(
            f"{quote(parts)}: the catalog refuses to drop it: {sentence(again)}",
            advice,
            target=quote(parts),
        ) from again
    if refusal is not None:
        capabilities.learn(context, purges=False)
    dropped_files.finish(context, catalog, note, table.io)
    if not quiet:
        _report_kept(parts, table, note, refusal)


def _report_kept(
    parts: tuple[str, ...],
    table: Table,
    note: dropped_files.Note,
    refusal: Exception | None,
) -> None:
    """Log which files of a dropped table stay.

    Args:
        refusal: the catalog's, where it was asked to delete them.
    """
    many = len(note.files)
    deleted = (
        f"Seeknal deleted {'the file' if many == 1 else f'the {many:,} files'} that it wrote; other "
        "metadata, and what others wrote, stay"
        if many
        else "Seeknal had written none into it; what is there stays"
    )
    log.warning(
        "%s: dropped without its files%s: %s in %s",
        quote(parts),
        f", which the catalog refuses to delete ({sentence(refusal)})" if refusal else "",
        deleted,
        table.metadata.location,
    )


def _refused(
    request: Callable[[], object], catalog: Catalog, parts: tuple[str, ...]
) -> Exception | None:
    """Send a request to drop a table; return why it is refused, None if the table is gone."""
    try:
        request()
    except NoSuchTableError:
        pass  # an answer got lost, and the request was repeated
    # The error doesn't matter: what counts is whether the table is gone.
    except Exception as error:
        if _is_gone(catalog, parts):
            return None
        if not is_no(error):
            raise
        return error
    return None


def _is_gone(catalog: Catalog, parts: tuple[str, ...]) -> bool:
    try:
        return catalogs.load(catalog, parts) is None
    except ForbiddenError:
        return True  # it could be loaded a moment ago; some catalogs forbid what is absent
    except Exception:  # noqa: BLE001 - if the catalog doesn't answer, nothing is known
        return False
