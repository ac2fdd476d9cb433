"""The targets and sources of a project, bound to the connections of a profile.

Nothing is connected here: backends are loaded, and say what they think of tables, options and
names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from seeknal_core import project as config
from seeknal_core.contract.errors import ConfigError, PluginError, Problem
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import (
    ConnectionSpec,
    Location,
    SourceSpec,
    TargetSpec,
    problem_at,
    redact,
)
from seeknal_core.hints import canonical_type, hints
from seeknal_core.plugins.host import BACKENDS, PluginHost
from seeknal_core.plugins.resolve import resolve_source, resolve_target
from seeknal_core.plugins.resolved import ResolvedSource, ResolvedTarget
from seeknal_core.project.specs import FILE_TYPES, AnyNode, SourceNode
from seeknal_core.project.trust import FILES_ALLOW, UNTRUSTED
from seeknal_core.workspace.session import Session


def store_sources(nodes: Sequence[AnyNode]) -> tuple[SourceNode, ...]:
    """Return the sources that a backend reads."""
    return tuple(
        node for node in nodes if isinstance(node, SourceNode) and node.type not in FILE_TYPES
    )


def enabled_targets(session: Session, nodes: Sequence[AnyNode]) -> tuple[TargetSpec, ...]:
    """Return the targets of these nodes that are switched on, what they cover expanded."""
    legacy = hints().legacy_target_type
    return tuple(
        _expanded(session, spec)
        for node in nodes
        for spec in node.targets
        if spec.enabled and (session.profile.materialization_enabled or spec.type != legacy)
    )


def _expanded(session: Session, spec: TargetSpec) -> TargetSpec:
    if spec.covers is None:
        return spec
    start, end = expanded_covers(session, spec.covers, spec.location)
    return attrs.evolve(spec, covers=(start, end))


def expanded_covers(
    session: Session, covers: tuple[str, str] | None, location: Location | None
) -> tuple[str, ...]:
    """Return what a node covers now, templates expanded; empty where it does not say."""
    from seeknal_core.graph.templates import expand

    return tuple(expand(text, session.variables, location=location) for text in covers or ())


def source_spec(session: Session, node: SourceNode) -> SourceSpec:
    """Return a backend's source with its templates expanded."""
    from seeknal_core.graph.templates import expand, expand_value
    from seeknal_core.project.interpolation import remember_all

    table = node.table
    if table is not None:
        table = expand(table, session.variables, location=node.location)
    params = expand_value(dict(node.params), session.variables, location=node.location)
    assert isinstance(params, dict)
    # Connection options may stand here, passwords among them.
    remember_all(params)
    return SourceSpec(
        node=node.id,
        type=canonical_type(node.type),
        table=table,
        params=params,
        watermark=node.watermark,
        declared={column.name: column.dtype for column in node.columns if column.dtype},
        location=node.location,
    )


def refuse_address(session: Session, node: SourceNode, written: str) -> None:
    """Refuse a source of files behind an address that an untrusted project may not read.

    Args:
        written: its path, templates expanded.

    Raises:
        ConfigError: the machine doesn't allow it.
    """
    if "://" not in written or written.startswith("file://") or session.trust.allows_url(written):
        return
    problem = problem_at(
        node.location,
        f"{redact(written)} is not on this machine, and the project is untrusted ({UNTRUSTED}=1)",
        path=node.id,
        hint=f"set {FILES_ALLOW} to the beginning of the address where the command runs",
    )
    raise ConfigError([problem])


def _refused_addresses(session: Session, nodes: Sequence[AnyNode]) -> list[Problem]:
    from seeknal_core.graph.templates import expand

    problems: list[Problem] = []
    for node in nodes if session.trust.untrusted else ():
        if isinstance(node, SourceNode) and node.type in FILE_TYPES:
            written = node.table if node.table is not None else str(node.params.get("path", ""))
            try:
                expanded = expand(written, session.variables, location=node.location)
                refuse_address(session, node, expanded)
            except ConfigError as error:
                problems += error.problems
    return problems


@attrs.frozen(kw_only=True)
class Bindings:
    """Every target and source of a command, ready for hooks, by key and node id."""

    targets: Mapping[str, ResolvedTarget]
    sources: Mapping[str, ResolvedSource]


def load_plugins(
    session: Session, nodes: Sequence[AnyNode] | None = None
) -> tuple[PluginError, ...]:
    """Load the backends that these nodes need (by default all), and the wrapper plugins.

    Returns:
        Wrapper plugins that could not be used.

    Raises:
        ConfigError: types whose backend is not installed or broken, each with its place.
    """
    if nodes is None:
        nodes = tuple(session.graph.nodes.values())
    host = session.dispatcher.host
    specs: list[tuple[str, TargetSpec | SourceNode]] = [
        (spec.type, spec) for spec in enabled_targets(session, nodes)
    ]
    specs += [(canonical_type(node.type), node) for node in store_sources(nodes)]
    problems: list[Problem] = []
    failures: dict[str, PluginError] = {}
    for type, spec in specs:
        if type not in failures:
            try:
                host.load_backends([type])
            except PluginError as error:
                failures[type] = error
        if type in failures:
            message = _unknown_type(host, spec) or failures[type].message
            problems.append(problem_at(spec.location, message))
        for found in _unknown_connection(session, spec):
            failures.setdefault(found.type, host.missing(found.type) or failures[type])
            path = f"connections.{found.name}.type"
            place = found.locations.get("type")
            problems.append(problem_at(place, failures[found.type].message, path=path))
    if problems:
        hint = "; ".join(dict.fromkeys(failure.hint for failure in failures.values()))
        raise ConfigError(list(dict.fromkeys(problems)), hint)
    return host.load_wrappers()


