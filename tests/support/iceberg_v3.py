"""Make a table of Iceberg's format version 3, which pyiceberg 0.12 reads and doesn't write.

https://iceberg.apache.org/spec/#version-3-extended-types-and-capabilities
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from pyiceberg.io import OutputFile
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.typedef import Record
from pyroaring import BitMap
from sqlalchemy import text

_DV_MAGIC = b"\xd1\xd3\x39\x64"


class _DeletesV3(ManifestWriterV2):
    """Writes a manifest of deletion vectors."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def version(self) -> Any:
        return 3

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def upgrade(
    catalog: Any,
    name: str,
    *,
    deleted: Sequence[int] = (),
    columns: Sequence[dict[str, Any]] = (),
) -> None:
    """Make a table of a SQL catalog one of format version 3, by new metadata.

    Args:
        deleted: rows of its only data file that a deletion vector deletes.
        columns: fields that are added to its schema, as in the metadata's JSON.
    """
    table = catalog.load_table(name)
    metadata = json.loads(table.metadata.model_dump_json())
    metadata |= {"format-version": 3, "next-row-id": 1000}
    for schema in metadata["schemas"]:
        schema["fields"] += columns
        for field in columns:
            metadata["last-column-id"] = max(metadata["last-column-id"], field["id"])
    if deleted:
        _delete(table, metadata, deleted)
    path = f"{table.metadata.location}/metadata/99999-v3.metadata.json"
    with table.io.new_output(path).create(overwrite=True) as stream:
        stream.write(json.dumps(metadata).encode())
    with catalog.engine.begin() as connection:
        # Not registered: pyiceberg would read it first.
        connection.execute(
            text("UPDATE iceberg_tables SET metadata_location = :path WHERE table_name = :name"),
            {"path": path, "name": name.rpartition(".")[2]},
        )


def _delete(table: Any, metadata: dict[str, Any], deleted: Sequence[int]) -> None:
    (task,) = table.scan().plan_files()
    location = f"{table.metadata.location}/metadata"
    blob = _vector(deleted)
    puffin, size = _puffin(table.io.new_output(f"{location}/v3.puffin"), blob, task.file.file_path)
    snapshot = table.current_snapshot()
    vector = DataFile.from_args(
        _table_format_version=3,
        content=DataFileContent.POSITION_DELETES,
        file_path=puffin,
        file_format=FileFormat.PUFFIN,
        partition=Record(),
        record_count=len(deleted),
        file_size_in_bytes=size,
        referenced_data_file=task.file.file_path,
        content_offset=4,
        content_size_in_bytes=len(blob),
    )
    vector.spec_id = 0
    number, sequence = snapshot.snapshot_id + 1, metadata["last-sequence-number"] + 1
    output = table.io.new_output(f"{location}/v3-deletes.avro")
    with _DeletesV3(table.spec(), table.schema(), output, number, "deflate") as writer:
        writer.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED, snapshot_id=number, data_file=vector
            )
        )
    listed = f"{location}/v3-list.avro"
    # The list of version 2 has all that a reader needs here.
    with write_manifest_list(
        2, table.io.new_output(listed), number, snapshot.snapshot_id, sequence, "deflate"
    ) as writing:
        writing.add_manifests([*snapshot.manifests(table.io), writer.to_manifest_file()])
    made = {
        "snapshot-id": number,
        "parent-snapshot-id": snapshot.snapshot_id,
        "sequence-number": sequence,
        "timestamp-ms": snapshot.timestamp_ms + 1,
        "manifest-list": listed,
        "summary": {"operation": "delete"},
        "schema-id": metadata["current-schema-id"],
        "first-row-id": 0,
        "added-rows": 0,
    }
    metadata["snapshots"].append(made)
    metadata |= {"current-snapshot-id": number, "last-sequence-number": sequence}
    metadata["refs"]["main"]["snapshot-id"] = number


def _vector(deleted: Sequence[int]) -> bytes:
    """Return a ``deletion-vector-v1`` blob."""
    bitmap = BitMap(deleted).serialize()
    body = _DV_MAGIC + (1).to_bytes(8, "little") + (0).to_bytes(4, "little") + bitmap
    return len(body).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def _puffin(output: OutputFile, blob: bytes, path: str) -> tuple[str, int]:
    magic = b"PFA1"
    footer = {
        "blobs": [
            {
                "type": "deletion-vector-v1",
                "fields": [2147483645],
                "snapshot-id": -1,
                "sequence-number": -1,
                "offset": 4,
                "length": len(blob),
                "properties": {"referenced-data-file": path, "cardinality": "0"},
            }
        ]
    }
    payload = json.dumps(footer).encode()
    content = magic + blob + magic + payload + len(payload).to_bytes(4, "little") + bytes(4) + magic
    with output.create(overwrite=True) as stream:
        stream.write(content)
    return output.location, len(content)
