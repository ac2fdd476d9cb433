"""The one typed door to the hooks.

A method per hook: it routes the call to the backend of the target's type,
checks the type of what comes back, and turns a foreign exception into one
that names the plugin and its version. Nothing else calls a hook. Here, too, a
`TargetSpec` becomes a `Target`: the only way to one leads through
``namespace_for``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import attrs

from seeknal_core.contract.errors import (
    ConfigError,
    NamespaceRefused,
    OptionError,
    Problem,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.options import Mistake, nearest, structure
from seeknal_core.contract.types import (
    BackendOptions,
    Batch,
    Binding,
    Checksum,
    Connection,
    ConnectionSpec,
    ExecutionContext,
    Interval,
    Linked,
    Location,
    Mode,
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
    problem_at,
)
from seeknal_core.hints import hints
from seeknal_core.plugins.calls import HookCalls, in_environment
from seeknal_core.plugins.host import PluginHost
from seeknal_core.project.inline import refuse_inline

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

#: Keys of a source's params that the core itself understands.
_SOURCE_KEYS = ("connection", "query", "columns", "table")


@attrs.frozen(kw_only=True)
class ResolvedTarget:
    """A target ready for hooks: what was written, its connection, its final name."""

    spec: TargetSpec
    connection: Connection
    target: Target


@attrs.frozen(kw_only=True)
class ResolvedSource:
    """A backend's source ready for hooks."""

    spec: SourceSpec
    connection: Connection
    source: Source


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
        """Tell whether the backend of `type` implements an optional hook."""
        return self.host.implements(type, hook)

    def together(self, type: str, hook: Hook) -> bool:
        """Tell whether a hook for several targets serves those of `type`."""
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

    def bind_target(self, context: ExecutionContext, spec: TargetSpec) -> Binding:
        """Say which connection the target means; by default the one it names."""
        if self.supports(spec.type, Hook.BIND_TARGET):
            try:
                return self._calls.call(
                    spec.type, Hook.BIND_TARGET, Binding, context=context, target=spec
                )
            except OptionError as error:
                raise located(error, spec.location, prefix=spec.node) from error
        connection = spec.connection or self._only_connection(context, spec.type, spec)
        return Binding(connection=connection, parts=tuple(spec.table.split(".")))

    def bind_source(self, context: ExecutionContext, spec: SourceSpec) -> Binding:
        """Say which connection the source means; by default the one it names."""
        if self.supports(spec.type, Hook.BIND_SOURCE):
            try:
                return self._calls.call(
                    spec.type, Hook.BIND_SOURCE, Binding, context=context, source=spec
                )
            except OptionError as error:
                raise located(error, spec.location, prefix=spec.node) from error
        connection = spec.connection or self._only_connection(context, spec.type, spec)
        parts = tuple(spec.table.split(".")) if spec.table else ()
        return Binding(connection=connection, parts=parts)

    def target(self, context: ExecutionContext, spec: TargetSpec) -> ResolvedTarget:
        """Make a target of what the user wrote: bind, resolve, name, check its options."""
        binding = self.bind_target(context, spec)
        bound = attrs.evolve(spec, parts=binding.parts)
        connection = self.resolve_profile(
            context, self._connection(context, binding.connection, spec.type, spec)
        )
        try:
            name = self.namespace_for(context.connected(connection), bound)
        except NamespaceRefused as error:
            raise _mistake(spec, "table", error.message, error.hint) from error
        target = Target(
            key=spec.key,
            node=spec.node,
            type=spec.type,
            name=name,
            mode=target_mode(spec, context),
            unique_keys=spec.unique_keys,
            time_column=spec.time_column,
            lookback=spec.lookback,
            partition_by=spec.partition_by,
            on_schema_change=spec.on_schema_change,
            options=self._target_options(spec),
            covers=_covers(spec),
        )
        return ResolvedTarget(spec=bound, connection=connection, target=target)

    def source(self, context: ExecutionContext, spec: SourceSpec) -> ResolvedSource:
        """Make a source of what the user wrote: bind, resolve, check its options."""
        defaults = context.profile.source_defaults.get(spec.type, {})
        params = {**defaults, **spec.params}
        named = params.get("connection", spec.connection)
        if named is not None and not isinstance(named, str):
            raise _mistake(spec, "params.connection", "must be the name of a connection")
        merged = attrs.evolve(spec, params=params, connection=named)
        binding = self.bind_source(context, merged)
        own, inline = self._split_params(merged)
        connection_spec = self._source_connection(context, merged, binding.connection, inline)
        written = [key for key in inline if key in spec.params]
        refused = refuse_inline(context, spec, connection_spec, written, self.options(spec.type))
        if refused is not None and not refused.unknown:
            raise refused.error
        try:
            connection = self.resolve_profile(context, connection_spec)
        except ConfigError as error:
            raise _of_params(error, spec.node, connection_spec.name, inline) from error
        if refused is not None:
            raise refused.error
        query = _text(merged, params, "query")
        if not query and not binding.parts:
            raise _mistake(spec, "table", "a source needs a table or params.query")
        source = Source(
            node=spec.node,
            type=spec.type,
            parts=binding.parts,
            query=query,
            columns=_columns(merged, params),
            watermark=spec.watermark,
            declared=spec.declared,
            options=own,
        )
        return ResolvedSource(spec=merged, connection=connection, source=source)

    def namespace_for(self, context: ExecutionContext, spec: TargetSpec) -> QualifiedName:
        """Give the target's final name in the context's environment."""
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
        """Tell what stands where the target is; None where the backend cannot tell."""
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
        """Tell what stands where targets of one connection are, in their order.

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
        """Say of targets of one connection why they can't be links; empty where they can."""
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
        """Say what a write would do to a target's columns; None where its backend cannot."""
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
        """Say what may go wrong when targets of one connection are published together."""
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

    def read_source(self, context: ExecutionContext, resolved: ResolvedSource) -> SourceStream:
        """Open a view of a source."""
        if not self.supports(resolved.source.type, Hook.READ_SOURCE):
            info = self.host.loaded(resolved.source.type).info
            raise _mistake(resolved.spec, "source", f"{info} writes targets and has no sources")
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

    def _only_connection(
        self, context: ExecutionContext, type: str, spec: TargetSpec | SourceSpec
    ) -> str:
        names = context.profile.of_type(type)
        if len(names) == 1:
            return names[0]
        what = f"which of {', '.join(names)} is meant" if names else f"no {type!r} connection"
        raise _mistake(spec, "connection", f"{what} in {_profile_name(context)}")

    def _connection(
        self, context: ExecutionContext, name: str, type: str, spec: TargetSpec | SourceSpec
    ) -> ConnectionSpec:
        found = context.profile.connections.get(name)
        if found is None:
            hint = nearest(name, context.profile.connections)
            raise _mistake(
                spec, "connection", f"no connection {name!r} in {_profile_name(context)}", hint
            )
        if found.type != type:
            fitting = context.profile.of_type(type)
            hint = f"of that type: {', '.join(fitting)}" if fitting else ""
            what = f"connection {name!r} is of type {found.type!r}, not {type!r}"
            raise _mistake(spec, "connection", what, hint)
        return found

    def _source_connection(
        self,
        context: ExecutionContext,
        spec: SourceSpec,
        name: str,
        inline: Mapping[str, object],
    ) -> ConnectionSpec:
        base = self._connection(context, name, spec.type, spec) if name else None
        if base is not None and not inline:
            return base
        locations = dict(base.locations) if base else {}
        if spec.location:
            locations.update(dict.fromkeys(("", *inline), spec.location))
        return ConnectionSpec(
            name=base.name if base else spec.node,
            type=spec.type,
            options={**(base.options if base else {}), **inline},
            locations=locations,
            inline=base is not None and base.inline,
        )

    def _split_params(self, spec: SourceSpec) -> tuple[object, dict[str, object]]:
        """Part a source's params into its own options and inline connection options."""
        rest = {key: value for key, value in spec.params.items() if key not in _SOURCE_KEYS}
        described = self.options(spec.type)
        if described is None or described.source is None:
            return None, rest
        known = {field.alias for field in attrs.fields(described.source)}
        own = {key: value for key, value in rest.items() if key in known}
        inline = {key: value for key, value in rest.items() if key not in known}
        try:
            return structure(own, described.source), inline
        except OptionError as error:
            raise located(error, spec.location, prefix=f"{spec.node}.params") from error

    def _target_options(self, spec: TargetSpec) -> object:
        described = self.options(spec.type)
        if described is None:
            return dict(spec.options) or None
        if described.target is None:
            if spec.options:
                unknown = ", ".join(sorted(spec.options))
                raise _mistake(spec, "materialization", f"unknown field {unknown}")
            return None
        try:
            return structure(spec.options, described.target)
        except OptionError as error:
            raise located(error, spec.location, prefix=spec.node) from error


