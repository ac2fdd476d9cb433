"""What is at a target's place: a table, its columns, its owner and its version."""

from __future__ import annotations

from seeknal_core.contract.types import (
    ExecutionContext,
    Target,
    TargetColumn,
    TargetState,
)
from seeknal_iceberg.commit import capabilities
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.ledger.versions import mark_of, version_of
from seeknal_iceberg.source import staged_rows


def inspect(context: ExecutionContext, target: Target) -> TargetState:
    """Return what is at a target's place; makes nothing, not even an embedded catalog."""
    connection = catalogs.of(context)
    identity = catalogs.identity(connection, target.name.parts)
    if target.staged is not None:
        columns = staged_rows.columns(context, target, target.staged)
        return TargetState(exists=True, identity=identity, columns=columns)
    if catalogs.absent(connection):
        return TargetState(exists=False, identity=identity)
    catalog = catalogs.open_catalog(context)
    with translating(connection, str(target.name)):
        table = catalogs.look(catalog, target.name.parts)
    if table is None or ledger.begun_by(context, target.name.parts, table.metadata) is not None:
        return TargetState(
            exists=False,
            identity=identity,
            table_id=capabilities.place_of(context, target.name.parts),
            notes=capabilities.of(context).sentences(),
            foresees=bool(capabilities.aws_service(catalog)),
        )
    capabilities.saw(context, table.metadata)
    return TargetState(
        exists=True,
        identity=identity,
        columns=tuple(
            TargetColumn(name=field.name, type=str(field.field_type))
            for field in table.schema().fields
        ),
        version=version_of(table.metadata),
        owner=ledger.owner(table.properties),
        generation=ledger.generation(context, table.properties),
        table_id=str(table.metadata.table_uuid),
        mark=mark_of(table.metadata),
        notes=capabilities.of(context).sentences(),
    )
