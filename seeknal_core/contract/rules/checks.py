"""The single rules: whose a table is, what a write refuses, what a promotion checks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from seeknal_core.contract.errors import BackendError, WriteRefused
from seeknal_core.contract.modes import Field
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import (
    Batch,
    ExecutionContext,
    Owned,
    Ownership,
    SchemaChange,
    Snapshot,
    Target,
)

if TYPE_CHECKING:
    import pyarrow as pa

#: A name of a table or namespace in a store, or a key of a ledger's document.
Name = tuple[str, ...]


def is_ours(context: ExecutionContext, owner: Ownership | None) -> bool:
    """Return whether an owner is the call's project and environment.

    State folder and run do not matter: two checkouts of a project share their tables.
    """
    place = (context.project, context.environment.name)
    return owner is not None and (owner.project, owner.environment) == place


def check_owner(context: ExecutionContext, target: Target, owner: Ownership | None) -> None:
    """Refuse a table that is there and is somebody else's, unless ``context.adopt`` is set.

    Args:
        owner: who wrote the table last, by the ledger; None where it says nothing.

    Raises:
        WriteRefused: saying whose it is.
    """
    if context.adopt or is_ours(context, owner):
        return
    raise refusals.not_ours(target.name, owner)


def check_drop(context: ExecutionContext, owned: Owned, record: Record | None) -> None:
    """Refuse to drop what this project and environment did not make, or does not own any more.

    Args:
        record: what the ledger says now of something that is there.

    Raises:
        WriteRefused: it stays.
    """
    if record is None or not record.made or not is_ours(context, record.owner):
        raise refusals.stays(owned.name)


def absent(target: Target) -> BackendError:
    """Return the error for a target that is not there, or for which nothing is staged."""
    text = "does not exist" if target.staged is None else "has nothing staged"
    return BackendError(f"{target.name} {text}", "run or promote again", target=str(target.name))


@attrs.frozen(kw_only=True)
class Record:
    """What a ledger says of a table or namespace.

    ``owner`` is who wrote it last. ``made`` tells whether that project's environment made
    it; what was adopted is never dropped. ``appended`` holds the content keys of the
    snapshots whose rows are in the table. ``token`` is another one for every write.
    """

    owner: Ownership
    made: bool
    appended: tuple[str, ...] = ()
    token: str = attrs.field(factory=lambda: uuid.uuid4().hex)

    def document(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        return attrs.asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Record | None:
        """Return what `document` gave, also after a round trip through JSON; None for None."""
        if document is None:
            return None
        return cls(
            owner=Ownership(**document["owner"]),
            made=document["made"],
            appended=tuple(document["appended"]),
            token=document["token"],
        )


@attrs.frozen(kw_only=True)
class Write:
    """What a write is to do to a table.

    ``replaces``: the snapshot's rows take the place of all rows and columns. ``repeated``:
    it is an append whose rows are in the table already, so no row is added. ``record`` is
    what the ledger has to say from the write on. ``notes`` are sentences that the user
    should see.
    """

    replaces: bool
    repeated: bool
    record: Record
    notes: tuple[str, ...] = ()


def plan_write(
    context: ExecutionContext,
    target: Target,
    snapshot: Snapshot,
    *,
    there: bool,
    record: Record | None,
) -> Write:
    """Decide what a write of a snapshot is to do, now or when it is published.

    Args:
        there: whether the table exists.
        record: what the ledger says of it; of no meaning where it does not exist.

    Raises:
        WriteRefused: the table is somebody else's; see `check_owner`.
    """
    owner = record.owner if record is not None else None
    if there:
        check_owner(context, target, owner)
    replaces = not there or target.mode.rule.replaces or context.full_refresh
    known = record.appended if record is not None and not replaces else ()
    key = snapshot.content_key
    adopted = there and not (record is not None and record.made and is_ours(context, owner))
    return Write(
        replaces=replaces,
        repeated=target.mode.rule.once and key in known,
        record=Record(
            made=not adopted,
            appended=tuple(dict.fromkeys([*known, key])),
            owner=Ownership(
                project=context.project,
                environment=context.environment.name,
                state_id=context.state_id,
                content_key=key,
                run_id=context.run_id,
            ),
        ),
    )


def check_snapshot(
    target: Target, snapshot: Snapshot, unfit: Callable[[pa.DataType], str] = lambda _: ""
) -> None:
    """Refuse a snapshot that the target's mode or its store can do nothing with.

    It needs columns, those of the key in mode ``upsert_by_key``, and a date or a timestamp
    as time column in mode ``incremental_by_time``.

    Args:
        unfit: says why the store has no counterpart for an Arrow type, in words that go
            on from "column 'x'" ("is a map, which the store lacks"); empty where it has one.

    Raises:
        WriteRefused: naming the column.
    """
    import pyarrow as pa

    schema = snapshot.schema
    if not schema.names:
        raise refusals.no_columns(target.name)
    check_named_columns(target, schema.names)
    if target.mode.rule.needs is Field.PARTITION_BY:
        raise refusals.no_partitions(target.name, target.mode)
    if target.mode.rule.placing is Field.TIME_COLUMN and target.time_column is not None:
        kind = schema.field(target.time_column).type
        if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
            raise refusals.not_a_time(target.name, target.time_column, kind)
    for field in schema:
        if reason := unfit(field.type):
            hint = f"give it another type: CAST({field.name} AS ...)"
            raise _refused(target, f"column {field.name!r} {reason}", hint)


def check_named_columns(target: Target, known: Sequence[str]) -> None:
    """Refuse a mode whose columns are not named, and names that the rows do not have.

    Args:
        known: the columns of the rows that arrive.

    Raises:
        WriteRefused: naming the option, or the column.
    """
    rule = target.mode.rule
    examples = {Field.UNIQUE_KEYS: "[id]", Field.TIME_COLUMN: "updated_at"}
    if rule.needs in examples and not _named(target, rule.needs):
        raise refusals.needs_option(target.name, target.mode, rule.needs, examples[rule.needs])
    for field in {Field.UNIQUE_KEYS: None, rule.placing: None}:
        for column in _named(target, field):
            if column not in known:
                raise refusals.no_such_column(
                    target.name, str(field and field.value), column, known
                )


def check_columns(
    target: Target, old: Mapping[str, str], new: Mapping[str, str], *, replaces: bool
) -> dict[str, str]:
    """Refuse columns that a table's columns may not become.

    Args:
        old: the table's columns by name, with their types in the store's words; empty where
            there is no table.
        new: those of the rows that arrive, in the same words.
        replaces: whether all rows are replaced, and the columns with them (`Write`).

    Returns:
        The columns that have to be added to the table before the rows: in ``new``, not
        in ``old``. Empty where all rows are replaced.

    Raises:
        WriteRefused: ``on_schema_change`` is ``fail`` and anything differs; or old rows stay,
            and one of their columns is missing or of another type.
    """
    if old and target.on_schema_change is SchemaChange.FAIL and dict(old) != dict(new):
        changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        raise refusals.columns_differ(target.name, changed)
    if replaces:
        return {}
    for name, kind in old.items():
        if new.get(name) != kind:
            found = new.get(name, "missing")
            hint = "select it with that type, or replace all rows: seeknal run --full-refresh"
            raise _refused(target, f"column {name!r} is {kind} there, and {found} here", hint)
    return {name: kind for name, kind in new.items() if name not in old}


def check_rows(
    target: Target,
    nulls: Callable[[Sequence[str]], int],
    doubles: Callable[[Sequence[str]], int],
) -> None:
    """Refuse arriving rows that the target's mode cannot place; ask the store only if need be.

    Args:
        nulls: counts the rows that have NULL in one of some columns, or more of them.
        doubles: counts the keys, made of some columns, that more than one row has.

    Raises:
        WriteRefused: a key of mode ``upsert_by_key`` is NULL or duplicated; a time of mode
            ``incremental_by_time`` is NULL.
    """
    columns = _placing(target)
    if columns and (count := nulls(columns)):
        if target.mode.rule.placing is Field.UNIQUE_KEYS:
            raise refusals.null_keys(target.name, count, columns)
        raise refusals.null_times(target.name, count, columns[0])
    if target.mode.rule.unique and (count := doubles(columns)):
        raise refusals.duplicated_keys(target.name, count, columns)


def check_rows_in_sql(
    target: Target, rows: str, count: Callable[[str], int], quote: Callable[[str], str]
) -> None:
    """Refuse as `check_rows` does, by two queries that any store with SQL answers.

    Args:
        rows: the table of the arriving rows, as SQL text.
        count: counts the rows of what may stand behind ``SELECT count(*) FROM``.
        quote: writes a column's name as SQL text.

    Raises:
        WriteRefused: as `check_rows`.
    """

    def nulls(columns: Sequence[str]) -> int:
        null = " OR ".join(f"{quote(column)} IS NULL" for column in columns)
        return count(f"{rows} WHERE {null}")

    def doubles(columns: Sequence[str]) -> int:
        keys = ", ".join(map(quote, columns))
        twice = f"SELECT {keys} FROM {rows} GROUP BY {keys} HAVING count(*) > 1"
        return count(f"({twice}) AS twice")

    check_rows(target, nulls, doubles)


def _placing(target: Target) -> tuple[str, ...]:
    """Return the columns by which a target's mode finds a row's place."""
    return _named(target, target.mode.rule.placing)


def _named(target: Target, field: Field | None) -> tuple[str, ...]:
    """Return the columns that a field of a target names."""
    match field:
        case Field.UNIQUE_KEYS:
            return target.unique_keys
        case Field.TIME_COLUMN:
            return (target.time_column,) if target.time_column is not None else ()
        case Field.PARTITION_BY:
            return target.partition_by
        case None:
            return ()


def check_generation(batch: Batch, found: int) -> None:
    """Refuse a batch that was staged before another promotion was published.

    For a store that counts the promotions of an environment once for all its tables; where
    each table has a count of its own, a batch's generation may be ahead of it by more.

    Args:
        found: the environment's generation in the store, 0 before its first promotion.

    Raises:
        StaleStage: the batch would not be the next one.
    """
    if found != batch.generation - 1:
        raise refusals.another_promotion(found, batch.generation)


def check_base(target: Target, found: str | None) -> None:
    """Refuse to publish over what somebody wrote since the target was staged.

    Args:
        found: the version of the target now, None where it is absent.

    Raises:
        StaleStage: it is not what was staged upon; both versions are named.
    """
    base = target.staged.base if target.staged is not None else None
    _check_unmoved(target, "staged", base, found)


def check_published(target: Target, published: str, found: str | None) -> None:
    """Refuse to undo a publish over what somebody wrote since.

    Args:
        published: the version that the publish gave the target.
        found: as in `check_base`.

    Raises:
        StaleStage: as in `check_base`.
    """
    _check_unmoved(target, "published", published, found)


def _check_unmoved(target: Target, when: str, then: str | None, now: str | None) -> None:
    if then != now:
        raise refusals.moved(target.name, when, then, now)


def _refused(target: Target, problem: str, hint: str) -> WriteRefused:
    return WriteRefused(f"{target.name}: {problem}", hint, target=str(target.name))
