"""``seeknal run``: plan and carry out in one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from seeknal_core.dispatch import ResolvedTarget
from seeknal_core.errors import (
    CollisionRefused,
    PromotionInterrupted,
    ProtectedEnvironment,
    StalePlan,
)
from seeknal_core.run.carry import Ended, Work, bound_anew, carry_out
from seeknal_core.run.describe import updated_manifest
from seeknal_core.run.execute import Options
from seeknal_core.run.keys import digest
from seeknal_core.run.looking import look
from seeknal_core.run.replacing import Confirm, replaced
from seeknal_core.run.report import Reporter, RunReport
from seeknal_core.run.scope import Scope, make_scope
from seeknal_core.run.session import Session, bind, load_plugins
from seeknal_core.run.targets import TargetCheck, check_targets, guard
from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.records import EnvironmentRecord, NodeRecord

#: Raises an error where something stands against writing these targets.
Refuse = Callable[[Session, Sequence[ResolvedTarget]], None]


@attrs.frozen(kw_only=True)
class RunRequest:
    """What ``seeknal run`` was asked for.

    ``exact`` looks at every target's rows. ``refuse`` hears of the targets, and ``confirm`` of
    the tables that lose rows to a full refresh, before anything is written; None asks nobody.
    """

    select: Sequence[str] = ()
    exclude: Sequence[str] = ()
    options: Options = Options()
    all_targets: bool = False
    only_changed: bool = False
    allow_production_targets: bool = False
    exact: bool = False
    confirm: Confirm | None = None
    refuse: Refuse | None = None


def run(session: Session, request: RunRequest, reporter: Reporter) -> RunReport:
    """Bring the selected nodes and their targets up to date.

    Raises:
        ConfigError, PluginError, CollisionRefused, BackendError, StateError:
            before anything was written. What fails later is in the report.
    """
    started = time.monotonic()
    for warning in session.warnings:
        reporter.warn(str(warning))
    graph = session.graph
    # Mistakes are looked for in the whole project, also where only a part of it runs.
    for failure in load_plugins(session, list(graph.nodes.values())):
        reporter.warn(f"{failure}; {failure.hint}" if failure.hint else str(failure))
    bindings = bind(session, list(graph.nodes.values()))
    name = session.environment.name
    with session.state.lock(name):
        session = attrs.evolve(
            session,
            context=attrs.evolve(session.context, state_id=session.state.state_id(create=True)),
        )
        record = session.state.load(name) or EnvironmentRecord(
            name=name, created_at=_now(), profile=session.profile.path or ""
        )
        base = production_record(session)
        refuse_unfinished(session)
        refuse_protected(session, record)
        refuse_rolled_back(session, record)
        scope = make_scope(
            session, request.select, request.exclude, record, bindings.sources, is_stored(session)
        )
        _warn_of_edited_inputs(session, scope, reporter)
        chosen = [
            resolved
            for resolved in bindings.targets.values()
            if resolved.spec.node in scope.selected
        ]
        refuse_shared_prefix(session)

        def check() -> Mapping[str, TargetCheck]:
            if request.refuse is not None:
                request.refuse(session, chosen)
            checks = check_targets(session, chosen)
            others = other_records(session)
            guard(session, checks, others, allow_production=request.allow_production_targets)
            looked = look(session, checks, record, exact=request.exact)
            if request.confirm is not None:
                request.confirm(replaced(session, looked.values(), record))
            return looked

        work = Work(
            scope=scope,
            check=check,
            sources=bindings.sources,
            record=record,
            base=base,
            options=request.options,
            all_targets=request.all_targets,
            only_changed=request.only_changed,
        )
        base_state = moved_digest(base)
        with session.state.journal(name) as journal:
            ended = carry_out(session, work, journal, reporter)
        report = RunReport(
            run_id=session.context.run_id,
            environment=name,
            profile=session.profile.path or "",
            profile_reason=session.profile.reason,
            nodes=ended.nodes,
            targets=ended.targets,
            seconds=time.monotonic() - started,
            interrupted=session.context.cancellation.requested,
        )
        save(
            session, report, ended, base=base, base_state=base_state, whole=is_whole(session, scope)
        )
    return report


def is_stored(session: Session) -> Callable[[str], bool]:
    """Return what tells whether a content key is in the snapshot store."""
    from seeknal_core.engine.snapshots import SnapshotStore

    return SnapshotStore(session.target_folder / "snapshots").contains


def _warn_of_edited_inputs(session: Session, scope: Scope, reporter: Reporter) -> None:
    """Say that rows of an older definition are used where only a part is run."""
    definitions = session.graph.definitions
    edited = [id for id, held in scope.recorded.items() if held.definition != definitions[id]]
    if edited:
        reporter.warn(
            f"{', '.join(sorted(edited))} changed and is not selected; the rows of its older "
            "definition are used"
        )
    if not scope.selected and session.graph.nodes:
        reporter.warn("nothing is selected: --exclude leaves out all that --select names")


def is_whole(session: Session, scope: Scope) -> bool:
    """Tell whether a scope has every node of the project."""
    return scope.selected == frozenset(session.graph.nodes)


def save(
    session: Session,
    report: RunReport,
    ended: Ended,
    *,
    base: EnvironmentRecord | None,
    base_state: str,
    whole: bool,
    taken: Mapping[str, NodeRecord] | None = None,
) -> None:
    """Fold the journal into the record; after a whole run forget nodes that are gone.

    Their targets stay on record: the tables are still this environment's.

    Args:
        base_state: what the base was when the work began (`moved_digest`).
        taken: references that the environment takes over from its base.
    """
    name = session.environment.name
    record = session.state.load(name) or EnvironmentRecord(name=name)
    nodes = {**record.nodes, **(taken or {})}
    if whole:
        nodes = {id: held for id, held in nodes.items() if id in session.graph.nodes}
    before = load_manifest(session.state, name)
    bad = report.failed or report.refused
    status = "interrupted" if report.interrupted else "failed" if bad else "applied"
    if status == "applied" and not whole and record.status != "applied":
        status = record.status or "partial"
    record = attrs.evolve(
        record,
        profile=session.profile.path or "",
        created_at=record.created_at or _now(),
        last_run_at=_now(),
        last_run_id=session.context.run_id,
        status=status,
        nodes=bound_anew(nodes, ended.documents),
        base=base.name if base is not None else "",
        base_state=base_state,
        rolled_back="",
        protected=session.profile.protected,
        given_profile=(session.profile.path or "") if session.profile.given else "",
    )
    others = [load_manifest(session.state, base.name)] if base is not None else []
    save_manifest(
        session.state, name, updated_manifest(session, before, record, ended.outputs, others)
    )
    session.state.save(record)


def moved_digest(record: EnvironmentRecord | None) -> str:
    """Digest what a plan upon an environment depends on: definitions, targets, generation.

    Its data is not in it: a scheduled refresh is not a move.
    """
    if record is None or not (record.nodes or record.targets or record.generation):
        return ""
    return digest(
        "state",
        record.generation,
        sorted((id, node.definition) for id, node in record.nodes.items()),
        sorted((key, target.fingerprint) for key, target in record.targets.items()),
    )


def production_record(session: Session) -> EnvironmentRecord | None:
    """Return what production holds; None in production itself."""
    if session.environment.is_production:
        return None
    return session.state.load(session.settings.production)


def other_records(session: Session) -> dict[str, EnvironmentRecord]:
    """Return the records of all other environments, by name."""
    return {
        name: found
        for name in session.state.names()
        if name != session.environment.name and (found := session.state.load(name)) is not None
    }


def refuse_shared_prefix(session: Session) -> None:
    """Refuse an environment whose prefix another one has already.

    Raises:
        CollisionRefused: ``dev-1`` beside ``dev_1``.
    """
    name = session.environment.name
    for other in session.state.names():
        if other != name and other.replace("-", "_") == name.replace("-", "_"):
            raise CollisionRefused(
                f"environment {name!r} would have the same prefix as {other!r}",
                "choose another name",
            )


def refuse_protected(session: Session, record: EnvironmentRecord) -> None:
    """Refuse to run definitions that a protected production does not hold.

    Raises:
        ProtectedEnvironment: with the nodes that differ.
    """
    if not (session.environment.is_production and session.profile.protected):
        return
    definitions = session.graph.definitions
    held = {id: node.definition for id, node in record.nodes.items()}
    differing = sorted(
        id for id in definitions.keys() | held.keys() if definitions.get(id) != held.get(id)
    )
    if differing:
        shown = ", ".join(differing[:5]) + (", ..." if len(differing) > 5 else "")
        raise ProtectedEnvironment(
            f"environment {session.environment.name!r} is protected, and the folder's definitions "
            f"are not the ones it holds: {shown}",
            "promote a verified environment instead of running this one",
        )


def definitions_digest(definitions: Mapping[str, str]) -> str:
    """Digest all definitions of a project or of a record."""
    return digest("definitions", dict(definitions))


def refuse_unfinished(session: Session) -> None:
    """Refuse to touch an environment while a promotion into it, or its undoing, is unfinished.

    Raises:
        PromotionInterrupted: with the command that goes on with it.
    """
    name = session.environment.name
    found = session.state.unfinished(name)
    if found is None:
        return
    if found.get("rollback"):
        raise PromotionInterrupted(
            f"a rollback of {name!r} is unfinished",
            f"seeknal env rollback {name}; to leave the tables as they are: "
            f"seeknal env rollback {name} --abort=keep",
        )
    command = f"seeknal env promote {found.get('source')} {name}"
    raise PromotionInterrupted(
        f"a promotion of {found.get('source')!r} into {name!r} is unfinished",
        f"{command} --resume (or --abort); to leave the tables as they are: {command} --abort=keep",
    )


def refuse_rolled_back(session: Session, record: EnvironmentRecord) -> None:
    """Refuse to run what a rollback has just taken away.

    Raises:
        StalePlan: the folder's definitions are those that were rolled back.
    """
    if record.rolled_back and record.rolled_back == definitions_digest(session.graph.definitions):
        raise StalePlan(
            f"the folder's definitions are those that were rolled back in {record.name!r}",
            "go back to the earlier definitions, or mend them and promote again",
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
