"""Tests a catalog for ``seeknal check --connections``: what answers, and what is allowed."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
from pyiceberg.exceptions import NoSuchNamespaceError
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from seeknal_core.contract.errors import BackendError, NamespaceRefused, SeeknalError, WriteRefused
from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.commit import capabilities, drop_table, unfinished
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import (
    is_no,
    is_unanswered,
    sentence,
    translate,
    translating,
    wait_of,
)
from seeknal_iceberg.connection.namespaces import ensure_namespace
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from seeknal_iceberg.connection.rest.tokens import ClientCredentials, NoToken
from seeknal_iceberg.connection.storage import access
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.names import quote

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from seeknal_iceberg.connection.profile import IcebergConnection

T = TypeVar("T")

#: Namespaces whose tables are listed, to find one to read.
_NAMESPACES = 5
#: Where `--write` makes its table, and how the table's name begins.
_NAMESPACE = "seeknal_check"
_PROBE = "probe_"
#: Seconds after which the table of another check is one that was killed.
_OLD = 3600.0
#: How often a table is made where the catalog is busy or fails.
_TRIES = 4


def check(context: ExecutionContext, write: bool = False) -> str:
    """Test the catalog of the call's connection and return the findings, one line each.

    Args:
        write: also make a table in a namespace of its own, read it, and drop both.

    Raises:
        BackendError: it does not answer, or refuses what every command needs.
    """
    connection = catalogs.of(context)
    if catalogs.absent(connection) and not write:
        return f"embedded catalog, made on first write at {connection.sqlite_file}"
    catalog = catalogs.open_catalog(context)
    with translating(connection):
        namespaces = catalog.list_namespaces()
        can = capabilities.of(context)
    kind = "embedded" if connection.embedded else connection.catalog_type
    many = len(namespaces)
    lines = [f"{kind} catalog, {many} namespace{'' if many == 1 else 's'}"]
    if isinstance(catalog, PatientRestCatalog):
        lines += _rest(catalog)
        tables = list(_some_tables(catalog, namespaces))
        lines.append(_keys(catalog, tables[0] if tables else None))
        lines += _files(connection, tables, write)
    lines += can.sentences()
    if write:
        lines += _Trial(context, catalog).run()
    return "\n".join(lines)


def _rest(catalog: PatientRestCatalog) -> Iterator[str]:
    address = catalog.uri.rstrip("/")
    prefix = str(catalog.properties.get("prefix", ""))
    yield f"configuration: {address}/v1/config" + (f", prefix {prefix}" if prefix else "")
    manager = catalog._auth_manager
    if isinstance(manager, ClientCredentials):
        yield f"token: {manager.describe()}"
    elif str(catalog.properties.get("rest.sigv4-enabled", "")).lower() == "true":
        yield "token: none; requests are signed for AWS"
    else:
        yield "token: none" if isinstance(manager, NoToken) else "token: accepted"


def _some_tables(catalog: Catalog, namespaces: list[tuple[str, ...]]) -> Iterator[Table]:
    """Load the first table of some namespaces."""
    for levels in namespaces[:_NAMESPACES]:
        # Others' namespaces may be closed to this user.
        with contextlib.suppress(Exception):
            for parts in catalog.list_tables(levels)[:1]:
                table = catalogs.load(catalog, tuple(parts))
                if table is not None:
                    yield table


def _files(connection: IcebergConnection, tables: list[Table], write: bool) -> list[str]:
    """Return whether files can be read: one table is enough, for others' may be closed.

    Args:
        write: a table is made afterwards, which decides.

    Raises:
        BackendError: of no table can they be read.
    """
    closed: SeeknalError | None = None
    for table in tables:
        name = quote(table.name())
        try:
            there = table.io.new_input(table.metadata_location).exists()
        # No matter what the storage says.
        except Exception as error:
            known = error if isinstance(error, SeeknalError) else translate(error, connection)
            if known is None:
                raise
            said = f"the files of {name} can't be read: {known}"
            closed = closed or BackendError(said, _hint(connection, error, known))
        else:
            return [f"storage: the files of {name} " + ("can be read" if there else "are gone")]
    if closed is None:
        return []
    if not write:
        raise closed
    return [f"storage: {closed}"]


def _hint(connection: IcebergConnection, error: Exception, known: SeeknalError) -> str:
    """Return the hint for files that can't be read; this command itself is not a hint."""
    if known is error and known.hint:
        return known.hint
    what = known.hint
    if not what or "check --connections" in what:
        place = f"connections.{connection.name}.catalog"
        what = f"check the storage's keys, s3.endpoint and the like in {place}"
    return (
        f"{what}; where those tables are others', seeknal check --connections --write tries "
        "one of its own"
    )