def _covers(spec: TargetSpec) -> Interval | None:
    """Return what a target's node covers, templates expanded."""
    from seeknal_core.project.covers import interval_of

    if spec.covers is None:
        return None
    try:
        return interval_of(*spec.covers)
    except Mistake as error:
        raise _mistake(spec, "covers", error.message, error.hint) from error


def target_mode(spec: TargetSpec, context: ExecutionContext) -> Mode:
    """Return the target's mode: its own, the legacy profile's default, else ``full``."""
    if spec.mode is not None:
        return spec.mode
    if spec.type == hints().legacy_target_type and context.profile.default_mode is not None:
        return context.profile.default_mode
    return Mode.FULL


def _of_params(
    error: ConfigError, node: str, connection: str, inline: Mapping[str, object]
) -> ConfigError:
    """Say ``params`` of the mistakes in options that stand there, not in the connection."""
    start = f"connections.{connection}."

    def moved(problem: Problem) -> Problem:
        # A key may hold dots itself.
        path = problem.path.removeprefix(start)
        if any(path == key or path.startswith(f"{key}.") for key in inline):
            return problem._replace(path=f"{node}.params.{path}")
        return problem

    return ConfigError([moved(problem) for problem in error.problems], error.hint)


def _profile_name(context: ExecutionContext) -> str:
    return context.profile.path or "the profile (there is none)"


def _mistake(spec: TargetSpec | SourceSpec, path: str, message: str, hint: str = "") -> ConfigError:
    return ConfigError([problem_at(spec.location, message, path=f"{spec.node}.{path}", hint=hint)])


def _text(spec: SourceSpec, params: Mapping[str, object], key: str) -> str | None:
    value = params.get(key)
    if value is None or isinstance(value, str):
        return value or None
    raise _mistake(spec, f"params.{key}", "must be text")


def _columns(spec: SourceSpec, params: Mapping[str, object]) -> tuple[str, ...] | None:
    value = params.get("columns")
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise _mistake(spec, "params.columns", "must be a list of column names")
