"""The ledger: what a table's properties and snapshot summaries say of who wrote it.

Both are set in the same commit as the rows. The properties decide: summaries go
when somebody expires Iceberg snapshots. An append is remembered under a
property of its own per content key, the newest `REMEMBERED` of them.

A table that we made has a mark of that, set by the commit that made it and
never by an adoption. It names the table's UUID and name, so that a table which
somebody registered, renamed, or made with the same properties has none. A
namespace that we made has a project and an environment among its properties.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract import rules
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext, Ownership, Target

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

PREFIX = "seeknal."
WRITE_ID = PREFIX + "write_id"
#: The mark of a table that we made.
CREATED = PREFIX + "created"
#: The mark of a table whose first rows are not committed yet, or not under its name.
BEGUN = PREFIX + "begun"
#: How many promotions a table had, the last one's number.
GENERATION = PREFIX + "generation"
#: The columns that we made: their names, and the ids that they had.
COLUMNS = PREFIX + "columns"
#: Before a promotion's name: where the manifest list is that undoes it, and, in a
#: snapshot's summary, that the snapshot undid it.
UNDO = PREFIX + "undo."
_APPENDED = PREFIX + "appended."
#: How many appends a table remembers; an older one would be added again.
REMEMBERED = 1000


@attrs.frozen(kw_only=True)
class Entry:
    """One write, as the ledger has it. ``snapshot_id`` is the iceberg_snapshot_id."""

    values: Mapping[str, str]
    content_key: str

    @classmethod
    def of(
        cls, context: ExecutionContext, target: Target, content_key: str, rows: int, write_id: str
    ) -> Entry:
        """Make the entry of a write that is about to be committed.

        Args:
            content_key, rows: those of the snapshot that is written.
        """
        return cls(
            content_key=content_key,
            values={
                PREFIX + "project": context.project,
                PREFIX + "environment": context.environment.name,
                PREFIX + "state_id": context.state_id,
                PREFIX + "target": target.key,
                PREFIX + "mode": target.mode.value,
                PREFIX + "content_key": content_key,
                WRITE_ID: write_id,
                PREFIX + "run_id": context.run_id,
                PREFIX + "rows": str(rows),
            },
        )

    def summary(self) -> dict[str, str]:
        """Return what goes into the Iceberg snapshot's summary."""
        return dict(self.values)


def columns(metadata: TableMetadata) -> frozenset[str]:
    """Return a table's columns that we made, as far as they are the same still."""
    try:
        made = json.loads(metadata.properties.get(COLUMNS, "{}"))
    except (ValueError, RecursionError):
        return frozenset()
    if not isinstance(made, dict):
        return frozenset()
    return frozenset(
        field.name for field in metadata.schema().fields if made.get(field.name) == field.field_id
    )


def column_changes(
    before: TableMetadata | None, after: TableMetadata, made: Iterable[str]
) -> dict[str, str]:
    """Return the property that names our columns once a write has made some.

    Args:
        before: the table's, None if there is none.
        after: as the write's commit will have it.
        made: the columns that the write makes.
    """
    ours = {*made, *(columns(before) if before is not None else ())}
    listed = {field.name: field.field_id for field in after.schema().fields if field.name in ours}
    text = json.dumps(listed, ensure_ascii=False)
    return {} if after.properties.get(COLUMNS, "{}") == text else {COLUMNS: text}


def owner(properties: Mapping[str, str]) -> Ownership | None:
    """Return who wrote a table last, None if no record of ours names it."""
    get = properties.get
    if not get(PREFIX + "project") or not get(PREFIX + "environment"):
        return None
    return Ownership(
        project=get(PREFIX + "project", ""),
        environment=get(PREFIX + "environment", ""),
        state_id=get(PREFIX + "state_id", ""),
        content_key=get(PREFIX + "content_key", ""),
        run_id=get(PREFIX + "run_id", ""),
    )


def is_ours(context: ExecutionContext, properties: Mapping[str, str]) -> bool:
    """Return whether a table is this project's and environment's."""
    return rules.is_ours(context, owner(properties))


def generation(context: ExecutionContext, properties: Mapping[str, str]) -> int:
    """Return how many promotions of this project and environment a table had."""
    number = properties.get(GENERATION, "")
    return int(number) if number.isdigit() and is_ours(context, properties) else 0


def sequence_of(metadata: TableMetadata) -> int:
    """Return a table's last sequence number, 0 if its format keeps none."""
    return int(getattr(metadata, "last_sequence_number", 0))


def made_by(context: ExecutionContext) -> dict[str, str]:
    """Return the properties of a namespace that is made in a context."""
    return {
        PREFIX + "project": context.project,
        PREFIX + "environment": context.environment.name,
    }


def mark(context: ExecutionContext, parts: tuple[str, ...], metadata: TableMetadata) -> str:
    """Return the mark of a table that is about to be made.

    ``location`` is where all of its files are, and nobody else's.
    """
    made = {
        **_identity(context, parts, metadata),
        "location": metadata.location.rstrip("/"),
    }
    return json.dumps(made, ensure_ascii=False)


