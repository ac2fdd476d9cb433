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
from seeknal_core.contract.errors import ConfigError, Problem, SeeknalError
from seeknal_core.contract.types import (
    Cancellation,
    Environment,
    ExecutionContext,
    Profile,
    Resources,
    redact,
)
from seeknal_core.files.cache import Cache
from seeknal_core.files.layout import Layout
from seeknal_core.hints import hints
from seeknal_core.plugins.dispatch import Dispatcher
from seeknal_core.plugins.host import PluginHost
from seeknal_core.project.allowed_variables import ListedVariables
from seeknal_core.project.places import Places
from seeknal_core.project.specs import AnyNode, ProjectSettings, PythonNode
from seeknal_core.project.trust import Trust
from seeknal_core.state.documents import write_atomically
from seeknal_core.state.open import open_state
from seeknal_core.state.store import StateStore
from seeknal_core.workspace.again import with_profiles

if TYPE_CHECKING:
    from seeknal_core.engine.files.digests import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore
    from seeknal_core.graph import Graph
    from seeknal_core.graph.templates import Variables
    from seeknal_core.workspace.bindings import Bindings


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
    #: Fingerprints of the graph's nodes, shared by the environments of one command.
    described: dict[object, object] = attrs.field(factory=dict, repr=False, eq=False)

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
    profile = _profile(request, settings, name)
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


def _profile(request: Request, settings: ProjectSettings, name: str) -> Profile:
    """Choose and load the environment's profile, for the whole command."""
    from_variable = os.environ.get("SEEKNAL_PROFILE") or None
    choice = config.choose_profile(
        settings,
        name,
        explicit=request.profile or from_variable,
        home=config.seeknal_home(),
        given_by="--profile" if request.profile else "SEEKNAL_PROFILE",
        trust=request.trust,
    )
    return config.load_profile(choice, settings)


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


def needs_python(session: Session, id: str) -> str:
    """Return why computing a node is refused; empty where it is not."""
    if session.trust.python or not isinstance(session.graph.nodes[id], PythonNode):
        return ""
    return f"needs the project's Python, which {session.trust.why_no_python} keeps from running"
