"""The metadata updates by which a staged write is published, undone and forgotten."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Summary
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertCreate,
    AssertCurrentSchemaId,
    AssertDefaultSpecId,
    AssertRefSnapshotId,
    RemovePropertiesUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from seeknal_core.contract.types import Batch, ExecutionContext, Target
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.ledger.staged_write import (
    Before,
    StagedWrite,
    is_changed_by_publish,
    same_table,
    undo_property,
    undo_tag,
)

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

Commit = tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]

#: How the names of the tags begin that fence commits off; see `fences`.
FENCE = "seeknal-fence-"


def fence_tag(promotion: str) -> str:
    """Return the name of the tag that fences off the commits of a promotion, or of a write."""
    return FENCE + promotion


def without_fences(metadata: TableMetadata, but: str = "") -> tuple[TableUpdate, ...]:
    """Return the updates that remove the fences on a table, but one."""
    return tuple(
        cast(Any, RemoveSnapshotRefUpdate)(ref_name=ref)
        for ref in metadata.refs
        if ref.startswith(FENCE) and ref != but
    )


def to_publish(
    context: ExecutionContext,
    batch: Batch,
    target: Target,
    write: StagedWrite,
    metadata: TableMetadata | None,
    *,
    fenced: bool,
    tells: bool,
    tags: bool,
) -> Commit:
    """Return the commit that publishes a staged write.

    Args:
        metadata: the table's as it is; None if the commit makes it, or its first rows.
        fenced: the commit requires the promotion's fence, and takes it away.
        tells: a property says what undoes it, for the catalog may not keep tags.
        tags: a tag says so, and keeps it from being expired.
    """
    entry = ledger.Entry.of(
        context, target, batch.content_keys[target.key], write.rows, write.write_id
    )
    generation = {ledger.GENERATION: str(batch.generation)}
    snapshot = write.snapshot()
    sets, removes = ledger.changes(
        metadata.properties if metadata is not None else {},
        snapshot.sequence_number or 1,
        entry,
        replaces=write.replaces,
        appends=write.appends,
    )
    sets |= generation
    if tells and write.before is not None and write.before.manifests:
        sets[undo_property(batch.promotion)] = write.before.manifests
    if write.mark:
        sets[ledger.CREATED] = write.mark
    made: list[TableUpdate] = []
    for update in write.updates:
        if isinstance(update, AddSnapshotUpdate):
            update = _published_now(update, entry.summary() | generation)
        made.append(update)
    made.append(SetPropertiesUpdate(updates=sets))
    if removes:
        made.append(RemovePropertiesUpdate(removals=list(removes)))
    if write.before is None:
        if write.begun:
            return (same_table(write.uuid), head_is(None)), tuple(made)
        return (AssertCreate(),), tuple(made)
    if tags and write.before.snapshot_id is not None:
        made.append(_tag(batch.promotion, write.before.snapshot_id))
    required = _unmoved(write, write.before)
    if fenced:
        tag = fence_tag(batch.promotion)
        required = (*required, head_is(write.before.snapshot_id, tag))
        made.append(cast(Any, RemoveSnapshotRefUpdate)(ref_name=tag))
        if metadata is not None:
            made += without_fences(metadata, but=tag)
    return required, tuple(made)


def _published_now(update: AddSnapshotUpdate, summary: dict[str, str]) -> AddSnapshotUpdate:
    """Complete a staged snapshot; its time is that of its publish."""
    snapshot = update.snapshot
    assert snapshot.summary is not None
    values = {**snapshot.summary.additional_properties, **summary}
    completed = snapshot.model_copy(
        update={
            "summary": Summary(operation=snapshot.summary.operation, **values),
            "timestamp_ms": int(time.time() * 1000),
        }
    )
    return AddSnapshotUpdate(snapshot=completed)


def _unmoved(write: StagedWrite, before: Before) -> tuple[TableRequirement, ...]:
    """Return what has to hold for a staged write to be published."""
    ours: list[TableRequirement] = [
        same_table(write.uuid),
        head_is(before.snapshot_id),
        cast(Any, AssertCurrentSchemaId)(current_schema_id=before.schema_id),
        cast(Any, AssertDefaultSpecId)(default_spec_id=before.spec_id),
    ]
    kinds = {each.type for each in ours}
    return (*ours, *(each for each in write.requirements if each.type not in kinds))


def head_is(snapshot_id: int | None, ref: str = MAIN_BRANCH) -> AssertRefSnapshotId:
    """Return the requirement that a reference leads to an iceberg_snapshot_id, or is not there."""
    # pyiceberg's models have aliases that mypy takes for the arguments' names.
    return cast(
        "AssertRefSnapshotId", cast(Any, AssertRefSnapshotId)(ref=ref, snapshot_id=snapshot_id)
    )


def _tag(promotion: str, snapshot_id: int) -> SetSnapshotRefUpdate:
    made = cast(Any, SetSnapshotRefUpdate)(
        ref_name=undo_tag(promotion), type=SnapshotRefType.TAG, snapshot_id=snapshot_id
    )
    return cast("SetSnapshotRefUpdate", made)


def to_revert(
    write: StagedWrite,
    before: Before,
    metadata: TableMetadata,
    restored: IcebergSnapshot | None = None,
) -> Commit:
    """Return the commit that undoes a publish: references, schema, spec and properties.

    What it leaves behind goes with another one, `to_forget`: Lakekeeper up to 0.7 fails
    where a reference and its snapshot are removed in one.

    Args:
        metadata: the table's as it is; its current snapshot is what must not move.
        restored: a new snapshot with the earlier files, where the earlier one can't be seen.
    """
    made: list[TableUpdate] = []
    if restored is not None:
        made.append(AddSnapshotUpdate(snapshot=restored))
        made.append(_main(before, restored.snapshot_id))
    elif before.main is not None:
        made.append(_main(before, before.snapshot_id))
    elif MAIN_BRANCH in metadata.refs:
        made.append(cast(Any, RemoveSnapshotRefUpdate)(ref_name=MAIN_BRANCH))
    if metadata.current_schema_id != before.schema_id:
        made.append(cast(Any, SetCurrentSchemaUpdate)(schema_id=before.schema_id))
    if metadata.default_spec_id != before.spec_id:
        made.append(cast(Any, SetDefaultSpecUpdate)(spec_id=before.spec_id))
    if before.sort_order_id not in (None, metadata.default_sort_order_id):
        made.append(cast(Any, SetDefaultSortOrderUpdate)(sort_order_id=before.sort_order_id))
    sets = {
        name: value
        for name, value in before.properties.items()
        # What undid an earlier promotion may be gone by now.
        if metadata.properties.get(name) != value and not name.startswith(ledger.UNDO)
    }
    touched = write.names_set()
    removes = [
        name
        for name in metadata.properties
        if (is_changed_by_publish(name) or name in touched) and name not in before.properties
    ]
    if sets:
        made.append(SetPropertiesUpdate(updates=sets))
    if removes:
        made.append(RemovePropertiesUpdate(removals=removes))
    return (same_table(write.uuid), head_is(metadata.current_snapshot_id)), tuple(made)


def to_forget(promotion: str, write: StagedWrite, metadata: TableMetadata) -> Commit | None:
    """Return the commit that removes what an undone publish left, None if nothing is left."""
    made: list[TableUpdate] = []
    if undo_tag(promotion) in metadata.refs:
        made.append(cast(Any, RemoveSnapshotRefUpdate)(ref_name=undo_tag(promotion)))
    if any(each.snapshot_id == write.snapshot_id for each in metadata.snapshots):
        made.append(cast(Any, RemoveSnapshotsUpdate)(snapshot_ids=[write.snapshot_id]))
    required = (same_table(write.uuid), head_is(metadata.current_snapshot_id))
    return (required, tuple(made)) if made else None


def _main(before: Before, snapshot_id: int | None) -> SetSnapshotRefUpdate:
    """Return the update that sets the main branch, with its earlier settings for expiry."""
    main = before.main or {}
    values = {name: value for name, value in main.items() if name != "snapshot-id"}
    made = SetSnapshotRefUpdate.model_validate(
        {
            "ref-name": MAIN_BRANCH,
            "snapshot-id": snapshot_id,
            **values,
            "type": SnapshotRefType.BRANCH,
        }
    )
    return made


def keeps_undo(promotion: str, metadata: TableMetadata) -> bool:
    """Return whether a table says what undoes a promotion: by a tag, or a property."""
    return undo_tag(promotion) in metadata.refs or undo_property(promotion) in metadata.properties


def to_untag(promotion: str, metadata: TableMetadata) -> Commit:
    """Return the commit that lets a promotion's undo data go."""
    tag, name = undo_tag(promotion), undo_property(promotion)
    requirements: tuple[TableRequirement, ...] = (same_table(str(metadata.table_uuid)),)
    made: list[TableUpdate] = []
    if tag in metadata.refs:
        requirements = (*requirements, head_is(metadata.refs[tag].snapshot_id, tag))
        made.append(cast(Any, RemoveSnapshotRefUpdate)(ref_name=tag))
    if name in metadata.properties:
        made.append(RemovePropertiesUpdate(removals=[name]))
    return requirements, tuple(made)
