"""What every command that looks at a project opens, once.

Project, profile, graph and plugins are read in this order, and each kind of
mistake is reported whole before the next is looked for. The profile is chosen
here and nowhere below: from here on it travels in the `ExecutionContext`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seeknal_core import project as config
from seeknal_core.contract.errors import ConfigError, PluginError, Problem, SeeknalError
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import (
    Cancellation,
    ConnectionSpec,
    Environment,
    ExecutionContext,
    Location,
    Profile,
    Resources,
    SourceSpec,
    TargetSpec,
    problem_at,
    redact,
)
from seeknal_core.files.cache import Cache
from seeknal_core.files.layout import Layout
from seeknal_core.hints import canonical_type, hints
from seeknal_core.plugins.dispatch import Dispatcher
from seeknal_core.plugins.host import BACKENDS, PluginHost
from seeknal_core.plugins.resolve import resolve_source, resolve_target
from seeknal_core.plugins.resolved import ResolvedSource, ResolvedTarget
from seeknal_core.project.allowed_variables import ListedVariables
from seeknal_core.project.places import Places
from seeknal_core.project.specs import FILE_TYPES, AnyNode, ProjectSettings, PythonNode, SourceNode
from seeknal_core.project.trust import FILES_ALLOW, UNTRUSTED, Trust
from seeknal_core.state.documents import write_atomically
from seeknal_core.state.open import open_state
from seeknal_core.state.store import StateStore
from seeknal_core.workspace.again import with_profiles

if TYPE_CHECKING:
    from seeknal_core.engine.files.digests import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore
    from seeknal_core.graph import Graph
    from seeknal_core.graph.templates import Variables


@attrs.frozen(kw_only=True)
class Request:
    """What the command line said that more than one command understands.

    ``environment`` is as typed, None for production; ``profile`` is
    ``--profile`` or ``SEEKNAL_PROFILE``; ``others`` are profiles that were named for
    further environments. ``trust`` is made before anything of the
    project is read.
    """

    project_dir: str | None = None
    environment: str | None = None
    profile: str | None = None
    variables: Mapping[str, object] = attrs.field(factory=dict)
    ignore_unsupported: bool = False
    adopt: bool = False
    full_refresh: bool = False
    others: Mapping[str, str] = attrs.field(factory=dict)
    trust: Trust = attrs.field(factory=lambda: Trust.from_environment(os.environ))


@attrs.frozen(kw_only=True)
class Session:
    """An opened project in one environment.

    ``repeated`` are the options of the command line that another command must have
    too to mean the same: ``--profile`` and ``--vars``. ``given`` are the profiles that were
    named on the command line, by environment. ``places`` is what files the project may read.
    """

    settings: ProjectSettings
    environment: Environment
    profile: Profile
    graph: Graph
    variables: Variables
    dispatcher: Dispatcher
    context: ExecutionContext
    state: StateStore
    warnings: tuple[Problem, ...]
    parsed: Cache
    repeated: tuple[str, ...] = ()
    given: Mapping[str, str] = attrs.field(factory=dict)
    trust: Trust
    places: Places
    #: What was bound already, by what of the context it depends on: see `bind`.
    bound: dict[object, Bindings] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def bound_already(self) -> Bindings | None:
        """What `bind` returned for the whole project, None before it was called."""
        return self.bound.get((self.context.full_refresh, self.context.adopt))

    @property
    def layout(self) -> Layout:
        """Where everything lies that the tool writes."""
        return Layout(Path(self.context.target_dir))

    def snapshot_store(self) -> SnapshotStore:
        """Open the stored outputs of nodes."""
        from seeknal_core.engine.snapshots import SnapshotStore

        return SnapshotStore(self.layout.snapshots, self.state)

    def file_digests(self) -> FileDigests:
        """Open the known digests of files that sources name."""
        from seeknal_core.engine.files.digests import FileDigests

        return FileDigests(self.layout.file_digests)

    def save_caches(self) -> None:
        """Leave to the next command what this one parsed."""
        from seeknal_core.graph.texts import texts

        self.parsed.save(write_atomically)
        texts.save(write_atomically)

    def rerun(self, select: str) -> str:
        """Return the command that runs some nodes in this environment, for hints."""
        environment = () if self.environment.is_production else ("--env", self.environment.name)
        return redact(
            shlex.join(("seeknal", "run", *environment, *self.repeated, "--select", select))
        )

    def command(self, *words: str) -> str:
        """Return a command that works on this environment, for hints: ``seeknal`` and `words`."""
        environment = () if self.environment.is_production else ("--env", self.environment.name)
        profile = self.repeated[:2] if self.repeated[:1] == ("--profile",) else ()
        return redact(shlex.join(("seeknal", *words, *environment, *profile)))

    def again(self, *words: str) -> str:
        """Return a command with this one's ``--profile`` and ``--vars``, for hints."""
        return redact(shlex.join(("seeknal", *words, *self.repeated)))

    def complete(self, hint: str) -> str:
        """Return a hint whose commands repeat the profiles of this command line."""
        return redact(with_profiles(hint, self.given, self.settings.production))

    def production_profile(self) -> Profile | None:
        """Return production's profile as it resolves now; None where it has a mistake.

        Production's secrets need not be known where somebody runs ``dev``.
        """
        if self.environment.is_production:
            return self.profile
        try:
            choice = config.choose_profile(
                self.settings,
                self.settings.production,
                explicit=None,
                home=config.seeknal_home(),
                trust=self.trust,
            )
            return config.load_profile(choice, self.settings)
        except ConfigError:
            return None


