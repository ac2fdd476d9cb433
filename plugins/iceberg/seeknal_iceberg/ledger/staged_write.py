"""A staged write: where its files are, and the content of its commit.

A staged write is complete but for one commit: data files, manifests and the
manifest list lie under the table's location, named by the write's id, and no
metadata names them. What the commit needs besides, pyiceberg's own updates in
their JSON form, travels in `Staged.data`; the list of files is the manifests.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs
from pydantic import TypeAdapter
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.table.metadata import TableMetadataV1
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertTableUUID,
    RemovePropertiesUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
    update_table_metadata,
)

from seeknal_core.contract.errors import StaleStage
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext, Staged, Target
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.ledger import ledger

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

#: Bumped where a staged write of an older version of this plugin can no longer be published.
_FORMAT = 1

_UPDATES: TypeAdapter[tuple[TableUpdate, ...]] = TypeAdapter(tuple[TableUpdate, ...])
_REQUIREMENTS: TypeAdapter[tuple[TableRequirement, ...]] = TypeAdapter(tuple[TableRequirement, ...])


@attrs.frozen(kw_only=True)
class Before:
    """What a publish changes of a table that exists, as it was when the write was staged.

    ``main`` is the branch's reference in JSON, None if the table was empty;
    ``properties`` are those that a publish may change; ``sequence`` is the last
    sequence number. ``manifests`` is where the snapshot's manifest list is, ``totals`` are
    its summary's: what leads back to it if the catalog doesn't show it any more.
    """

    snapshot_id: int | None
    main: Mapping[str, Any] | None
    schema_id: int
    spec_id: int
    sequence: int
    properties: Mapping[str, str]
    manifests: str = ""
    totals: Mapping[str, str] = attrs.field(factory=dict)
    sort_order_id: int | None = None


@attrs.frozen(kw_only=True)
class StagedWrite:
    """A staged write.

    ``before`` is None if the table is new; ``snapshot_id`` is the
    iceberg_snapshot_id that the publish makes, None if there is nothing to publish
    (an append whose rows are there). Of the ``placed`` data files in ``folder`` the
    first ``arrived`` hold the snapshot's rows, the others rows of the table that stay.
    ``begun`` is the name under which the table was created (see `commit.unfinished`), empty if it is
    made by the publish.
    ``names`` pairs the snapshot's columns with the table's.
    """

    write_id: str
    uuid: str
    location: str
    folder: str = ""
    snapshot_id: int | None = None
    arrived: int = 0
    placed: int = 0
    rows: int = 0
    replaces: bool = False
    appends: bool = False
    names: tuple[tuple[str, str], ...] = ()
    mark: str = ""
    begun: tuple[str, ...] = ()
    before: Before | None = None
    updates: tuple[TableUpdate, ...] = ()
    requirements: tuple[TableRequirement, ...] = ()

    @property
    def created(self) -> bool:
        """Whether the publish makes the table."""
        return self.before is None

    @property
    def metadata_folder(self) -> str:
        """Where manifests and manifest list are."""
        return f"{self.location.rstrip('/')}/metadata"

    @property
    def version(self) -> str:
        """The version token of the table once it is published."""
        return str(self.snapshot_id)

    def arrived_paths(self) -> list[str]:
        """Return the data files that hold the snapshot's rows."""
        return [f"{self.folder}/{number:05d}.parquet" for number in range(self.arrived)]

    def snapshot(self) -> IcebergSnapshot:
        """Return the Iceberg snapshot that the publish adds."""
        return next(u.snapshot for u in self.updates if isinstance(u, AddSnapshotUpdate))

    def names_set(self) -> frozenset[str]:
        """Return the names of properties that the publish sets or removes."""
        names: set[str] = set()
        for update in self.updates:
            if isinstance(update, SetPropertiesUpdate):
                names |= update.updates.keys()
            elif isinstance(update, RemovePropertiesUpdate):
                names |= set(update.removals)
        return frozenset(names)

    def layout_updates(self) -> tuple[TableUpdate, ...]:
        """Return the updates that decide how the files are read: schema, partitioning, names."""
        rows = (AddSnapshotUpdate, SetSnapshotRefUpdate)
        return tuple(update for update in self.updates if not isinstance(update, rows))

    def new_metadata(self) -> TableMetadata:
        """Return the metadata of a new table before its first rows."""
        nothing = TableMetadataV1.model_construct(last_column_id=-1, schema=Schema())
        return update_table_metadata(nothing, self.layout_updates())

    def data(self) -> dict[str, object]:
        """Return it as values of JSON."""
        rest = attrs.filters.exclude("updates", "requirements")
        values = attrs.asdict(self, filter=rest)
        values["names"] = [list(pair) for pair in self.names]
        values["begun"] = list(self.begun)
        return {
            "format": _FORMAT,
            **values,
            "updates": _dump(self.updates),
            "requirements": _dump(self.requirements),
        }

    @classmethod
    def of(cls, staged: Staged) -> StagedWrite:
        """Read it from what `data` gave.

        Raises:
            StaleStage: another version wrote it, in a form that this one doesn't know.
        """
        values = dict(cast("Mapping[str, Any]", staged.data))
        if values.pop("format", None) != _FORMAT:
            raise StaleStage(
                "the promotion was staged by another version of seeknal-iceberg, which this one "
                "can't read",
                refusals.STAGE_AGAIN,
            )
        before = values.pop("before")
        names = tuple((str(here), str(there)) for here, there in values.pop("names"))
        return cls(
            **{
                **values,
                "names": names,
                "begun": tuple(values.pop("begun", ())),
                "before": Before(**before) if before is not None else None,
                "updates": _UPDATES.validate_python(values["updates"]),
                "requirements": _REQUIREMENTS.validate_python(values["requirements"]),
            }
        )


def _dump(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [value.model_dump(mode="json") for value in values]


def write_id_of(context: ExecutionContext, target: Target, promotion: str) -> str:
    """Return the id of a target's write in a promotion: the same in every process."""
    words = (
        context.project,
        context.environment.name,
        promotion,
        target.key,
        catalogs.identity(catalogs.of(context), target.name.parts),
    )
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "seeknal:" + "\n".join(words)))


def undo_tag(promotion: str) -> str:
    """Return the name of the tag that keeps what undoes a promotion from being expired."""
    return f"seeknal-undo-{promotion}"


def undo_property(promotion: str) -> str:
    """Return the name of the property that does so where the catalog keeps no tags."""
    return f"{ledger.UNDO}{promotion}"


def same_table(uuid_text: str) -> AssertTableUUID:
    """Return the requirement that a table is still the one with a UUID."""
    return AssertTableUUID(uuid=uuid.UUID(uuid_text))


def is_changed_by_publish(name: str) -> bool:
    """Return whether a table's property is one that a publish may set or remove."""
    return name.startswith(ledger.PREFIX) or name == TableProperties.DEFAULT_NAME_MAPPING