def made_at(
    context: ExecutionContext, parts: tuple[str, ...], metadata: TableMetadata
) -> str | None:
    """Return the location of a table that this project made in this environment, else None."""
    if not is_ours(context, metadata.properties):
        return None
    if begun_by(context, parts, metadata) is not None:
        return metadata.location.rstrip("/")
    try:
        made = json.loads(metadata.properties.get(CREATED, ""))
    except (ValueError, RecursionError):
        return None
    if not isinstance(made, dict):
        return None
    location = made.pop("location", None)
    if made != _identity(context, parts, metadata) or not isinstance(location, str):
        return None
    return location


def begun_mark(
    context: ExecutionContext, parts: tuple[str, ...], name: tuple[str, ...], write_id: str
) -> dict[str, str]:
    """Return the properties of a table that is created before its first rows.

    Args:
        parts: the name that it will have.
        name: the name under which it is created.
    """
    mark = {
        **made_by(context),
        "write_id": write_id,
        "name": ".".join(name).lower(),
        "for": ".".join(parts).lower(),
    }
    return {
        **made_by(context),
        PREFIX + "state_id": context.state_id,
        BEGUN: json.dumps(mark, ensure_ascii=False),
    }


def begun_by(
    context: ExecutionContext, name: tuple[str, ...], metadata: TableMetadata
) -> str | None:
    """Return the id of the write that created a table and has not finished it, else None.

    One that has been renamed is finished, and one in its place that has its first rows.
    Tables of other projects and environments don't count.
    """
    try:
        mark = json.loads(metadata.properties.get(BEGUN, ""))
    except (ValueError, RecursionError):
        return None
    if not isinstance(mark, dict):
        return None
    in_place = mark.get("name") == mark.get("for")
    called = ".".join(name).lower()
    # It has one more character until it has been renamed for the first time.
    if mark.get("name") != (called if in_place else called.removesuffix("_")):
        return None
    if not made_by(context).items() <= mark.items():
        return None
    if in_place and (CREATED in metadata.properties or metadata.snapshots):
        return None
    return str(mark.get("write_id"))


def _identity(
    context: ExecutionContext, parts: tuple[str, ...], metadata: TableMetadata
) -> dict[str, str]:
    return {
        "project": context.project,
        "environment": context.environment.name,
        "uuid": str(metadata.table_uuid),
        # As SQL catalogs keep it, and without case, as Glue and Hive do.
        "name": ".".join(parts).lower(),
    }


def check_owner(context: ExecutionContext, target: Target, properties: Mapping[str, str]) -> str:
    """Refuse a table that does not belong to this project and environment.

    Returns:
        A note for the user where the table is taken over, else an empty string.

    Raises:
        WriteRefused: it is somebody else's and ``context.adopt`` is false, or another
            target of this very run wrote it.
    """
    if is_ours(context, properties):
        _check_twin(context, target, properties)
        return ""
    found = owner(properties)
    rules.check_owner(context, target, found)
    return f"{target.name} {refusals.whose(found)}: taken over"


def _check_twin(context: ExecutionContext, target: Target, properties: Mapping[str, str]) -> None:
    """Refuse a table that another target of the same run wrote.

    Before the first of them is written, nothing tells that two connections, whose addresses
    differ, lead to one catalog.
    """
    other = properties.get(PREFIX + "target", "")
    if properties.get(PREFIX + "run_id") == context.run_id and other not in ("", target.key):
        raise WriteRefused(
            f"{target.name} was written by another target of this run, {other}: two connections "
            "lead to one catalog",
            "give each target its own table",
            target=str(target.name),
        )


def has_appended(properties: Mapping[str, str], *content_keys: str) -> bool:
    """Return whether the rows of a content key are in the table already."""
    return any(_appended(key) in properties for key in content_keys)


def changes(
    properties: Mapping[str, str], sequence: int, entry: Entry, *, replaces: bool, appends: bool
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the properties that a commit sets, and the names of those it removes.

    Args:
        properties: the table's.
        sequence: the commit's sequence number; tells the age of what is remembered.
        replaces: the write replaces all rows, so that earlier appends are forgotten.
        appends: the write's rows are remembered as appended.
    """
    remembered = {name: value for name, value in properties.items() if name.startswith(_APPENDED)}
    sets = dict(entry.values)
    removes: list[str] = []
    if replaces:
        removes = list(remembered)
        remembered = {}
    if appends or replaces:
        name = _appended(entry.content_key)
        sets[name] = str(sequence)
        removes = [other for other in removes if other != name]
        surplus = len(remembered) + 1 - REMEMBERED
        if surplus > 0:
            removes += sorted(remembered, key=lambda key: int(remembered[key]))[:surplus]
    return sets, tuple(removes)


def has_landed(metadata: TableMetadata, write_id: str) -> bool:
    """Return whether a write is in a table, or was its last one of ours."""
    # Some catalogs show the current snapshot alone, which somebody may have followed.
    return metadata.properties.get(WRITE_ID) == write_id or any(
        snapshot.summary is not None
        and snapshot.summary.additional_properties.get(WRITE_ID) == write_id
        for snapshot in metadata.snapshots
    )


def _appended(content_key: str) -> str:
    return _APPENDED + hashlib.sha256(content_key.encode()).hexdigest()[:32]
