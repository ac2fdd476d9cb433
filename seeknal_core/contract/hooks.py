"""The hooks of a backend, and the markers to implement them with.

A backend is a module or an object under the entry-point group
``seeknal.backends``; the entry point's name is the type that users write. It
implements hooks as functions marked with `hookimpl`. A plugin under the group
``seeknal.plugins`` implements the same hooks as *wrappers*
(``@hookimpl(wrapper=True)``) and sees every call of every backend.

Rules for all hooks: the first result that is not None counts; failure is an
exception of `seeknal_core.contract.errors`, anything else is reported as the plugin's
defect; names and order of the arguments are part of the contract, and new
arguments come at the end; connections are opened through
``context.resources``, never kept in globals; hooks are called from several
threads at once.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.contract.types import (
        BackendOptions,
        Batch,
        Binding,
        Checksum,
        Connection,
        ConnectionSpec,
        ExecutionContext,
        Linked,
        Origin,
        Owned,
        PromotionNote,
        Published,
        QualifiedName,
        Since,
        Snapshot,
        Source,
        SourceSpec,
        SourceStream,
        Staged,
        Swept,
        Target,
        TargetChange,
        TargetSpec,
        TargetState,
        WritePreview,
        WriteResult,
    )

__all__ = [
    "GROUPS",
    "HOOK_API",
    "NEEDS",
    "PROJECT",
    "REQUIRED",
    "TOGETHER",
    "Hook",
    "adopt_target",
    "bind_source",
    "bind_target",
    "can_link",
    "can_link_targets",
    "changes_since",
    "check_connection",
    "checksum",
    "checksum_targets",
    "count_rows",
    "describe_options",
    "discard",
    "drop_target",
    "drop_targets",
    "forget_promotion",
    "hookimpl",
    "hookspec",
    "inspect_target",
    "inspect_targets",
    "link_target",
    "link_targets",
    "list_owned",
    "list_promotions",
    "materialize",
    "materialize_targets",
    "namespace_for",
    "note_promotion",
    "prepare_publish",
    "preview_publish",
    "preview_write",
    "publish",
    "read_source",
    "resolve_profile",
    "revert",
    "stage",
    "stage_targets",
    "sweep",
    "unlink_target",
]

#: Version of the contract below. A plugin may state the version it was written
#: for as a module attribute ``SEEKNAL_HOOK_API``; a higher one is refused.
HOOK_API = 1

PROJECT = "seeknal"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def resolve_profile(context: ExecutionContext, connection: ConnectionSpec) -> Connection:
    """Turn a profile's raw mapping into the backend's own frozen connection.

    Required. Called once per connection that a command needs. Pure: no network,
    no file system.

    Args:
        connection: the mapping as written, ``${VAR}`` expanded, without ``type``.

    Returns:
        A subclass of `Connection` with ``name`` and ``type`` copied from
        ``connection``, and every secret in a `Secret`.

    Raises:
        OptionError: the mapping has mistakes; each problem carries its path.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bind_target(context: ExecutionContext, target: TargetSpec) -> Binding:
    """Return which connection a target means and how its ``table`` splits.

    Optional. Pure. Called before `resolve_profile`, with ``context.connection``
    None; the profile's connections are in ``context.profile``. Without this hook
    the connection is the one the target names (or the only one of the type) and
    ``table`` splits on dots.

    Raises:
        OptionError: no connection, or several, could be meant, or the table's
            name has the wrong number of parts. The problem's path is
            ``connection`` or ``table``.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bind_source(context: ExecutionContext, source: SourceSpec) -> Binding:
    """Return which connection a source means and how its ``table`` splits.

    Optional; as `bind_target`. ``parts`` may be empty where the source has a
    ``query``. A source whose params hold inline connection options may return
    an empty ``connection``.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def describe_options() -> BackendOptions:
    """Name the attrs classes of the backend's options.

    Optional. What ``seeknal plugins show`` prints and ``seeknal check`` knows a
    field by. Without it, the core passes a connection's options on unseen, and refuses all
    that a node writes where the profile doesn't say ``inline: true``.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def namespace_for(context: ExecutionContext, target: TargetSpec) -> QualifiedName:
    """Return a target's final name in this environment.

    Required. Pure and deterministic; two different targets of one environment
    never get one name. Called with ``context.connection`` resolved and
    ``target.parts`` bound. ``context.environment.prefix`` goes before the
    outermost namespace below the connection (a schema, the first level of a
    namespace), never before table or catalog; it is empty where names stay as
    they are. Names past the store's limit are shortened by
    `seeknal_core.contract.names.fit`.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Make the target hold the snapshot, by the target's mode.

    Required. Atomic for readers: they see the old rows or the new, whatever
    dies when. Creates missing namespaces. May be called again with the same
    arguments after a crash, and then ends in the same state: an append adds the
    rows of one content key once, and a repeat tells ``rows_written`` 0. An older version
    may have called them otherwise: none of ``snapshot.keys`` may be in the ledger.
    ``context.full_refresh`` makes every mode replace the table's rows by the snapshot's.

    ``upsert_by_key`` refuses keys that are NULL or duplicated in the snapshot.
    ``incremental_by_time`` replaces ``target.covers`` where that is given: all rows of the
    table whose time is in it, also where the snapshot has none. A row of the snapshot whose
    time is not in it is refused. Otherwise the days that the snapshot has rows of are
    replaced, and no others. A day of which the table holds more rows than the snapshot is
    refused, by name; days between the first and the last that only the table holds are kept,
    and a note says so. Days are those of UTC, for times with a zone as for those without; a
    date is its midnight. Rows without a time stay. A snapshot with a NULL time is refused,
    and so is a time column that is neither a date nor a timestamp. ``target.lookback`` has no
    effect. ``insert_overwrite`` replaces the partitions by ``target.partition_by`` that the
    snapshot has rows of, NULL being one; a store without partitions refuses it.
    `seeknal_core.contract.rules` has these rules for any store.

    Raises:
        WriteRefused: a rule of the mode, a type without counterpart (by column
            name), rights, or a table that is not this project's and environment's
            while ``context.adopt`` is false. Nothing was changed.
        NamespaceRefused: the namespace cannot be made.
        Unreachable: the store does not answer.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def materialize_targets(
    context: ExecutionContext, targets: tuple[Target, ...], snapshots: tuple[Snapshot, ...]
) -> tuple[WriteResult, ...]:
    """Do for several targets of ``context.connection`` what `materialize` does for each.

    Optional, for a store in which a transaction or a round trip costs more than a few
    rows: the core calls it for small snapshots. Readers of each target see its old rows
    or its new ones. Where it raises, any of the targets may have been written, and the
    core calls `materialize` for each of them, so that a mistake is reported for the one that
    has it; so it need not say which that was.

    Args:
        snapshots: one for each target, in the same order.

    Returns:
        One result for each target, in the same order.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def count_rows(context: ExecutionContext, target: Target) -> int:
    """Count the rows a reader of the target would count, asked of the store.

    Required. Where ``target.staged`` is set, counts what is staged (the rows of the
    snapshot as they arrived), again asked of the store.

    Raises:
        BackendError: the target does not exist or cannot be read.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def read_source(context: ExecutionContext, source: Source) -> SourceStream:
    """Open one consistent view of a source.

    Optional; without it the backend has no sources. Projection and ``query`` are
    done by the store; a ``query`` is one statement that only reads, refused
    otherwise. A store that runs none gives its table as `SourceStream.scan`, and the core
    runs the query over that, projection included. The rows come as record batches in bounded memory. Where ``source.columns``
    is given, these columns come, in that order, and no others; one that is not there is
    an error that names it. Otherwise all come, in the store's order.

    Raises:
        BackendError: the source cannot be read; by name, in one sentence.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    """Return what stands in the store where the target is, or would be.

    Required with staging; without it neither adoption nor drift can be noticed.
    Changes nothing. Where ``target.staged`` is set, ``exists`` and ``columns`` are
    those of what is staged, and the rest is of no meaning.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def inspect_targets(
    context: ExecutionContext, targets: tuple[Target, ...], versions: bool
) -> tuple[TargetState, ...]:
    """Return what stands where several targets of ``context.connection`` are.

    Optional, beside `inspect_target`, for a store that can answer for many targets
    in few round trips. Must say just what `inspect_target` says of each. None of the
    targets is staged.

    Args:
        versions: whether ``version`` and ``rows`` are asked for; where not, they may be
            None, which spares a store the reading of a table.

    Returns:
        One state for each target, in the same order.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def preview_write(context: ExecutionContext, target: Target, schema: pa.Schema) -> WritePreview:
    """Return what a write of rows with these columns would do to a target's columns.

    Optional. What a plan says of a target beforehand, and what `materialize` and `stage` note,
    or refuse, afterwards: no more and no less, as far as the columns' names and types tell.
    Changes nothing. Where the target is absent there is nothing to say.

    Args:
        schema: the columns' names and Arrow types, as `Snapshot.schema` gives them.

    Raises:
        BackendError: the store does not answer. A refusal is in the result.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def changes_since(
    context: ExecutionContext, targets: tuple[Target, ...], since: tuple[Since, ...]
) -> tuple[TargetChange, ...]:
    """Look exactly at what somebody else did to targets of ``context.connection``.

    Optional, beside `inspect_target`, for a store that gives marks. Called for targets
    whose mark is not the recorded one, and for all of them where the user asks for an
    exact look. Changes nothing. What a store does by itself (compaction, vacuum) is no
    change, and neither is a column that somebody added. Without this hook the core
    compares versions, and can't tell added rows from changed ones.

    Args:
        since: what was recorded of each target's last write, in the same order.

    Returns:
        One answer for each target, in the same order. The mark is taken before the rows
        are looked at, so that a write in between is found by the next look.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> WriteResult:
    """Take a table over as it is: write into the ledger that it is this target's.

    Optional, beside `inspect_target`; for the modes that keep rows, where ``--adopt``
    must not write. No row and no column is changed. What the ledger knows of rows that were
    appended stays true. Without this hook such a table has to be written anew.

    Args:
        content_key: the content key that was written last, as far as is known.

    Returns:
        ``rows_written`` is 0.

    Raises:
        BackendError: the table is not there, or the role may not write the ledger.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Write the snapshot into the target's own store, where no reader sees it.

    Optional, together with `publish`, `revert` and `discard`; asks for
    `inspect_target`. All that can be refused is refused here, before anything is
    published: rights, types, keys, ownership. ``context.full_refresh`` makes every
    mode stage a replacement. Called again with the same arguments, after a crash,
    it starts afresh and leaves one staged write. The bytes are durable in the
    store when it returns. Of an append whose content key is in the table already no row is
    staged: ``rows`` is 0, and `count_rows` of what is staged says so, too.

    Args:
        promotion: names the batch, in letters, digits and ``-``, at most 40.

    Raises:
        WriteRefused, NamespaceRefused, Unreachable: as `materialize`.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def stage_targets(
    context: ExecutionContext,
    targets: tuple[Target, ...],
    snapshots: tuple[Snapshot, ...],
    promotion: str,
) -> tuple[Staged, ...]:
    """Do for several targets of ``context.connection`` what `stage` does for each.

    Optional, beside `stage`, and for small snapshots, as `materialize_targets` is. Where
    it raises, the core calls `stage` for each target.

    Args:
        snapshots: one for each target, in the same order.

    Returns:
        One staged write for each target, in the same order.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def preview_publish(context: ExecutionContext, targets: tuple[Target, ...]) -> tuple[str, ...]:
    """Return what may go wrong when a promotion publishes these targets together.

    Optional, beside `publish`. For what a store can't do for many targets at once though it
    can for each, as holding more locks than it has room for. Called by a plan, and before a
    promotion stages anything. Changes nothing.

    Args:
        targets: those of ``context.connection`` that would be written; a plan gives the
            planned environment's own, which stand for those that they are promoted to.

    Returns:
        Sentences for the user: the number that is too large, and what to do; mostly none.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def prepare_publish(context: ExecutionContext, batch: Batch) -> bool:
    """Do all fallible work of a publish and leave it open, one commit away.

    Optional, for a store that has transactions: its commit then decides a
    promotion over several stores. The open transaction lives in
    ``context.resources``; `publish` of the same batch commits it, `revert` of the
    same batch, or the end of the command, rolls it back. Waits no longer than a
    few seconds for a lock, and says who holds it.

    Returns:
        Whether there is something to commit: False where the batch was
        published before.

    Raises:
        StaleStage: a target, or the generation, moved since staging.
        WriteRefused, Unreachable: nothing was changed.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def publish(context: ExecutionContext, batch: Batch) -> Published:
    """Make a connection's whole batch visible, as atomically as the store allows.

    Optional, with `stage`. Each target is replaced only if it still has the version
    it was staged upon; its ledger says from then on who wrote what. What is needed
    to undo it is kept until `discard`; what was staged, and is not needed for that, is
    gone. Called again after it succeeded, in whatever
    process, it changes nothing and gives the same result; it may take a few
    seconds to learn whether an earlier call went through.

    ``batch.generation`` is to be the environment's from then on. A store that counts
    promotions once for all its tables has counted one less before, and anything else is a
    StaleStage. One that counts for each table may have counted less than that by any number,
    as promotions need not touch every table; there a count that is as high is a StaleStage.
    After `revert` the same batch is never published again: the core stages anew, under
    another promotion, and a backend may refuse it.

    Raises:
        StaleStage: somebody wrote a target, or promoted, since staging. The targets
            of this batch are as they were before.
        Unreachable: it is not known whether it went through: call again.
        BackendError: nothing was changed.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    """Undo a publish: every target as it was before, rows, columns and existence.

    Optional, with `stage`. Undoes what `publish` of this batch did, wholly or (where a
    store publishes table by table) in part; what was not published is left alone.
    The ledger is as before, too. Undo data and staged data stay until `discard`.

    Args:
        overwrite: undo also where somebody has written since the publish; their
            write is lost. Otherwise that is refused.

    Returns:
        Whether something was undone.

    Raises:
        StaleStage: somebody wrote a published target since; both versions are named,
            and nothing was undone.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def discard(context: ExecutionContext, batch: Batch) -> None:
    """Throw away all that is kept for a batch: staged data and data for undoing.

    Optional, with `stage`. Published rows stay. After it the store holds no table, file,
    ref or property that a promotion alone needed, and no namespace that staging
    made for nothing. May be called at any time and any number of times, also for
    targets whose `stage` died (their ``staged`` is None).
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def checksum(context: ExecutionContext, target: Target) -> Checksum:
    """Read a target's rows, or what is staged for it, and sum them up by column.

    Optional. The rows come from the store, not from memory of what was written;
    `seeknal_core.contract.checksums.checksum_of` makes the sums of record batches. Without
    this hook a promotion compares counts and columns only.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def checksum_targets(
    context: ExecutionContext, targets: tuple[Target, ...]
) -> tuple[Checksum, ...]:
    """Do for several targets of ``context.connection`` what `checksum` does for each.

    Optional, beside `checksum`. Called for what is staged for small targets, where asking the
    store costs more than their rows.

    Returns:
        One result for each target, in the same order.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def can_link(context: ExecutionContext, target: Target, origin: Origin) -> str:
    """Return why a target can't be a link to another environment's table, or nothing.

    Optional, together with `link_target` and `unlink_target`; asks for `inspect_target`.
    For targets whose rows are the other environment's: a link shows them without a copy.
    Changes nothing. Where a link stands already, that is no reason.

    Returns:
        The reason, empty where it can be linked. A reason that keeps the environment's
        user from reading the rows begins with ``private:``; such rows are not copied
        either.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def can_link_targets(
    context: ExecutionContext, targets: tuple[Target, ...], origins: tuple[Origin, ...]
) -> tuple[str, ...]:
    """Do for several targets of ``context.connection`` what `can_link` does for each.

    Optional, beside `can_link`.

    Args:
        origins: one for each target, in the same order.

    Returns:
        One reason, or an empty text, for each target, in the same order.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def link_target(context: ExecutionContext, target: Target, origin: Origin) -> Linked:
    """Make the target a live, read-only reference to another environment's table.

    Optional, together with `can_link`. No row is copied, and nobody can write through it.
    The link is this environment's: in its ledger, listed and dropped like a table. It is
    never in the way of whoever writes, changes or drops the other table through this
    backend. A link that stands is made anew. Creates missing namespaces. `materialize`
    puts a table in a link's place, with no moment in which a reader finds neither.

    Raises:
        WriteRefused: it can't be linked, or something that isn't ours has its name.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def link_targets(
    context: ExecutionContext, targets: tuple[Target, ...], origins: tuple[Origin, ...]
) -> tuple[Linked, ...]:
    """Do for several targets of ``context.connection`` what `link_target` does for each.

    Optional, beside `link_target`. Where it raises, the core calls `link_target` for each.

    Args:
        origins: one for each target, in the same order.

    Returns:
        One link for each target, in the same order.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def unlink_target(context: ExecutionContext, target: Target) -> bool:
    """Drop a link, and its entry in the ledger. A table is left alone.

    Optional, together with `can_link`.

    Returns:
        Whether a link was there.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    """List what this project made in this environment, on ``context.connection``.

    Optional, together with `drop_target`. Asked of the store's ledger, so it is
    complete also where the state folder is lost. Tables that were adopted, not
    made, are not listed. Changes nothing; a ledger that was never made is empty.

    Returns:
        Tables first, then namespaces, inner ones before outer ones: an order in
        which they can be dropped.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    """Drop one thing that `list_owned` gave, and its record in the ledger.

    Optional, together with `list_owned`. Never cascades. Ownership is looked up
    again in the same transaction. When the last owned object of the environment
    is gone, so is the ledger itself. May be called again after a crash.

    Returns:
        Whether it was there.

    Raises:
        WriteRefused: it is not this project's and environment's any more, it
            holds something that isn't (a namespace with foreign tables), or
            something foreign hangs on it (a view). Nothing was changed.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def drop_targets(context: ExecutionContext, owned: tuple[Owned, ...]) -> tuple[bool, ...]:
    """Do for several tables what `drop_target` does for each.

    Optional, beside `drop_target`, for a store in which a transaction costs more than
    dropping a table. Where it raises, the core calls `drop_target` for each, so it need not
    say which of them that was about.

    Args:
        owned: tables of ``context.connection``, in an order in which they can be dropped.

    Returns:
        For each, in the same order, whether it was there.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def sweep(
    context: ExecutionContext,
    promotions: tuple[str, ...],
    dry_run: bool,
    targets: tuple[Target, ...],
) -> Swept:
    """Delete what commands of this project that died left on ``context.connection``.

    Optional. Called by ``seeknal gc`` while no other command of this state folder runs.
    Deletes only what the backend knows to be its own and what nothing can refer to any
    more: a commit that was sent and not answered may still land, and its files stay until
    that is ruled out. Where nothing was left it need not connect.

    Args:
        promotions: the batches that the state still knows; what is kept for them stays.
        dry_run: count, and change nothing.
        targets: those of the environment on this connection that have options of their
            backend, for what they declare of the upkeep of their tables.

    Raises:
        BackendError: the store does not answer.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def note_promotion(context: ExecutionContext, note: PromotionNote) -> bool:
    """Keep a promotion's document in the store until `forget_promotion`; replace an older one.

    Optional, together with `list_promotions` and `forget_promotion`; asks for `stage`. With
    it a promotion whose machine was lost can be finished, or undone, from any other. Kept
    per project and environment; durable when it returns.

    Returns:
        True.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def list_promotions(context: ExecutionContext) -> tuple[PromotionNote, ...]:
    """List the documents that are kept for this project and environment, oldest first.

    Optional, with `note_promotion`. Changes nothing; a store without any gives none.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def forget_promotion(context: ExecutionContext, promotion: str) -> bool:
    """Remove a promotion's document, and what was made for it alone.

    Optional, with `note_promotion`. May be called any number of times.

    Returns:
        Whether it was there.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def check_connection(context: ExecutionContext, write: bool) -> str:
    """Try ``context.connection`` and say in a few words what answered.

    Optional. Called by ``seeknal check --connections``. What comes after the first line is
    shown below it. A plugin that has nothing to write for a trial leaves `write` out.

    Args:
        write: make something of its own in the store and remove it again, to find out what
            is allowed (``--write``); otherwise nothing in the store is changed.

    Raises:
        BackendError: it does not answer, or refuses; with the way out as hint.
    """
    raise NotImplementedError


