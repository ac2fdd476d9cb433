"""The rules that every backend keeps, so that its author writes the store's part alone.

A backend may use any of this, or none. Nothing here opens a store or knows one:

- whose a table is: `is_ours`, `check_owner`, `check_drop`;
- rules of a write: `plan_write`, `check_snapshot`, `check_columns`, `check_rows`, `interval`;
- rules of a promotion: `check_generation`, `check_base`, `check_published`;
- for a store whose transaction spans all its tables: `Transaction`, and over it all of
  `materialize`, `stage`, `prepare_publish`, `publish`, `revert`, `discard`, `drop_target`;
- sources, waiting and Arrow types: `projection`, `patiently`, `plain`.

A refusal names the target as the store does, and its hint says what to do.
"""

from __future__ import annotations

import abc
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Self, TypeVar

import attrs

from seeknal_core.errors import BackendError, StaleStage, WriteRefused
from seeknal_core.types import (
    Batch,
    ExecutionContext,
    Mode,
    Owned,
    OwnedKind,
    Ownership,
    Published,
    PublishedTarget,
    QualifiedName,
    SchemaChange,
    Snapshot,
    Source,
    Staged,
    Target,
    TargetColumn,
    TargetState,
    WriteResult,
)

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

#: A name of a table or namespace in a store, or a key of a ledger's document.
Name = tuple[str, ...]


