"""``seeknal run``: plan and carry out in one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from queue import SimpleQueue

import attrs

from seeknal_core.dispatch import ResolvedSource
from seeknal_core.errors import CollisionRefused, ProtectedEnvironment
from seeknal_core.run.compute import Computer
from seeknal_core.run.execute import Executor, Options
from seeknal_core.run.report import NodeOutcome, Reporter, RunReport, TargetOutcome
from seeknal_core.run.scope import Scope, make_scope
from seeknal_core.run.session import Session, bind, load_plugins
from seeknal_core.run.targets import Production, TargetCheck, check_targets, guard
from seeknal_core.state.records import EnvironmentRecord

Ended = tuple[list[NodeOutcome], list[TargetOutcome]]


@attrs.frozen(kw_only=True)
class RunRequest:
    """What ``seeknal run`` was asked for."""

    select: Sequence[str] = ()
    exclude: Sequence[str] = ()
    options: Options = Options()
    all_targets: bool = False
    allow_production_targets: bool = False


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
        refuse_protected(session, record)
        scope = make_scope(
            session, request.select, request.exclude, record, bindings.sources, is_stored(session)
        )
        _warn_of_edited_inputs(session, scope, reporter)
        chosen = [
            resolved
            for resolved in bindings.targets.values()
            if resolved.spec.node in scope.selected
        ]
        checks = check_targets(session, chosen)
        refuse_shared_prefix(session)
        others = other_records(session)
        guard(session, checks, others, allow_production=request.allow_production_targets)
        nodes, targets = _execute(
            session, scope, request, reporter, record, base, checks, bindings.sources
        )
        report = RunReport(
            run_id=session.context.run_id,
            environment=name,
            profile=session.profile.path or "",
            profile_reason=session.profile.reason,
            nodes=tuple(nodes),
            targets=tuple(targets),
            seconds=time.monotonic() - started,
            interrupted=session.context.cancellation.requested,
        )
        _save(session, scope, report)
    return report


def _execute(
    session: Session,
    scope: Scope,
    request: RunRequest,
    reporter: Reporter,
    record: EnvironmentRecord,
    base: EnvironmentRecord | None,
    checks: Mapping[str, TargetCheck],
    sources: Mapping[str, ResolvedSource],
) -> Ended:
    from seeknal_core.engine.files import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore

    warnings: SimpleQueue[str] = SimpleQueue()
    store = SnapshotStore(session.target_folder / "snapshots")
    digests = FileDigests(session.target_folder / "state" / "file-digests.json")
    with store.shared_lock():
        computer = Computer(session, store, digests, sources, warnings.put)
        journal = session.state.journal(session.environment.name)
        try:
            executor = Executor(
                session,
                scope,
                checks,
                computer,
                journal,
                reporter,
                record=record,
                production=Production(record=base, all_targets=request.all_targets),
                find=store.find,
                warnings=warnings,
            )
            ended = executor.run(request.options)
        except BaseException:
            computer.close()
            raise
        finally:
            journal.close()
            digests.save()
        if not executor.abandoned:
            computer.close()
            store.close()
        return ended


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


def _save(session: Session, scope: Scope, report: RunReport) -> None:
    """Fold the journal into the record; after a whole run forget nodes that are gone.

    Their targets stay on record: the tables are still this environment's.
    """
    record = session.state.load(session.environment.name) or EnvironmentRecord(
        name=session.environment.name
    )
    whole = scope.selected == frozenset(session.graph.nodes)
    nodes = {
        id: held for id, held in record.nodes.items() if not whole or id in session.graph.nodes
    }
    status = "interrupted" if report.interrupted else "failed" if report.failed else "applied"
    session.state.save(
        attrs.evolve(
            record,
            profile=session.profile.path or "",
            created_at=record.created_at or _now(),
            last_run_at=_now(),
            last_run_id=session.context.run_id,
            status=status,
            nodes=nodes,
        )
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