class Hook(enum.StrEnum):
    """The hooks by name, so that a slip in a name is a mistake that mypy sees."""

    RESOLVE_PROFILE = "resolve_profile"
    BIND_TARGET = "bind_target"
    BIND_SOURCE = "bind_source"
    DESCRIBE_OPTIONS = "describe_options"
    NAMESPACE_FOR = "namespace_for"
    MATERIALIZE = "materialize"
    MATERIALIZE_TARGETS = "materialize_targets"
    COUNT_ROWS = "count_rows"
    READ_SOURCE = "read_source"
    INSPECT_TARGET = "inspect_target"
    INSPECT_TARGETS = "inspect_targets"
    PREVIEW_WRITE = "preview_write"
    CHANGES_SINCE = "changes_since"
    ADOPT_TARGET = "adopt_target"
    STAGE = "stage"
    STAGE_TARGETS = "stage_targets"
    PREVIEW_PUBLISH = "preview_publish"
    PREPARE_PUBLISH = "prepare_publish"
    PUBLISH = "publish"
    REVERT = "revert"
    DISCARD = "discard"
    CHECKSUM = "checksum"
    CHECKSUM_TARGETS = "checksum_targets"
    CAN_LINK = "can_link"
    CAN_LINK_TARGETS = "can_link_targets"
    LINK_TARGET = "link_target"
    LINK_TARGETS = "link_targets"
    UNLINK_TARGET = "unlink_target"
    LIST_OWNED = "list_owned"
    DROP_TARGET = "drop_target"
    DROP_TARGETS = "drop_targets"
    SWEEP = "sweep"
    NOTE_PROMOTION = "note_promotion"
    LIST_PROMOTIONS = "list_promotions"
    FORGET_PROMOTION = "forget_promotion"
    CHECK_CONNECTION = "check_connection"

    def __repr__(self) -> str:
        # As text in a message, like the name that it is.
        return repr(self.value)