def sibling(session: Session, name: str, explicit: str | None = None) -> Session:
    """Return the same project in another environment: its profile, its names.

    Args:
        name: a canonical name.
        explicit: a profile file that the user named for it.

    Raises:
        ConfigError: mistakes in its profile.
    """
    choice = config.choose_profile(
        session.settings,
        name,
        explicit=explicit,
        home=config.seeknal_home(),
        trust=session.trust,
    )
    profile = config.load_profile(choice, session.settings)
    environment = config.environment_for(session.settings, name, profile)
    return attrs.evolve(
        session,
        environment=environment,
        profile=profile,
        places=config.places_of(
            Path(session.settings.root), session.settings, session.trust, profile
        ),
        variables=attrs.evolve(session.variables, env_name=environment.name),
        context=attrs.evolve(
            session.context, environment=environment, profile=profile, adopt=False
        ),
        repeated=() if explicit is None else ("--profile", explicit),
        bound={},
    )


@contextlib.contextmanager
def open_session(request: Request, cancellation: Cancellation | None = None) -> Iterator[Session]:
    """Open a project; close everything opened in stores at the end.

    Raises:
        ConfigError: mistakes in the project, the profile or the request, all of a kind.
    """
    root = config.find_root(Path(request.project_dir or os.curdir))
    config.refuse_brought_target(root, request.trust)
    noted = () if request.trust.untrusted else config.load_env_file(root)
    config.remember_variables(os.environ)
    host = PluginHost.from_environment(os.environ)
    resources = Resources()
    session: Session | None = None
    try:
        session = _open(request, root, host, resources, cancellation or Cancellation(), noted)
        yield session
    except BaseException as error:
        if session is not None and isinstance(error, SeeknalError):
            error.profile = (session.profile.path, session.profile.reason)
            error.hint = session.complete(error.hint)
        # What went wrong first is what the user must hear of.
        with contextlib.suppress(Exception):
            resources.close()
        raise
    resources.close()