def is_ours(context: ExecutionContext, owner: Ownership | None) -> bool:
    """Tell whether an owner is the call's project and environment.

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
    whose = "exists and was not made by Seeknal"
    if owner is not None:
        whose = f"belongs to project {owner.project!r}, environment {owner.environment!r}"
    raise _refused(target, whose, "take it over with: seeknal run --adopt, or write another table")


def check_drop(context: ExecutionContext, owned: Owned, record: Record | None) -> None:
    """Refuse to drop what this project and environment did not make, or does not own any more.

    Args:
        record: what the ledger says now of something that is there.

    Raises:
        WriteRefused: it stays.
    """
    if record is None or not record.made or not is_ours(context, record.owner):
        message = f"{owned.name} is not this environment's any more, so it stays"
        raise WriteRefused(message, "drop it yourself if it has to go", target=str(owned.name))


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
    what the ledger has to say from the write on.
    """

    replaces: bool
    repeated: bool
    record: Record


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
    replaces = not there or target.mode is Mode.FULL or context.full_refresh
    known = record.appended if record is not None and not replaces else ()
    key = snapshot.content_key
    adopted = there and not (record is not None and record.made and is_ours(context, owner))
    return Write(
        replaces=replaces,
        repeated=target.mode is Mode.APPEND and key in known,
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
        raise _refused(target, "would have no columns", "select at least one column")
    for name in _placing(target):
        if name not in schema.names:
            hint = f"select it; the columns are {', '.join(schema.names)}"
            raise _refused(target, f"needs column {name!r} in mode {target.mode.value}", hint)
    if target.mode is Mode.INCREMENTAL_BY_TIME:
        kind = schema.field(target.time_column).type
        if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
            problem = f"column {target.time_column!r} is {kind}, not a date or timestamp"
            raise _refused(target, problem, f"CAST({target.time_column} AS TIMESTAMP)")
    for field in schema:
        if reason := unfit(field.type):
            hint = f"give it another type: CAST({field.name} AS ...)"
            raise _refused(target, f"column {field.name!r} {reason}", hint)


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
        problem = f"columns have changed ({', '.join(changed)}), and on_schema_change is fail"
        raise _refused(target, problem, "set on_schema_change: evolve, or mend the node")
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
        doubles: counts the keys, made of some columns, that stand in more than one row.

    Raises:
        WriteRefused: a key of mode ``upsert_by_key`` is NULL or stands twice; a time of mode
            ``incremental_by_time`` is NULL.
    """
    columns = _placing(target)
    listed = ", ".join(columns)
    if columns and (count := nulls(columns)):
        what = "key" if target.mode is Mode.UPSERT_BY_KEY else "time column"
        problem = f"{count} rows of the snapshot have NULL in the {what} ({listed})"
        raise _refused(target, problem, "filter them out in the node's SQL")
    if target.mode is Mode.UPSERT_BY_KEY and (count := doubles(columns)):
        problem = f"{count} keys ({listed}) stand more than once in the snapshot"
        raise _refused(target, problem, "choose other unique_keys, or keep one row of each")


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
    if target.mode is Mode.UPSERT_BY_KEY:
        return target.unique_keys
    return (str(target.time_column),) if target.mode is Mode.INCREMENTAL_BY_TIME else ()


def interval(target: Target, first: date, last: date) -> tuple[datetime, datetime]:
    """Return the interval of time that mode ``incremental_by_time`` replaces, both ends in it.

    It begins with the day that lies ``target.lookback`` before the earliest time, and ends
    with the latest time itself, not with its day.

    Args:
        first, last: the earliest and the latest time of the rows that arrive, without which
            there is no interval: dates or timestamps. The days of moments, which have a
            time zone, are those of UTC; a date counts as its midnight.

    Returns:
        Timestamps; moments in UTC where the arguments are moments.
    """
    start, end = (
        one if isinstance(one, datetime) else datetime.combine(one, time()) for one in (first, last)
    )
    if start.tzinfo is not None:
        start, end = start.astimezone(UTC), end.astimezone(UTC)
    start -= target.lookback
    return start.replace(hour=0, minute=0, second=0, microsecond=0), end


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
        raise StaleStage(
            f"another promotion was published meanwhile: generation {found} is there, and "
            f"{batch.generation} was to come",
            "look at what it brought, then promote again",
        )


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
        raise StaleStage(
            f"{target.name} was changed by somebody else since it was {when}: version "
            f"{then or '(no table)'} then, {now or '(no table)'} now",
            "look at who writes it, then promote again",
            target=str(target.name),
        )


def _refused(target: Target, problem: str, hint: str) -> WriteRefused:
    return WriteRefused(f"{target.name}: {problem}", hint, target=str(target.name))


@attrs.frozen(kw_only=True)
class Stage:
    """What a ledger says of a staged write.

    ``published`` is what the publish did, None before it and after its revert, which sets
    ``reverted``. ``before`` is what the ledger said of the table before the publish.
    """

    write: Write
    before: Record | None = None
    published: PublishedTarget | None = None
    reverted: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        return attrs.asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Stage:
        """Return what `document` gave, also after a round trip through JSON."""
        write, published = document["write"], document["published"]
        record = Record.of(write["record"])
        assert record is not None
        return cls(
            write=Write(replaces=write["replaces"], repeated=write["repeated"], record=record),
            before=Record.of(document["before"]),
            published=PublishedTarget(**published) if published is not None else None,
            reverted=document["reverted"],
        )


class Transaction(abc.ABC):
    """A store in one open transaction of one call, with the ledger that is in it.

    For stores where one transaction spans all tables of a connection. A subclass says how
    such a store is read and written; the functions below make of that what the hooks of
    their names must do. Methods that are not abstract are for the hooks of promotions and of
    cleaning up, and may be left out with these hooks. As a context manager it commits unless
    an exception leaves the block, and closes.

    The ledger keeps documents in the store itself: values of JSON, each under a kind and a
    key. They are written in the transaction whose story they tell, so that rows and ledger
    are never out of step. Its kinds are those of `OwnedKind` (records of tables and
    namespaces), ``stage`` and ``generation``; a backend may add its own.
    """

    context: ExecutionContext

    @abc.abstractmethod
    def commit(self) -> None:
        """Make all that was written durable and visible, or none of it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Roll back what was not committed, and free what the transaction holds."""

    @abc.abstractmethod
    def documents(self, kind: str, key: Name | None = None) -> Mapping[Name, Any]:
        """Return the ledger's documents of a kind by their keys; changes nothing.

        Args:
            key: the only one that is asked for. Others may come, too.
        """

    @abc.abstractmethod
    def put(self, kind: str, key: Name, document: object) -> None:
        """Keep a document instead of the one under that key; None removes the one there.

        The ledger is made with its first document, and goes with its last.
        """

    @abc.abstractmethod
    def version(self, target: Target) -> str | None:
        """Return what changes with every write of anybody to a target; None where it is absent."""

    @abc.abstractmethod
    def exists(self, *name: str) -> bool:
        """Tell whether there is a table or namespace of a name, anybody's."""

    @abc.abstractmethod
    def arrive(self, promotion: str, target: Target, snapshot: Snapshot) -> tuple[Write, int]:
        """Bring a snapshot's rows to where no reader looks, replacing what waits there.

        Args:
            promotion: as ``stage`` has it; empty where the rows are written at once.

        Returns:
            What `apply` is to do with them (`plan_write`), and how many there are: none
            where they are ``repeated``.

        Raises:
            WriteRefused: a rule is against it.
        """

    @abc.abstractmethod
    def apply(self, promotion: str, target: Target, write: Write) -> PublishedTarget:
        """Bring the rows of `arrive` into the target, and put the record into the ledger.

        Afterwards no rows wait. What undoes it is kept, unless ``promotion`` is empty.
        """

    def restore(self, promotion: str, target: Target, published: PublishedTarget) -> None:
        """Undo `apply`: bring the old rows and columns back, or drop what it ``created``.

        The record of the table in the ledger is put back after it.
        """
        raise NotImplementedError

    def drop_kept(self, promotion: str, target: Target) -> None:
        """Drop the rows of `arrive`, and what undoes `apply`; there may be neither."""
        raise NotImplementedError

    def drop(self, owned: Owned) -> None:
        """Drop a table or namespace that is there and is ours, and nothing else with it.

        Raises:
            WriteRefused: something that is not ours is in it, or hangs on it.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    def record(self, name: Name, kind: OwnedKind = OwnedKind.TABLE) -> Record | None:
        """Return what is noted of a table or namespace."""
        return Record.of(self.documents(kind.value, name).get(name))

    def put_record(
        self, name: Name, record: Record | None, kind: OwnedKind = OwnedKind.TABLE
    ) -> None:
        """Note something of a table or namespace, or with None nothing any more."""
        self._put(kind.value, name, record.document() if record is not None else None)

    def _put(self, kind: str, key: Name, document: object) -> None:
        if document is not None or key in self.documents(kind, key):
            self.put(kind, key, document)

    def plan(self, target: Target, snapshot: Snapshot) -> Write:
        """Decide what a write is to do; see `plan_write`."""
        there, record = self.exists(*target.name.parts), self.record(target.name.parts)
        return plan_write(self.context, target, snapshot, there=there, record=record)

    def made(self, kind: OwnedKind) -> list[Name]:
        """Return the tables or namespaces that this project and environment made, sorted."""
        found = ((name, Record.of(one)) for name, one in self.documents(kind.value).items())
        return sorted(
            n for n, one in found if one and one.made and is_ours(self.context, one.owner)
        )

    def owned(
        self, named: Callable[..., QualifiedName], identity: Callable[[Name], str]
    ) -> tuple[Owned, ...]:
        """Return what the hook ``list_owned`` says.

        Args:
            named: makes a name of its parts.
            identity: returns the physical identity of a table.
        """
        found = [
            Owned(
                kind=kind,
                name=named(*name),
                identity=identity(name) if kind is OwnedKind.TABLE else "",
            )
            for kind in (OwnedKind.TABLE, OwnedKind.NAMESPACE)
            for name in sorted(self.made(kind), key=len, reverse=True)
            if self.exists(*name)
        ]
        return tuple(found)

    def generation(self) -> int:
        """Return how many promotions this project's environment had in the store."""
        return int(self.documents("generation", self._place).get(self._place, 0))

    def put_generation(self, generation: int) -> None:
        """Note the number of promotions; 0 leaves no note."""
        self._put("generation", self._place, generation or None)

    @property
    def _place(self) -> Name:
        return (self.context.project, self.context.environment.name)

    def stage(self, promotion: str, target: Target) -> Stage | None:
        """Return what is noted of a staged write."""
        key = (promotion, target.key)
        found = self.documents("stage", key).get(key)
        return Stage.of(found) if found is not None else None

    def put_stage(self, promotion: str, target: Target, stage: Stage | None) -> None:
        """Note a staged write, or with None nothing any more."""
        self._put("stage", (promotion, target.key), stage.document() if stage else None)

    def state(
        self, target: Target, columns: Mapping[str, str] | None, identity: str
    ) -> TargetState:
        """Return what the hook ``inspect_target`` says of a target.

        Args:
            columns: those of the target, or of what is staged for it, by name; None where it
                is absent.
            identity: the target's physical identity.
        """
        record = self.record(target.name.parts) if columns is not None else None
        return TargetState(
            exists=columns is not None,
            identity=identity,
            columns=tuple(TargetColumn(name=n, type=kind) for n, kind in (columns or {}).items()),
            version=self.version(target),
            owner=record.owner if record is not None else None,
            generation=self.generation(),
        )


#: Opens a transaction of a call's connection.
Open = Callable[[ExecutionContext], Transaction]


def _prepared(context: ExecutionContext, batch: Batch) -> list[Transaction]:
    """Return the open transaction of a batch, in a list that is empty where none is open.

    The list lives in the command's resources, and the end of the command closes what is in it.
    """
    assert context.connection is not None
    key = ("seeknal prepared", context.connection.type, context.connection.name, batch.promotion)
    return context.resources.get(key, list[Transaction], _close)


def _close(opened: list[Transaction]) -> None:
    while opened:
        opened.pop().close()


def materialize(
    context: ExecutionContext, target: Target, snapshot: Snapshot, open: Open
) -> WriteResult:
    """Do what the hook of this name does, in one commit.

    Args:
        open: opens a transaction to write in.
    """
    with open(context) as store:
        write, count = store.arrive("", target, snapshot)
        done = store.apply("", target, write)
    return WriteResult(
        rows_written=count,
        rows_after=done.rows_after,
        version=done.version,
        created=done.created,
    )


def stage(
    context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str, open: Open
) -> Staged:
    """Do what the hook of this name does, in one commit.

    Args:
        open: as for `materialize`.
    """
    with open(context) as store:
        write, count = store.arrive(promotion, target, snapshot)
        store.put_stage(promotion, target, Stage(write=write))
        return Staged(promotion=promotion, base=store.version(target), rows=count)


def prepare_publish(context: ExecutionContext, batch: Batch, open: Open) -> bool:
    """Do what the hook of this name does: all but the commit, in a transaction that stays open.

    Args:
        open: as for `materialize`.

    Raises:
        StaleStage: another promotion, or somebody else's write, came before this one.
        BackendError: nothing is staged for a target.
    """
    prepared = _prepared(context, batch)
    if prepared:
        return True
    prepared.append(open(context))
    done = False
    try:
        done = _apply(prepared[0], batch)
    finally:
        if not done:
            _close(prepared)
    return done


def _apply(store: Transaction, batch: Batch) -> bool:
    stages = [(target, _stage(store, batch, target)) for target in batch.targets]
    if all(stage.published for _, stage in stages):
        return False
    check_generation(batch, store.generation())
    for target, stage in stages:
        if stage.reverted:
            message = f"promotion {batch.promotion} was undone, so {target.name} has nothing staged"
            hint = "promote again: its rows have to be staged anew"
            raise StaleStage(message, hint, target=str(target.name))
        check_base(target, store.version(target))
    for target, stage in stages:
        before = store.record(target.name.parts)
        done = store.apply(batch.promotion, target, stage.write)
        store.put_stage(batch.promotion, target, attrs.evolve(stage, before=before, published=done))
    store.put_generation(batch.generation)
    return True


def _stage(store: Transaction, batch: Batch, target: Target) -> Stage:
    stage = store.stage(batch.promotion, target)
    if stage is None:
        message = f"nothing is staged for {target.name} in promotion {batch.promotion}"
        hint = "promote again: its rows have to be staged anew"
        raise BackendError(message, hint, target=str(target.name))
    return stage


def publish(context: ExecutionContext, batch: Batch, open: Open) -> Published:
    """Do what the hook of this name does, in one commit.

    Args, Raises:
        as `prepare_publish`.
    """
    prepare_publish(context, batch, open)
    prepared = _prepared(context, batch)
    try:
        for store in prepared:
            store.commit()
    finally:
        _close(prepared)
    with open(context) as store:
        done = [_stage(store, batch, target).published for target in batch.targets]
    return Published(targets=tuple(one for one in done if one is not None))


def revert(context: ExecutionContext, batch: Batch, overwrite: bool, open: Open) -> bool:
    """Do what the hook of this name does, in one commit.

    Args:
        open: as for `prepare_publish`. Where the store was never written, it may open an
            empty one that cannot be: nothing is undone there.

    Raises:
        StaleStage: somebody wrote a published target since; nothing was undone.
    """
    _close(_prepared(context, batch))
    done: list[tuple[Target, Stage, PublishedTarget]] = []
    with open(context) as store:
        for target in batch.targets:
            stage = store.stage(batch.promotion, target)
            if stage is not None and stage.published is not None:
                done.append((target, stage, stage.published))
                if not overwrite:
                    check_published(target, stage.published.version, store.version(target))
        for target, stage, published in done:
            store.restore(batch.promotion, target, published)
            store.put_record(target.name.parts, stage.before)
            undone = Stage(write=stage.write, reverted=True)
            store.put_stage(batch.promotion, target, undone)
        if done:
            store.put_generation(batch.generation - 1)
    return bool(done)


def discard(context: ExecutionContext, batch: Batch, open: Open) -> None:
    """Do what the hook of this name does.

    Args:
        open: as for `revert`.
    """
    _close(_prepared(context, batch))
    with open(context) as store:
        for target in batch.targets:
            store.drop_kept(batch.promotion, target)
            store.put_stage(batch.promotion, target, None)


def drop_target(context: ExecutionContext, owned: Owned, open: Open) -> bool:
    """Do what the hook of this name does, in one commit.

    Args:
        open: as for `revert`.

    Raises:
        WriteRefused: see `check_drop` and `Transaction.drop`.
    """
    name, kind = owned.name.parts, owned.kind
    with open(context) as store:
        there = store.exists(*name)
        if there:
            check_drop(context, owned, store.record(name, kind))
            store.drop(owned)
        store.put_record(name, None, kind)
        left = [
            Record.of(one) for kind in OwnedKind for one in store.documents(kind.value).values()
        ]
        if not any(is_ours(context, one.owner) for one in left if one is not None):
            store.put_generation(0)
    return there


def patiently(
    context: ExecutionContext,
    attempt: Callable[[], T],
    is_busy: Callable[[Exception], bool],
    seconds: float,
) -> T:
    """Try again while somebody else holds what is needed, until it is had or time is over.

    Args:
        attempt: tries once, and raises where it fails.
        is_busy: whether that failure may be over soon; any other is raised at once.
        seconds: how long to try.

    Returns:
        What the successful attempt returned.

    Raises:
        Exception: what the last attempt raised.
        Interrupted: the user asked to stop.
    """
    deadline = monotonic() + seconds
    while True:
        context.cancellation.check()
        try:
            return attempt()
        except Exception as error:
            if not is_busy(error) or monotonic() > deadline:
                raise
        sleep(0.01)


def projection(source: Source, known: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a source is to be read with, in their order.

    Args:
        known: the columns that are there.

    Raises:
        BackendError: the projection names another one.
    """
    what = "the query" if source.query else f"source table {'.'.join(source.parts)}"
    for name in source.columns or ():
        if name not in known:
            hint = f"its columns are {', '.join(known)}"
            raise BackendError(f"{what} of {source.node} has no column {name!r}", hint)
    return tuple(known) if source.columns is None else source.columns


def plain(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return the same rows in types that every store knows, also within lists and structs.

    Dictionaries become their values, since a set of today's values would refuse tomorrow's;
    ``arrow.bool8`` becomes a boolean. Batches come one by one, as they are asked for.
    """
    import pyarrow as pa

    schema = pa.schema([field.with_type(_plain(field.type)) for field in reader.schema])
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in reader))


def _plain(type: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(type):
        return type.value_type
    if getattr(type, "extension_name", "") == "arrow.bool8":
        return pa.bool_()
    if pa.types.is_list(type):
        return pa.list_(type.value_field.with_type(_plain(type.value_type)))
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(_plain(field.type)) for field in type])
    return type