def _unknown_type(host: PluginHost, spec: TargetSpec | SourceNode) -> str:
    """Return what a source or a target of a type that nobody has heard of may mean."""
    if not host.unknown(spec.type):
        return ""
    if not isinstance(spec, SourceNode):
        return f"targets can't be of type {spec.type!r}" if spec.type in FILE_TYPES else ""
    installed = [info.name for info in host.installed(BACKENDS)]
    near = nearest(spec.type, [*FILE_TYPES, *installed, *hints().distributions, *hints().aliases])
    types = ", ".join(sorted([*FILE_TYPES, *installed]))
    return f"no source is of type {spec.type!r}; {near or f'the types are {types}'}"


def _unknown_connection(
    session: Session, spec: TargetSpec | SourceNode
) -> tuple[ConnectionSpec, ...]:
    """Return the connection that a node names, where no installed backend has its type."""
    named = spec.params.get("connection") if isinstance(spec, SourceNode) else spec.connection
    found = session.profile.connections.get(named) if isinstance(named, str) else None
    if found is None or session.dispatcher.host.missing(found.type) is None:
        return ()
    return (found,)


def bind(session: Session, nodes: Sequence[AnyNode] | None = None) -> Bindings:
    """Resolve the targets and store sources of these nodes; pure, nothing is connected.

    Those of the whole project, the default, are resolved once in a session.

    Raises:
        ConfigError: all mistakes in connections, tables, options and names.
    """
    if nodes is not None:
        return _bound(session, nodes)
    context = session.context
    # A session may go on as another command was asked to.
    depends = (context.full_refresh, context.adopt)
    if depends not in session.bound:
        session.bound[depends] = _bound(session, tuple(session.graph.nodes.values()))
    return session.bound[depends]


def _bound(session: Session, nodes: Sequence[AnyNode]) -> Bindings:
    targets: dict[str, ResolvedTarget] = {}
    sources: dict[str, ResolvedSource] = {}
    problems = _refused_addresses(session, nodes)
    hint = ""
    for spec in enabled_targets(session, nodes):
        if spec.key in targets:
            problems.append(
                problem_at(
                    spec.location,
                    f"{spec.table} is a target twice",
                    path=spec.node,
                    hint="remove one of the two",
                )
            )
            continue
        try:
            targets[spec.key] = resolve_target(session.dispatcher, session.context, spec)
        except ConfigError as error:
            problems += error.problems
            hint = hint or error.hint
    for node in store_sources(nodes):
        try:
            sources[node.id] = resolve_source(
                session.dispatcher, session.context, source_spec(session, node)
            )
        except ConfigError as error:
            problems += error.problems
            hint = hint or error.hint
    problems += _closed_files(session, nodes)
    if problems:
        if any(problem.path.endswith(".connection") for problem in problems):
            hint = hint or _no_profile(session)
        raise ConfigError(list(dict.fromkeys(problems)), hint)
    return Bindings(targets=targets, sources=sources)


def _no_profile(session: Session) -> str:
    """Return what to do where connections are missing since there is no profile at all."""
    if session.profile.path is not None:
        return ""
    name, home = session.environment.name, config.seeknal_home()
    places = [] if session.trust.untrusted else ["the project"]
    places += [str(home)] if home is not None else []
    return (
        f"no profile was found: neither profiles-{name}.yml nor profiles.yml is in "
        f"{' or in '.join(places)}; write one, or name a file with --profile FILE"
    )


def _closed_files(session: Session, nodes: Sequence[AnyNode]) -> list[Problem]:
    """Find the sources whose files the project may not read."""
    from seeknal_core.engine.files.find import check_named
    from seeknal_core.graph.templates import expand, expand_value

    root = Path(session.settings.root)
    problems: list[Problem] = []
    for node in nodes:
        if not isinstance(node, SourceNode) or node.type not in FILE_TYPES:
            continue
        table, params = node.table, node.params
        try:
            if table is not None:
                table = expand(table, session.variables, location=node.location)
            else:
                given = {**session.profile.source_defaults.get(node.type, {}), **params}
                path = expand_value(given.get("path"), session.variables, node.location)
                params = {"path": path}
        except ConfigError:
            continue  # A template lacks its variable: reported where the node is computed.
        try:
            check_named(attrs.evolve(node, table=table, params=params), root, session.places)
        except ConfigError as error:
            problems += error.problems
    return problems
