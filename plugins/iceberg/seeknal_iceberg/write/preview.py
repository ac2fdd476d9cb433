"""Report what a write would do to a table's columns, before it is made."""

from __future__ import annotations

import pyarrow as pa

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Snapshot, Target, WritePreview
from seeknal_iceberg.commit import capabilities
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection import views
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.types.schema import columns_of
from seeknal_iceberg.write import aws_names, declared, evolution, modes


def preview_write(context: ExecutionContext, target: Target, schema: pa.Schema) -> WritePreview:
    """Compare the columns of a write with those of the table.

    Problems that only values show (a value of a row that stays and does not fit) are not found.
    """
    name = str(target.name)
    with translating(catalogs.of(context), name):
        try:
            snapshot = Snapshot(
                node=target.node, content_key="", row_count=0, files=(), schema=schema
            )
            columns = columns_of(snapshot, name)
            catalog = catalogs.open_unmade(context)
            table = catalogs.look(catalog, target.name.parts)
            if table is None and views.is_view(catalog, target.name.parts):
                return WritePreview(
                    refused=f"{name} is a view, which is not written to", hint=views.TARGET_HINT
                )
            if table is None:
                if service := capabilities.aws_service(catalog):
                    aws_names.check_aws(service, target.name.parts)
                return WritePreview()
            mode = modes.in_force(context, target, snapshot)
            changes = evolution.of_table(table, columns, target, mode)
        except WriteRefused as error:
            return WritePreview(refused=error.message, hint=error.hint)
    words = [changes.describe()] if changes else []
    words += changes.kept(mode)
    words += declared.changes(table.metadata, target)
    return WritePreview(notes=tuple(f"{name}: {one}" for one in words))
