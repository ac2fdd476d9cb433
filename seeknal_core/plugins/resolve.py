"""Make targets and sources ready for hooks: their connection, final name and options.

The only way to a `Target` leads through ``namespace_for``, so that no hook that writes is handed a
name that forgot its environment.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.contract.errors import (
    ConfigError,
    NamespaceRefused,
    OptionError,
    Problem,
)
from seeknal_core.contract.options import Mistake, nearest, structure
from seeknal_core.contract.types import (
    Binding,
    ConnectionSpec,
    ExecutionContext,
    Interval,
    Mode,
    Source,
    SourceSpec,
    Target,
    TargetSpec,
)
from seeknal_core.hints import hints
from seeknal_core.plugins.dispatch import Dispatcher, located
from seeknal_core.plugins.resolved import ResolvedSource, ResolvedTarget, mistake_at
from seeknal_core.project.inline import refuse_inline

#: Keys of a source's params that the core itself understands.
_SOURCE_KEYS = ("connection", "query", "columns", "table")


def resolve_target(
    dispatcher: Dispatcher, context: ExecutionContext, spec: TargetSpec
) -> ResolvedTarget:
    """Make a target of what the user wrote: bind, resolve, name, check its options."""
    binding = _bind_target(dispatcher, context, spec)
    bound = attrs.evolve(spec, parts=binding.parts)
    connection = dispatcher.resolve_profile(
        context, _connection(context, binding.connection, spec.type, spec)
    )
    try:
        name = dispatcher.namespace_for(context.connected(connection), bound)
    except NamespaceRefused as error:
        raise mistake_at(spec, "table", error.message, error.hint) from error
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
        options=_target_options(dispatcher, spec),
        covers=_covers(spec),
    )
    return ResolvedTarget(spec=bound, connection=connection, target=target)


def resolve_source(
    dispatcher: Dispatcher, context: ExecutionContext, spec: SourceSpec
) -> ResolvedSource:
    """Make a source of what the user wrote: bind, resolve, check its options."""
    defaults = context.profile.source_defaults.get(spec.type, {})
    params = {**defaults, **spec.params}
    named = params.get("connection", spec.connection)
    if named is not None and not isinstance(named, str):
        raise mistake_at(spec, "params.connection", "must be the name of a connection")
    merged = attrs.evolve(spec, params=params, connection=named)
    binding = _bind_source(dispatcher, context, merged)
    own, inline = _split_params(dispatcher, merged)
    connection_spec = _source_connection(context, merged, binding.connection, inline)
    written = [key for key in inline if key in spec.params]
    refused = refuse_inline(context, spec, connection_spec, written, dispatcher.options(spec.type))
    if refused is not None and not refused.unknown:
        raise refused.error
    try:
        connection = dispatcher.resolve_profile(context, connection_spec)
    except ConfigError as error:
        raise _of_params(error, spec.node, connection_spec.name, inline) from error
    if refused is not None:
        raise refused.error
    query = _text(merged, params, "query")
    if not query and not binding.parts:
        raise mistake_at(spec, "table", "a source needs a table or params.query")
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


def target_mode(spec: TargetSpec, context: ExecutionContext) -> Mode:
    """Return the target's mode: its own, the legacy profile's default, else ``full``."""
    if spec.mode is not None:
        return spec.mode
    if spec.type == hints().legacy_target_type and context.profile.default_mode is not None:
        return context.profile.default_mode
    return Mode.FULL


def _bind_target(dispatcher: Dispatcher, context: ExecutionContext, spec: TargetSpec) -> Binding:
    """Return which connection a target means; by default the one it names."""
    bound = dispatcher.bind_target(context, spec)
    if bound is not None:
        return bound
    connection = spec.connection or _only_connection(context, spec.type, spec)
    return Binding(connection=connection, parts=tuple(spec.table.split(".")))


def _bind_source(dispatcher: Dispatcher, context: ExecutionContext, spec: SourceSpec) -> Binding:
    """Return which connection a source means; by default the one it names."""
    bound = dispatcher.bind_source(context, spec)
    if bound is not None:
        return bound
    connection = spec.connection or _only_connection(context, spec.type, spec)
    parts = tuple(spec.table.split(".")) if spec.table else ()
    return Binding(connection=connection, parts=parts)


def _only_connection(context: ExecutionContext, type: str, spec: TargetSpec | SourceSpec) -> str:
    names = context.profile.of_type(type)
    if len(names) == 1:
        return names[0]
    what = f"which of {', '.join(names)} is meant" if names else f"no {type!r} connection"
    raise mistake_at(spec, "connection", f"{what} in {_profile_name(context)}")


def _connection(
    context: ExecutionContext,
    name: str,
    type: str,
    spec: TargetSpec | SourceSpec,
) -> ConnectionSpec:
    found = context.profile.connections.get(name)
    if found is None:
        hint = nearest(name, context.profile.connections)
        raise mistake_at(
            spec, "connection", f"no connection {name!r} in {_profile_name(context)}", hint
        )
    if found.type != type:
        fitting = context.profile.of_type(type)
        hint = f"of that type: {', '.join(fitting)}" if fitting else ""
        what = f"connection {name!r} is of type {found.type!r}, not {type!r}"
        raise mistake_at(spec, "connection", what, hint)
    return found


def _source_connection(
    context: ExecutionContext,
    spec: SourceSpec,
    name: str,
    inline: Mapping[str, object],
) -> ConnectionSpec:
    base = _connection(context, name, spec.type, spec) if name else None
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


def _split_params(dispatcher: Dispatcher, spec: SourceSpec) -> tuple[object, dict[str, object]]:
    """Split a source's params into its own options and inline connection options."""
    rest = {key: value for key, value in spec.params.items() if key not in _SOURCE_KEYS}
    described = dispatcher.options(spec.type)
    if described is None or described.source is None:
        return None, rest
    known = {field.alias for field in attrs.fields(described.source)}
    own = {key: value for key, value in rest.items() if key in known}
    inline = {key: value for key, value in rest.items() if key not in known}
    try:
        return structure(own, described.source), inline
    except OptionError as error:
        raise located(error, spec.location, prefix=f"{spec.node}.params") from error


def _target_options(dispatcher: Dispatcher, spec: TargetSpec) -> object:
    described = dispatcher.options(spec.type)
    if described is None:
        return dict(spec.options) or None
    if described.target is None:
        if spec.options:
            unknown = ", ".join(sorted(spec.options))
            raise mistake_at(spec, "materialization", f"unknown field {unknown}")
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
        raise mistake_at(spec, "covers", error.message, error.hint) from error


def _of_params(
    error: ConfigError, node: str, connection: str, inline: Mapping[str, object]
) -> ConfigError:
    """Return a mistake with ``params`` as the place of options that are written there."""
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


def _text(spec: SourceSpec, params: Mapping[str, object], key: str) -> str | None:
    value = params.get(key)
    if value is None or isinstance(value, str):
        return value or None
    raise mistake_at(spec, f"params.{key}", "must be text")


def _columns(spec: SourceSpec, params: Mapping[str, object]) -> tuple[str, ...] | None:
    value = params.get("columns")
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    raise mistake_at(spec, "params.columns", "must be a list of column names")
