"""Begin a write's transaction: the table as it will be, before any file is placed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.table import (
    CreateTableTransaction,
    StagedTable,
    Table,
    TableProperties,
    Transaction,
)

from seeknal_core.contract.errors import NamespaceRefused, WriteRefused
from seeknal_core.contract.types import SchemaChange, Target
from seeknal_iceberg.commit import unfinished
from seeknal_iceberg.connection.profile import IcebergConnection
from seeknal_iceberg.types import partitions
from seeknal_iceberg.types.schema import Column, new_schema
from seeknal_iceberg.write import declared, evolution

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table.metadata import TableMetadata


class _Computed(Transaction):
    """A transaction that computes the metadata once after each change, not at each look.

    pyiceberg applies all changes again, and copies the result, whenever it is looked at: some
    twenty times for a write. Nobody changes what is returned.
    """

    _known: tuple[object, object, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        """The table's metadata with the changes so far."""
        base, updates = self._table.metadata, self._updates
        known = self._known
        if known is None or known[0] is not base or known[1] is not updates:
            self._known = known = (base, updates, super().table_metadata)
        return known[2]


class _Creation(_Computed, CreateTableTransaction):
    """The same, of a table that is begun."""


def of(table: Table) -> Transaction:
    """Return a transaction on a table that is there."""
    return _Computed(table)


def begin_new(
    connection: IcebergConnection,
    catalog: Catalog,
    target: Target,
    columns: Sequence[Column],
    write_id: str,
    make_namespace: Callable[[bool], None],
    create: Callable[[unfinished.NewTable], Table] | None = None,
    *,
    stages: bool = True,
) -> Transaction:
    """Begin making a table; nobody sees it before the commit, where the catalog can begin one.

    Args:
        make_namespace: called before the catalog is asked, with whether the table's
            place is known without its namespace.
        create: creates one that is not finished, where the catalog can't; see `commit.unfinished`.
        stages: the catalog is asked to begin one.

    Raises:
        WriteRefused: ``partition_by`` or ``sort_order`` is wrong.
        NamespaceRefused: the namespace cannot be made.
    """
    parts = target.name.parts
    # With the ids that the catalog will give, so that the spec names the right columns.
    schema = assign_fresh_schema_ids(new_schema(columns))
    wanted = partitions.parse(target.partition_by, schema, str(target.name))
    order = declared.sort_order(target, schema)
    _check_levels(connection, target)
    location = location_of(catalog, connection, parts, write_id)
    make_namespace(location is not None)
    new = unfinished.NewTable(
        schema=schema,
        spec=partitions.spec_for(wanted, schema),
        order=order,
        properties={TableProperties.FORMAT_VERSION: "2", **declared.new_properties(target)},
    )
    if stages or create is None:
        try:
            begun = catalog.create_table_transaction(
                identifier(connection, parts),
                new.schema,
                location=location,
                partition_spec=new.spec,
                sort_order=new.order,
                properties=new.properties,
            )
            return _Creation(cast("StagedTable", begun._table))
        except Exception as error:
            if create is None or not unfinished.refuses_staging(error):
                raise
    # The refusal may also concern this table; then it is refused once more.
    return of(create(new))


def identifier(connection: IcebergConnection, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the name by which a catalog makes a table.

    A SQL catalog keeps the levels as one dotted string, but makes a table only where
    it is given them so.
    """
    if connection.catalog_type != "sql":
        return parts
    return (".".join(parts[:-1]), parts[-1])


def _check_levels(connection: IcebergConnection, target: Target) -> None:
    """Refuse namespaces that pyiceberg could write for this catalog and not read again."""
    kind, levels = connection.catalog_type, target.name.parts[:-1]
    if len(levels) > 1 and kind not in ("rest", "sql"):
        raise NamespaceRefused(
            f"{target.name}: a catalog of type {kind} has namespaces of one level",
            "write catalog.namespace.table",
            target=str(target.name),
        )
    if kind == "sql" and not all(part.strip() for part in ".".join(levels).split(".")):
        raise NamespaceRefused(
            f"{target.name}: a SQL catalog cannot keep a level that begins or ends with a dot, "
            "or has two in a row",
            "choose another namespace",
            target=str(target.name),
        )


def location_of(
    catalog: Catalog, connection: IcebergConnection, parts: tuple[str, ...], write_id: str
) -> str | None:
    """Return a new table's location where no server chooses it, else None.

    Unique for each write, and without odd characters.
    """
    warehouse = catalog.properties.get("warehouse")
    if connection.catalog_type != "sql" or not warehouse:
        return None
    words = [re.sub(r"[^A-Za-z0-9_-]+", "_", part)[:60] for part in parts]
    return "/".join([str(warehouse).rstrip("/"), *words]) + f"-{write_id[:8]}"


def begin(table: Table, target: Target, changes: evolution.Changes) -> Transaction:
    """Begin a change of a table, with its schema and partitioning as they will be.

    Raises:
        WriteRefused: ``partition_by`` or ``sort_order`` is wrong, or differs where nothing may change.
    """
    transaction = of(table)
    evolution.apply(transaction, changes)
    if target.partition_by:
        _repartition(transaction, target)
    declared.apply(transaction, target)
    return transaction


def _repartition(transaction: Transaction, target: Target) -> None:
    metadata = transaction.table_metadata
    name = str(target.name)
    wanted = partitions.parse(target.partition_by, metadata.schema(), name)
    if not partitions.differs(wanted, metadata):
        return
    if target.on_schema_change is SchemaChange.FAIL:
        raise WriteRefused(
            f"{name}: on_schema_change is fail, and the table is partitioned otherwise",
            "set on_schema_change: evolve, or take partition_by back",
            target=name,
        )
    partitions.evolve(transaction, wanted)