#: Hooks that a backend implements all or none of.
GROUPS = (
    (Hook.LIST_OWNED, Hook.DROP_TARGET),
    (Hook.CAN_LINK, Hook.LINK_TARGET, Hook.UNLINK_TARGET),
    (Hook.STAGE, Hook.PUBLISH, Hook.REVERT, Hook.DISCARD),
    (Hook.NOTE_PROMOTION, Hook.LIST_PROMOTIONS, Hook.FORGET_PROMOTION),
)

#: Hooks that make no sense without another one.
NEEDS = (
    (Hook.STAGE, Hook.INSPECT_TARGET),
    (Hook.PREPARE_PUBLISH, Hook.PUBLISH),
    (Hook.INSPECT_TARGETS, Hook.INSPECT_TARGET),
    (Hook.CHANGES_SINCE, Hook.INSPECT_TARGET),
    (Hook.ADOPT_TARGET, Hook.INSPECT_TARGET),
    (Hook.STAGE_TARGETS, Hook.STAGE),
    (Hook.NOTE_PROMOTION, Hook.STAGE),
    (Hook.CAN_LINK, Hook.INSPECT_TARGET),
    (Hook.CAN_LINK_TARGETS, Hook.CAN_LINK),
    (Hook.CHECKSUM_TARGETS, Hook.CHECKSUM),
    (Hook.LINK_TARGETS, Hook.LINK_TARGET),
    (Hook.DROP_TARGETS, Hook.DROP_TARGET),
    (Hook.PREVIEW_PUBLISH, Hook.PUBLISH),
)

#: Hooks for several targets, and the one for each that they stand for.
TOGETHER = {
    Hook.CAN_LINK_TARGETS: Hook.CAN_LINK,
    Hook.CHECKSUM_TARGETS: Hook.CHECKSUM,
    Hook.DROP_TARGETS: Hook.DROP_TARGET,
    Hook.INSPECT_TARGETS: Hook.INSPECT_TARGET,
    Hook.LINK_TARGETS: Hook.LINK_TARGET,
    Hook.MATERIALIZE_TARGETS: Hook.MATERIALIZE,
    Hook.STAGE_TARGETS: Hook.STAGE,
}

REQUIRED = (Hook.RESOLVE_PROFILE, Hook.NAMESPACE_FOR, Hook.MATERIALIZE, Hook.COUNT_ROWS)
