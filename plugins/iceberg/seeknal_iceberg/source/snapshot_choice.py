"""Chooses what a source reads of a table: a snapshot, a time, a tag, or a branch."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.options import nearest
from seeknal_iceberg.ledger import ledger

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

    from seeknal_iceberg.source.options import IcebergSourceOptions

#: How many snapshots, tags or branches a message lists.
_LISTED = 5


@attrs.frozen(kw_only=True)
class Choice:
    """The part of a table that is read.

    ``metadata`` has the schema of the rows as its current one, by which pyiceberg binds
    filters. ``snapshot_id`` is the iceberg_snapshot_id to scan by, None for the metadata's
    current one. ``words`` end a message about a column that is not there.
    """

    metadata: TableMetadata
    snapshot_id: int | None = None
    words: str = ""


def choose(metadata: TableMetadata, options: IcebergSourceOptions, name: str) -> Choice:
    """Find what the options of a source name in a table.

    A branch has the table's columns, as in other engines; a snapshot, whether it is named by
    its id, a moment or a tag, has its own.

    Raises:
        BackendError: the table has no such snapshot, tag or branch (any more).
    """
    if options.branch is not None:
        head = _ref(metadata, options.branch, SnapshotRefType.BRANCH, name)
        return Choice(metadata=metadata.model_copy(update={"current_snapshot_id": head}))
    if options.tag is not None:
        chosen = _ref(metadata, options.tag, SnapshotRefType.TAG, name)
    elif options.as_of is not None:
        chosen = _at(metadata, str(options.as_of), name)
    elif options.snapshot_id is not None:
        chosen = int(options.snapshot_id)
    else:
        return Choice(metadata=metadata)
    return Choice(
        metadata=_with_schema_of(metadata, chosen, name),
        snapshot_id=chosen,
        words=" in that snapshot",
    )


def _ref(metadata: TableMetadata, ref: str, kind: SnapshotRefType, name: str) -> int:
    """Return the iceberg_snapshot_id that a tag or a branch leads to."""
    found = metadata.refs.get(ref)
    if found is not None and found.snapshot_ref_type is kind:
        return found.snapshot_id
    if found is not None:
        other = found.snapshot_ref_type.value
        raise BackendError(
            f"{name}: {ref!r} is a {other}, not a {kind.value}",
            f"write {other}: {ref}",
            target=name,
        )
    known = sorted(
        each
        for each, there in metadata.refs.items()
        # Those of our own come and go with promotions.
        if there.snapshot_ref_type is kind and not each.startswith("seeknal-")
    )
    if kind is SnapshotRefType.BRANCH and MAIN_BRANCH not in known:
        known.insert(0, MAIN_BRANCH)
    listed = ", ".join(known[:_LISTED]) + (" and more" if len(known) > _LISTED else "")
    plural = "branches" if kind is SnapshotRefType.BRANCH else "tags"
    if ref == MAIN_BRANCH and kind is SnapshotRefType.BRANCH:
        raise BackendError(
            f"{name} has no rows yet, and so no branch {ref!r}",
            "leave params.branch out: an empty table is read as no rows",
            target=name,
        )
    raise BackendError(
        f"{name} has no {kind.value} {ref!r}",
        nearest(ref, known) or (f"its {plural}: {listed}" if known else _none(metadata, plural)),
        target=name,
    )


def _none(metadata: TableMetadata, plural: str) -> str:
    told = [name for name in metadata.properties if name.startswith(ledger.UNDO)]
    if told:
        return "the catalog shows no references but main"
    return f"it has no {plural}; read it by as_of or snapshot_id"


def _at(metadata: TableMetadata, as_of: str, name: str) -> int:
    """Return the iceberg_snapshot_id that was the table's current one at a moment."""
    moment = datetime.fromisoformat(as_of)
    log = [(entry.timestamp_ms, entry.snapshot_id) for entry in metadata.snapshot_log]
    current = metadata.current_snapshot()
    if not log and current is not None:
        log = [(current.timestamp_ms, current.snapshot_id)]
    if not log:
        raise BackendError(
            f"{name} has no snapshot, so it had none as of {as_of}",
            "write to it first, or leave params.as_of out",
            target=name,
        )
    wanted = moment.timestamp() * 1000
    before = [entry for entry in log if entry[0] <= wanted]
    if not before:
        raise BackendError(
            f"{name} is not known as of {as_of}: its first snapshot is of {_shown(log[0][0])}; "
            "earlier ones never were, or are expired",
            f"write a time from {_shown(log[0][0])} on",
            target=name,
        )
    at, chosen = before[-1]
    if metadata.snapshot_by_id(chosen) is None:
        left = [entry for entry in log if metadata.snapshot_by_id(entry[1]) is not None]
        raise BackendError(
            f"{name}: the snapshot of {_shown(at)}, which was current as of {as_of}, is expired",
            f"write a time from {_shown(left[0][0])} on" if left else "",
            target=name,
        )
    return chosen


def _shown(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _with_schema_of(metadata: TableMetadata, snapshot_id: int, name: str) -> TableMetadata:
    """Return a table's metadata with the schema that it had at one of its snapshots.

    pyiceberg binds filters, and reads partitions, by the metadata's current schema.

    Raises:
        BackendError: the table has no such snapshot.
    """
    snapshot = metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        was = next((e for e in metadata.snapshot_log if e.snapshot_id == snapshot_id), None)
        gone = f": it was current on {_shown(was.timestamp_ms)}, and is expired" if was else ""
        last = [str(each.snapshot_id) for each in metadata.snapshots[-_LISTED:]]
        raise BackendError(
            f"{name} has no iceberg_snapshot_id {snapshot_id}{gone}",
            "it has " + (", ".join(last) or "none"),
            target=name,
        )
    known = {schema.schema_id for schema in metadata.schemas}
    if snapshot.schema_id is None or snapshot.schema_id not in known:
        return metadata
    return metadata.model_copy(update={"current_schema_id": snapshot.schema_id})
