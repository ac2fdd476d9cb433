"""All of a write and of a promotion, for a store whose transaction spans its tables."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from seeknal_core.contract.rules import refusals
from seeknal_core.contract.rules.checks import (
    Name,
    Record,
    Write,
    check_base,
    check_drop,
    check_generation,
    check_published,
    is_ours,
    plan_write,
)
from seeknal_core.contract.types import (
    Batch,
    ExecutionContext,
    Owned,
    OwnedKind,
    Published,
    PublishedTarget,
    QualifiedName,
    Snapshot,
    Staged,
    Target,
    TargetColumn,
    TargetState,
    WriteResult,
)


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
            write=Write(
                replaces=write["replaces"],
                repeated=write["repeated"],
                record=record,
                notes=tuple(write.get("notes", ())),
            ),
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
        """Return whether there is a table or namespace of a name, anybody's."""

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
        notes=write.notes,
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
        base = store.version(target)
        return Staged(promotion=promotion, base=base, rows=count, notes=write.notes)


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
            raise refusals.undone(target.name, batch.promotion)
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
        raise refusals.nothing_staged(target.name, batch.promotion)
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
