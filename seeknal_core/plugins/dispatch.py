"""The one typed door to the hooks.

A method per hook: it routes the call to the backend of the target's type,
checks the type of what comes back, and turns a foreign exception into one
that names the plugin and its version. Nothing else calls a hook, and nothing here decides
anything: what the user wrote becomes a `Target` or a `Source` in `seeknal_core.plugins.resolve`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import attrs

from seeknal_core.contract.errors import (
    ConfigError,
    OptionError,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import (
    BackendOptions,
    Batch,
    Binding,
    Checksum,
    Connection,
    ConnectionSpec,
    ExecutionContext,
    Linked,
    Location,
    Origin,
    Owned,
    PromotionNote,
    Published,
    QualifiedName,
    Since,
    Snapshot,
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
    problem_at,
)
from seeknal_core.plugins.calls import HookCalls, in_environment
from seeknal_core.plugins.host import PluginHost
from seeknal_core.plugins.resolved import ResolvedSource, ResolvedTarget, mistake_at

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


def located(
    error: OptionError,
    where: Location | None,
    mapping: ConnectionSpec | None = None,
    prefix: str = "",
) -> ConfigError:
    """Add file and line to the mistakes of a mapping; the deepest known place wins."""
    problems = []
    for problem in error.problems:
        place = where
        if mapping is not None:
            parts = problem.path.split(".") if problem.path else []
            while parts and ".".join(parts) not in mapping.locations:
                parts.pop()
            place = mapping.locations.get(".".join(parts), where)
        path = ".".join(part for part in (prefix, problem.path) if part)
        problems.append(
            problem_at(place, problem.message, path=path, hint=problem.hint)
            if place
            else problem._replace(path=path)
        )
    return ConfigError(problems, error.hint)


class Dispatcher:
    """Calls the hooks of one command's plugins."""

    def __init__(self, host: PluginHost) -> None:
        self.host = host
        self._calls = HookCalls(host)
        self._options: dict[str, BackendOptions | None] = {}
        self._resolved: dict[int, tuple[ConnectionSpec, Connection]] = {}

    def supports(self, type: str, hook: Hook) -> bool:
        """Return whether the backend of `type` implements an optional hook."""
        return self.host.implements(type, hook)

    def together(self, type: str, hook: Hook) -> bool:
        """Return whether a hook for several targets serves those of `type`."""
        return self.host.together(type, hook)

    def options(self, type: str) -> BackendOptions | None:
        """Return the backend's option classes, or None where it describes none."""
        if type not in self._options:
            self._options[type] = (
                self._calls.call(type, Hook.DESCRIBE_OPTIONS, BackendOptions)
                if self.supports(type, Hook.DESCRIBE_OPTIONS)
                else None
            )
        return self._options[type]

    def resolve_profile(self, context: ExecutionContext, connection: ConnectionSpec) -> Connection:
        """Resolve a connection of the profile, once; mistakes carry file and line."""
        if id(connection) in self._resolved:
            return self._resolved[id(connection)][1]
        try:
            resolved = self._calls.call(
                connection.type,
                Hook.RESOLVE_PROFILE,
                Connection,
                context=context,
                connection=connection,
            )
        except OptionError as error:
            raise located(
                error, connection.locations.get(""), connection, f"connections.{connection.name}"
            ) from error
        if (resolved.name, resolved.type) != (connection.name, connection.type):
            raise self._calls.broken(
                connection.type, Hook.RESOLVE_PROFILE, "did not copy the connection's name and type"
            )
        self._resolved[id(connection)] = (connection, resolved)
        return resolved

    def bind_target(self, context: ExecutionContext, spec: TargetSpec) -> Binding | None:
        """Return which connection a target means; None where its backend has no say in it."""
        if not self.supports(spec.type, Hook.BIND_TARGET):
            return None
        try:
            return self._calls.call(
                spec.type, Hook.BIND_TARGET, Binding, context=context, target=spec
            )
        except OptionError as error:
            raise located(error, spec.location, prefix=spec.node) from error

    def bind_source(self, context: ExecutionContext, spec: SourceSpec) -> Binding | None:
        """Return which connection a source means; None where its backend has no say in it."""
        if not self.supports(spec.type, Hook.BIND_SOURCE):
            return None
        try:
            return self._calls.call(
                spec.type, Hook.BIND_SOURCE, Binding, context=context, source=spec
            )
        except OptionError as error:
            raise located(error, spec.location, prefix=spec.node) from error

    def namespace_for(self, context: ExecutionContext, spec: TargetSpec) -> QualifiedName:
        """Return the target's final name in the context's environment."""
        try:
            return self._calls.call(
                spec.type, Hook.NAMESPACE_FOR, QualifiedName, context=context, target=spec
            )
        except OptionError as error:
            raise located(error, spec.location, prefix=spec.node) from error

    def materialize(
        self, context: ExecutionContext, resolved: ResolvedTarget, snapshot: Snapshot
    ) -> WriteResult:
        """Make the target hold the snapshot."""
        return self._calls.call(
            resolved.target.type,
            Hook.MATERIALIZE,
            WriteResult,
            context=context.connected(resolved.connection),
            target=resolved.target,
            snapshot=snapshot,
        )

    def materialize_targets(
        self,
        context: ExecutionContext,
        resolved: Sequence[ResolvedTarget],
        snapshots: Sequence[Snapshot],
    ) -> list[WriteResult]:
        """Make targets of one connection hold their snapshots, by one call."""
        return self._together(
            Hook.MATERIALIZE_TARGETS, WriteResult, context, resolved, snapshots=tuple(snapshots)
        )

    def count_rows(self, context: ExecutionContext, resolved: ResolvedTarget) -> int:
        """Count a target's rows in its store."""
        return self._calls.call(
            resolved.target.type,
            Hook.COUNT_ROWS,
            int,
            context=context.connected(resolved.connection),
            target=resolved.target,
        )

    def inspect_target(
        self, context: ExecutionContext, resolved: ResolvedTarget
    ) -> TargetState | None:
        """Return what stands where the target is; None where the backend cannot tell."""
        if not self.supports(resolved.target.type, Hook.INSPECT_TARGET):
            return None
        return self._calls.call(
            resolved.target.type,
            Hook.INSPECT_TARGET,
            TargetState,
            context=context.connected(resolved.connection),
            target=resolved.target,
        )

    def inspect_targets(
        self,
        context: ExecutionContext,
        resolved: Sequence[ResolvedTarget],
        *,
        versions: bool = True,
    ) -> list[TargetState | None]:
        """Return what stands where targets of one connection are, in their order.

        Args:
            versions: whether their versions and rows are asked for, which may take time.
        """
        if not resolved:
            return []
        first = resolved[0]
        alone = len(resolved) == 1 and versions
        if alone or not self.together(first.target.type, Hook.INSPECT_TARGETS):
            return [self.inspect_target(context, one) for one in resolved]
        return [
            *self._together(Hook.INSPECT_TARGETS, TargetState, context, resolved, versions=versions)
        ]

    def changes_since(
        self,
        context: ExecutionContext,
        resolved: Sequence[ResolvedTarget],
        since: Sequence[Since],
    ) -> list[TargetChange]:
        """Look exactly at what happened to targets of one connection, in their order."""
        return self._together(
            Hook.CHANGES_SINCE, TargetChange, context, resolved, since=tuple(since)
        )

    def adopt_target(
        self, context: ExecutionContext, resolved: ResolvedTarget, content_key: str
    ) -> WriteResult:
        """Write into the store's ledger that a table, as it is, is this target's."""
        return self._calls.call(
            resolved.target.type,
            Hook.ADOPT_TARGET,
            WriteResult,
            context=context.connected(resolved.connection),
            target=resolved.target,
            content_key=content_key,
        )

    def can_link(
        self,
        context: ExecutionContext,
        resolved: Sequence[ResolvedTarget],
        origins: Sequence[Origin],
    ) -> list[str]:
        """Return for each target of one connection why it can't be a link; empty where it can."""
        type = resolved[0].target.type
        if self.together(type, Hook.CAN_LINK_TARGETS):
            return self._together(
                Hook.CAN_LINK_TARGETS, str, context, resolved, origins=tuple(origins)
            )
        return [
            self._calls.call(
                type,
                Hook.CAN_LINK,
                str,
                context=context.connected(one.connection),
                target=one.target,
                origin=origin,
            )
            for one, origin in zip(resolved, origins, strict=True)
        ]

    def link_target(
        self, context: ExecutionContext, resolved: ResolvedTarget, origin: Origin
    ) -> Linked:
        """Make a target a link to another environment's table."""
        return self._calls.call(
            resolved.target.type,
            Hook.LINK_TARGET,
            Linked,
            context=context.connected(resolved.connection),
            target=resolved.target,
            origin=origin,
        )

    def link_targets(
        self,
        context: ExecutionContext,
        resolved: Sequence[ResolvedTarget],
        origins: Sequence[Origin],
    ) -> list[Linked]:
        """Make targets of one connection links, by one call."""
        return self._together(Hook.LINK_TARGETS, Linked, context, resolved, origins=tuple(origins))

    def unlink_target(self, context: ExecutionContext, resolved: ResolvedTarget) -> bool:
        """Drop a link; tell whether one was there."""
        return self._calls.call(
            resolved.target.type,
            Hook.UNLINK_TARGET,
            bool,
            context=context.connected(resolved.connection),
            target=resolved.target,
        )

    def _together(
        self,
        hook: Hook,
        result_type: type[T],
        context: ExecutionContext,
        resolved: Sequence[ResolvedTarget],
        **arguments: object,
    ) -> list[T]:
        """Call a hook for targets of one connection; it answers for each, in their order."""
        first = resolved[0]
        found = self._calls.call(
            first.target.type,
            hook,
            tuple,
            context=context.connected(first.connection),
            targets=tuple(one.target for one in resolved),
            **arguments,
        )
        whole = len(found) == len(resolved)
        if not whole or not all(isinstance(one, result_type) for one in found):
            raise self._calls.broken(
                first.target.type,
                hook,
                f"did not answer with a {result_type.__name__} for each target, in order",
            )
        return list(found)

    def preview_write(
        self, context: ExecutionContext, resolved: ResolvedTarget, schema: pa.Schema
    ) -> WritePreview | None:
        """Return what a write would do to a target's columns; None where its backend cannot."""
        if not self.supports(resolved.target.type, Hook.PREVIEW_WRITE):
            return None
        found = self._calls.call(
            resolved.target.type,
            Hook.PREVIEW_WRITE,
            WritePreview,
            context=context.connected(resolved.connection),
            target=resolved.target,
            schema=schema,
        )
        hint = in_environment(found.hint, context, resolved.target.node)
        return attrs.evolve(found, hint=hint)

    def stage(
        self,
        context: ExecutionContext,
        resolved: ResolvedTarget,
        snapshot: Snapshot,
        promotion: str,
    ) -> Staged:
        """Write a snapshot unseen into the target's own store."""
        return self._calls.call(
            resolved.target.type,
            Hook.STAGE,
            Staged,
            context=context.connected(resolved.connection),
            target=resolved.target,
            snapshot=snapshot,
            promotion=promotion,
        )

    def stage_targets(
        self,
        context: ExecutionContext,
        resolved: Sequence[ResolvedTarget],
        snapshots: Sequence[Snapshot],
        promotion: str,
    ) -> list[Staged]:
        """Write snapshots unseen into the store of targets of one connection, by one call."""
        return self._together(
            Hook.STAGE_TARGETS,
            Staged,
            context,
            resolved,
            snapshots=tuple(snapshots),
            promotion=promotion,
        )

    def preview_publish(
        self, context: ExecutionContext, resolved: Sequence[ResolvedTarget]
    ) -> tuple[str, ...]:
        """Return what may go wrong when targets of one connection are published together."""
        first = resolved[0]
        if not self.supports(first.target.type, Hook.PREVIEW_PUBLISH):
            return ()
        found = self._calls.call(
            first.target.type,
            Hook.PREVIEW_PUBLISH,
            tuple,
            context=context.connected(first.connection),
            targets=tuple(one.target for one in resolved),
        )
        if not all(isinstance(one, str) for one in found):
            raise self._calls.broken(
                first.target.type, Hook.PREVIEW_PUBLISH, "returned things that are no text"
            )
        return found

    def prepare_publish(
        self, context: ExecutionContext, connection: Connection, batch: Batch
    ) -> bool:
        """Do all fallible work of a publish; tell whether there is something to commit."""
        return self._calls.call(
            connection.type,
            Hook.PREPARE_PUBLISH,
            bool,
            context=context.connected(connection),
            batch=batch,
        )

    def publish(self, context: ExecutionContext, connection: Connection, batch: Batch) -> Published:
        """Make a batch visible."""
        published = self._calls.call(
            connection.type,
            Hook.PUBLISH,
            Published,
            context=context.connected(connection),
            batch=batch,
        )
        if [one.key for one in published.targets] != [target.key for target in batch.targets]:
            raise self._calls.broken(
                connection.type,
                Hook.PUBLISH,
                "did not answer for each target of the batch, in order",
            )
        return published

    def revert(
        self, context: ExecutionContext, connection: Connection, batch: Batch, *, overwrite: bool
    ) -> bool:
        """Undo a publish; tell whether there was something to undo."""
        return self._calls.call(
            connection.type,
            Hook.REVERT,
            bool,
            context=context.connected(connection),
            batch=batch,
            overwrite=overwrite,
        )

    def discard(self, context: ExecutionContext, connection: Connection, batch: Batch) -> None:
        """Throw away what is kept for a batch."""
        self._calls.call(
            connection.type,
            Hook.DISCARD,
            type(None),
            context=context.connected(connection),
            batch=batch,
        )

    def checksum(self, context: ExecutionContext, resolved: ResolvedTarget) -> Checksum | None:
        """Sum up a target's rows; None where its backend cannot."""
        if not self.supports(resolved.target.type, Hook.CHECKSUM):
            return None
        return self._calls.call(
            resolved.target.type,
            Hook.CHECKSUM,
            Checksum,
            context=context.connected(resolved.connection),
            target=resolved.target,
        )

    def checksum_targets(
        self, context: ExecutionContext, resolved: Sequence[ResolvedTarget]
    ) -> list[Checksum]:
        """Sum up the rows of targets of one connection, by one call."""
        return self._together(Hook.CHECKSUM_TARGETS, Checksum, context, resolved)

    def read_source(self, context: ExecutionContext, resolved: ResolvedSource) -> SourceStream:
        """Open a view of a source."""
        if not self.supports(resolved.source.type, Hook.READ_SOURCE):
            info = self.host.loaded(resolved.source.type).info
            raise mistake_at(resolved.spec, "source", f"{info} writes targets and has no sources")
        stream = self._calls.call(
            resolved.source.type,
            Hook.READ_SOURCE,
            SourceStream,
            context=context.connected(resolved.connection),
            source=resolved.source,
        )
        return self._calls.checked_stream(resolved.source.type, stream, context)

    def list_owned(self, context: ExecutionContext, connection: Connection) -> tuple[Owned, ...]:
        """List what this project made in this environment on a connection."""
        found = self._calls.call(
            connection.type, Hook.LIST_OWNED, tuple, context=context.connected(connection)
        )
        if not all(isinstance(owned, Owned) for owned in found):
            raise self._calls.broken(
                connection.type, Hook.LIST_OWNED, "returned things that are no Owned"
            )
        return found

    def drop_target(self, context: ExecutionContext, connection: Connection, owned: Owned) -> bool:
        """Drop one of them; tell whether it was there."""
        return self._calls.call(
            connection.type,
            Hook.DROP_TARGET,
            bool,
            context=context.connected(connection),
            owned=owned,
        )

    def drop_targets(
        self, context: ExecutionContext, connection: Connection, owned: Sequence[Owned]
    ) -> tuple[bool, ...]:
        """Drop several tables of a connection by one call; tell of each whether it was there."""
        found = self._calls.call(
            connection.type,
            Hook.DROP_TARGETS,
            tuple,
            context=context.connected(connection),
            owned=tuple(owned),
        )
        if len(found) != len(owned) or not all(isinstance(one, bool) for one in found):
            raise self._calls.broken(
                connection.type, Hook.DROP_TARGETS, "did not answer with a bool for each, in order"
            )
        return found

    def note_promotion(
        self, context: ExecutionContext, connection: Connection, note: PromotionNote
    ) -> None:
        """Keep a promotion's document in a store."""
        self._calls.call(
            connection.type,
            Hook.NOTE_PROMOTION,
            bool,
            context=context.connected(connection),
            note=note,
        )

    def list_promotions(
        self, context: ExecutionContext, connection: Connection
    ) -> tuple[PromotionNote, ...]:
        """List the promotions' documents that a store keeps."""
        found = self._calls.call(
            connection.type, Hook.LIST_PROMOTIONS, tuple, context=context.connected(connection)
        )
        if not all(isinstance(note, PromotionNote) for note in found):
            raise self._calls.broken(
                connection.type, Hook.LIST_PROMOTIONS, "returned things that are no PromotionNote"
            )
        return found

    def forget_promotion(
        self, context: ExecutionContext, connection: Connection, promotion: str
    ) -> None:
        """Remove a promotion's document from a store."""
        self._calls.call(
            connection.type,
            Hook.FORGET_PROMOTION,
            bool,
            context=context.connected(connection),
            promotion=promotion,
        )

    def sweep(
        self,
        context: ExecutionContext,
        connection: Connection,
        promotions: tuple[str, ...],
        *,
        dry_run: bool,
        targets: tuple[Target, ...] = (),
    ) -> Swept:
        """Delete what commands that died left on a connection, and keep its targets' tables."""
        return self._calls.call(
            connection.type,
            Hook.SWEEP,
            Swept,
            context=context.connected(connection),
            promotions=promotions,
            dry_run=dry_run,
            targets=targets,
        )

    def check_connection(
        self, context: ExecutionContext, connection: Connection, write: bool = False
    ) -> str:
        """Try a connection, also by writing to it where that is wished; say what answered."""
        if not self.supports(connection.type, Hook.CHECK_CONNECTION):
            return "not tried: the backend has no check"
        return self._calls.call(
            connection.type,
            Hook.CHECK_CONNECTION,
            str,
            context=context.connected(connection),
            write=write,
        )