def _open(
    request: Request,
    root: Path,
    host: PluginHost,
    resources: Resources,
    cancellation: Cancellation,
    noted: tuple[Problem, ...],
) -> Session:
    from seeknal_core.graph import build_graph
    from seeknal_core.graph.templates import Variables
    from seeknal_core.graph.texts import texts

    layout = Layout.of_project(root)
    parsed = config.open_parsed(layout.parsed)
    project = config.load_project(
        root,
        ignore_unsupported=request.ignore_unsupported,
        cache=parsed,
        trust=request.trust,
    )
    settings = project.settings
    name = config.parse_environment_name(request.environment, settings)
    from_variable = os.environ.get("SEEKNAL_PROFILE") or None
    choice = config.choose_profile(
        settings,
        name,
        explicit=request.profile or from_variable,
        home=config.seeknal_home(),
        given_by="--profile" if request.profile else "SEEKNAL_PROFILE",
        trust=request.trust,
    )
    profile = config.load_profile(choice, settings)
    environment = config.environment_for(settings, name, profile)
    texts.open(layout.sql)
    listed = ListedVariables.of(
        settings.env_vars, filter(request.trust.allows_variable, settings.env_vars)
    )
    graph = build_graph(
        project.nodes, vars=request.variables, skipped=project.skipped, listed=listed
    )

    started_at = datetime.now(UTC)
    run_id = f"{started_at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    state = open_state(root)
    context = ExecutionContext(
        project=settings.name,
        project_root=str(root),
        target_dir=str(layout.target),
        state_id=state.state_id(create=False),
        environment=environment,
        run_id=run_id,
        started_at=started_at,
        profile=profile,
        resources=resources,
        cancellation=cancellation,
        adopt=request.adopt,
        full_refresh=request.full_refresh,
        inputs=graph.inputs,
    )
    return Session(
        settings=settings,
        environment=environment,
        profile=profile,
        graph=graph,
        variables=Variables(
            today=started_at.astimezone().date(),
            run_id=run_id,
            env_name=environment.name,
            vars=request.variables,
            listed=listed,
        ),
        dispatcher=Dispatcher(host),
        context=context,
        state=state,
        warnings=(
            *noted,
            *project.warnings,
            *_nothing_warning(project.nodes),
            *profile.warnings,
            *graph.warnings,
            *_legacy_mode_warning(profile, project.nodes),
        ),
        parsed=parsed,
        repeated=_repeated(request),
        given={**request.others, **({name: request.profile} if request.profile else {})},
        trust=request.trust,
        places=config.places_of(root, settings, request.trust, profile),
    )


def _nothing_warning(nodes: Sequence[AnyNode]) -> tuple[Problem, ...]:
    hint = "put a source into seeknal/sources, or look at one: seeknal init shop --example"
    return () if nodes else (Problem("the project has no nodes", hint=hint),)


def _repeated(request: Request) -> tuple[str, ...]:
    profile = ("--profile", request.profile) if request.profile else ()
    given = json.dumps(request.variables, ensure_ascii=False) if request.variables else ""
    return (*profile, *(("--vars", given) if given else ()))


def _legacy_mode_warning(profile: Profile, nodes: Sequence[AnyNode]) -> tuple[Problem, ...]:
    """Name the targets whose mode an older profile's default decides."""
    legacy = hints().legacy_target_type
    affected = [
        spec.table
        for node in nodes
        for spec in node.targets
        if spec.type == legacy and spec.mode is None
    ]
    if profile.default_mode is None or profile.default_mode.rule.replaces or not affected:
        return ()
    return (
        Problem(
            f"default_mode makes the mode of {', '.join(affected)} {profile.default_mode.value!r}",
            file=profile.path or "",
            path="materialization.default_mode",
            hint="write the mode beside each target",
        ),
    )


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
    """Say what a source or a target of a type that nobody has heard of may mean."""
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


def needs_python(session: Session, id: str) -> str:
    """Return why computing a node is refused; empty where it is not."""
    if session.trust.python or not isinstance(session.graph.nodes[id], PythonNode):
        return ""
    return f"needs the project's Python, which {session.trust.why_no_python} keeps from running"