def _keys(catalog: PatientRestCatalog, table: Table | None) -> str:
    """Return whose keys open files."""
    if access.has_keys(catalog.profile):
        return "keys: those of the profile"
    if table is None:
        return "keys: asked for with each table; there is no table yet to ask for"
    found = catalog.access_of(table)
    if found is None:
        return "keys: those of py-io-impl"
    if found.vended:
        return "keys: they come from the catalog with each table"
    if found.signed_only:
        return "keys: none; the catalog offers remote signing only, which can't write"
    return "keys: AWS's own (AWS_*)"


class _Trial:
    """A namespace and a table that are made, read and dropped.

    The namespace has one name: some catalogs keep it for a while with what was dropped in
    it. The table has another one each time, for another check may be under way.
    """

    def __init__(self, context: ExecutionContext, catalog: Catalog) -> None:
        self._context, self._catalog = context, catalog
        self._connection = catalogs.of(context)
        self._levels = (_NAMESPACE,)
        self._parts = (*self._levels, f"{_PROBE}{uuid.uuid4().hex[:8]}")

    def run(self) -> list[str]:
        """Run the trial, and return what worked.

        Raises:
            WriteRefused, BackendError: a right is missing, by name, or it fails.
        """
        lines: list[str] = []
        known = capabilities.of(self._context).sentences()
        made = self._step("create a namespace", self._make_namespace)
        self._clean()
        try:
            table = self._step("create a table and write to it", self._make_table)
            try:
                self._step("read a table", lambda: self._read(table))
                lines.append("write: a namespace and a table were made, read and dropped")
                if self._folds():
                    capabilities.learn(self._context, folds_case=True)
                    lines.append("names: those that differ only in case are one")
            finally:
                self._step("drop a table", self._drop)
        finally:
            if made:
                lines += self._drop_namespace()
        found = capabilities.of(self._context)
        lines += [said for said in found.sentences() if said not in known]
        purges = found.purges
        if purges is False:
            lines.append("purge: refused; dropped tables lose the files that Seeknal wrote")
        elif not catalogs.is_sql(self._connection):
            lines.append("purge: the catalog takes it over to delete a dropped table's files")
        return lines

    def _step(self, what: str, action: Callable[[], T]) -> T:
        name = quote(self._parts)
        try:
            with translating(self._connection, name):
                return action()
        except (WriteRefused, NamespaceRefused) as error:
            raise self._refused(what, str(error)) from error

    def _refused(self, what: str, words: str) -> WriteRefused:
        return WriteRefused(
            f"the right to {what} is missing: {words}",
            f"ask for the right to {what} in this catalog",
            target=quote(self._parts),
        )

    def _make_namespace(self) -> bool:
        ensure_namespace(
            self._catalog, self._connection, self._levels, ledger.made_by(self._context)
        )
        return True

    def _make_table(self) -> Table:
        schema = Schema(NestedField(1, "id", LongType(), required=False))
        name = self._parts
        if catalogs.is_sql(self._connection):
            name = (".".join(self._levels), self._parts[-1])
        for attempt in range(1, _TRIES + 1):
            try:
                self._create(name, schema)
                break
            except NoSuchNamespaceError:
                # Another check dropped it a moment ago.
                if attempt == _TRIES:
                    raise
                self._make_namespace()
            except Exception as error:
                # A busy catalog is waited for; an answer may be lost after the commit landed.
                if attempt == _TRIES or not is_unanswered(error, self._connection):
                    raise
                if catalogs.load(self._catalog, self._parts) is not None:
                    break
                time.sleep(wait_of(error, 0.5 * attempt))
        return catalogs.existing(self._context, self._parts)

    def _create(self, name: tuple[str, ...], schema: Schema) -> None:
        """Make the table with a row, as the catalog can."""
        properties = {"format-version": "2", **ledger.made_by(self._context)}
        row = pa.table({"id": [1]})
        on_rest = isinstance(self._catalog, PatientRestCatalog)
        if not on_rest or capabilities.of(self._context).stages is not False:
            try:
                with self._catalog.create_table_transaction(
                    name, schema, properties=properties
                ) as transaction:
                    transaction.append(row)
                return
            except NoSuchNamespaceError:
                raise
            except Exception as error:
                if not on_rest or not unfinished.refuses_staging(error):
                    raise
        table = self._catalog.create_table(name, schema, properties=properties)
        capabilities.learn(self._context, stages=False)
        table.append(row)
        other = (*name[:-1], f"{name[-1]}_renamed")
        # Where nothing says whether it renames tables, this does.
        with contextlib.suppress(unfinished.NoRename):
            renamed = unfinished.rename(self._context, self._catalog, table, other)
            if renamed is not None:
                unfinished.rename(self._context, self._catalog, renamed, name)

    def _clean(self) -> None:
        """Drop the tables of checks that were killed; if anything fails here, they stay."""
        with contextlib.suppress(Exception):
            for listed in self._catalog.list_tables(self._levels):
                parts = (*self._levels, listed[-1])
                table = catalogs.load(self._catalog, parts)
                if table is None or not parts[-1].startswith(_PROBE):
                    continue
                old = time.time() * 1000 - table.metadata.last_updated_ms > _OLD * 1000
                if old and ledger.owner(table.properties) is not None:
                    drop_table.drop(self._context, self._catalog, parts, table, quiet=True)

    def _read(self, table: Table) -> None:
        rows = table.scan().to_arrow().num_rows
        if rows != 1:
            raise BackendError(
                f"{quote(self._parts)}: 1 row was written and {rows} read",
                "see what stands between this machine and the catalog",
            )

    def _folds(self) -> bool:
        other = (*self._levels, self._parts[-1].upper())
        try:
            return catalogs.load(self._catalog, other) is not None
        except Exception:  # noqa: BLE001 - a catalog may refuse such a name, or forbid it
            return False

    def _drop(self) -> None:
        table = catalogs.load(self._catalog, self._parts)
        if table is not None:
            drop_table.drop(self._context, self._catalog, self._parts, table)

    def _drop_namespace(self) -> list[str]:
        try:
            found = self._catalog.load_namespace_properties(self._levels)
            if f"{ledger.PREFIX}project" not in found:
                return []  # somebody else's, by its properties
            self._catalog.drop_namespace(self._levels)
        except NoSuchNamespaceError:
            return []
        # A catalog that keeps dropped tables for a while keeps their namespace, too.
        except Exception as error:
            if not is_no(error) and "NotEmpty" not in type(error).__name__:
                raise
            if self._holds_others():
                return []  # another check is under way, which drops it
            return [
                f"namespaces: {quote(self._levels)} stays for now, and is used again: "
                f"{sentence(error)}"
            ]
        return []

    def _holds_others(self) -> bool:
        try:
            return bool(self._catalog.list_tables(self._levels))
        except Exception:  # noqa: BLE001 - if the catalog doesn't answer, nothing is known
            return False
