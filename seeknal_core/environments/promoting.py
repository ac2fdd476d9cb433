"""``seeknal env promote``: bring an environment's verified result into another one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from seeknal_core.environments import promotion as promotions
from seeknal_core.environments import publishing
from seeknal_core.environments.choosing import Choice, Policy, Rows, Side, choose, differing
from seeknal_core.environments.finishing import drop_removed, finish, write_direct
from seeknal_core.environments.promotion import Part, Promotion, Step, Write
from seeknal_core.errors import (
    ConfigError,
    NotApplied,
    PromotionFailed,
    PromotionInterrupted,
    SeeknalError,
    StalePlan,
    VerificationFailed,
)
from seeknal_core.run.carry import Ended, Kept, Work, carry_out, references
from seeknal_core.run.execute import Options
from seeknal_core.run.report import NodeStatus, Reporter
from seeknal_core.run.run import is_stored, moved_digest, other_records, refuse_unfinished
from seeknal_core.run.scope import Scope, compared, waits_of
from seeknal_core.run.session import Session, bind, load_plugins, sibling
from seeknal_core.run.targets import (
    TargetCheck,
    bindings_digest,
    check_targets,
    guard,
)
from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.types import Snapshot


@attrs.frozen(kw_only=True)
class PromoteRequest:
    """What ``seeknal env promote`` was asked for.

    ``verify`` is ``counts``, ``checksum`` or empty (checksums up to a size).
    ``max_row_change`` is a fraction of the destination's rows, None for no gate.
    ``abort`` is empty, ``undo``, ``keep`` or ``overwrite``.
    """

    policy: Policy = Policy.AUTO
    verify: str = ""
    max_row_change: float | None = None
    dry_run: bool = False
    force: bool = False
    resume: bool = False
    abort: str = ""
    prune: bool = False
    options: Options = Options()


@attrs.frozen(kw_only=True)
class PromotedNode:
    """A promoted node, and how many rows it has on either side."""

    id: str
    rows: Rows
    count: int | None
    source_count: int
    before_count: int | None


@attrs.frozen(kw_only=True)
class PromotedTarget:
    """A target that was, or would be, published; ``staged`` tells whether unseen first."""

    key: str
    node: str
    name: str
    mode: str
    rows: int | None
    staged: bool
    error: str = ""


@attrs.frozen(kw_only=True)
class PromotionReport:
    """What a promotion did. ``id`` is empty where there was nothing to promote."""

    id: str
    source: str
    destination: str
    nodes: tuple[PromotedNode, ...] = ()
    targets: tuple[PromotedTarget, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    outcome: str = "promoted"

    @property
    def failed(self) -> bool:
        """Whether a target outside the promise failed."""
        return any(target.error for target in self.targets)


#: Snapshots up to this size are compared by checksum unless told otherwise, in bytes.
_CHECKSUM_LIMIT = 2 << 30


def promote(
    session: Session, source_name: str, request: PromoteRequest, reporter: Reporter
) -> PromotionReport:
    """Promote an environment into the session's, or go on with what was begun.

    Raises:
        NotApplied, StalePlan: nothing was touched.
        VerificationFailed: nothing was published, what was staged is discarded.
        PromotionInterrupted: it stopped between the stores; the same command goes on.
        BackendError: nothing was published.
    """
    name = session.environment.name
    if source_name == name:
        raise ConfigError(
            f"{name!r} cannot be promoted into itself", "name two environments: seeknal env list"
        )
    started = time.monotonic()
    nodes = list(session.graph.nodes.values())
    for failure in load_plugins(session, nodes):
        reporter.warn(f"{failure}; {failure.hint}" if failure.hint else str(failure))
    with session.state.lock(name), session.state.lock(source_name):
        session = attrs.evolve(
            session,
            context=attrs.evolve(session.context, state_id=session.state.state_id(create=True)),
        )
        recovered = _recover(session, source_name, request)
        if recovered is not None:
            return attrs.evolve(recovered, seconds=time.monotonic() - started)
        report = _Promoter(session, source_name, request, reporter).run()
    return attrs.evolve(report, seconds=time.monotonic() - started)


def _recover(session: Session, source_name: str, request: PromoteRequest) -> PromotionReport | None:
    """Go on with, or undo, what an earlier command left; None if a new one is to begin."""
    name = session.environment.name
    found = promotions.load(session.state, name)
    if found is None:
        if request.resume or request.abort:
            raise ConfigError(
                f"no promotion into {name!r} is unfinished", f"seeknal env promote {source_name}"
            )
        return None
    if found.rollback or found.source != source_name:
        refuse_unfinished(session)
    if request.dry_run:
        raise PromotionInterrupted(
            f"a promotion of {found.source!r} into {name!r} is unfinished",
            promotions.resume_command(found),
        )
    session = attrs.evolve(
        session,
        context=attrs.evolve(session.context, full_refresh=found.full_refresh, adopt=found.adopt),
    )
    undone = PromotionReport(id=found.id, source=found.source, destination=name, outcome="undone")
    if request.abort == "keep":
        publishing.discard_all(session, found)
        promotions.forget(session.state, name)
        return attrs.evolve(undone, outcome="left as it is")
    if request.abort:
        publishing.give_up(session, found, overwrite=request.abort == "overwrite")
        return undone
    if found.step in (Step.STAGING, Step.REVERTING):
        publishing.give_up(session, found)
        return undone if request.resume else None
    if found.step is Step.VERIFIED:
        found = publishing.publish_all(session, found)
        promotions.save(session.state, found)
    return _finished(session, found, outcome="promoted, resumed")


def _finished(session: Session, found: Promotion, outcome: str = "promoted") -> PromotionReport:
    """Write what cannot be staged, move the state, and report."""
    found, errors = write_direct(session, found)
    notes = finish(session, found)
    return PromotionReport(
        id=found.id,
        source=found.source,
        destination=found.destination,
        targets=tuple(
            PromotedTarget(
                key=write.key,
                node=write.node,
                name=write.name,
                mode=str(write.spec["mode"] or "full"),
                rows=found.published.get(write.key, {}).get("rows"),
                staged=write in found.writes,
                error=errors.get(write.key, ""),
            )
            for write in (*found.writes, *found.direct)
        ),
        notes=notes,
        outcome=outcome,
    )


class _Promoter:
    """One promotion, from preflight to publish."""

    def __init__(
        self,
        session: Session,
        source_name: str,
        request: PromoteRequest,
        reporter: Reporter,
    ) -> None:
        from seeknal_core.engine.snapshots import SnapshotStore

        self._session = session
        self._request = request
        self._reporter = reporter
        self._store = SnapshotStore(session.target_folder / "snapshots")
        self._again = f"seeknal env promote {source_name} {session.environment.name}"
        self._source = self._side(sibling(session, source_name), source_name)
        self._destination = self._side(session, session.environment.name)

    def _side(self, session: Session, name: str) -> Side:
        record = session.state.load(name) or EnvironmentRecord(name=name)
        return Side(
            session=session,
            record=record,
            manifest=load_manifest(session.state, name),
            bindings=bind(session, list(session.graph.nodes.values())),
        )

    def run(self) -> PromotionReport:
        """Check, rebuild, stage, verify, publish."""
        self._refuse_not_applied()
        self._refuse_moved()
        checks = self._drift()
        choice = choose(self._source, self._destination, self._store, self._request.policy)
        if self._request.dry_run:
            return self._report(choice, choice.nodes, self._wanted(choice, choice.nodes, checks))
        records, columns = dict(choice.nodes), dict[str, Mapping[str, str]]()
        with self._store.shared_lock():
            if choice.rebuilt:
                ended, rebuilt = self._rebuild(choice)
                records |= rebuilt
                columns |= ended.columns
            wanted = self._wanted(choice, records, checks)
            report = self._report(choice, records, wanted)
            self._refuse_row_change(report)
            self._count_source(choice, records)
            idle = not choice.promoted and not wanted and not choice.removed
            if idle and not (self._request.prune and report.left):
                return attrs.evolve(report, id="", outcome="nothing to promote")
            published = self._publish(self._promotion(choice, records, wanted))
        done = _finished(self._session, published)
        report = attrs.evolve(
            report, id=done.id, targets=done.targets, notes=done.notes, outcome=done.outcome
        )
        if not self._request.prune:
            return report
        dropped, left = drop_removed(self._session, self._destination.record.name)
        return attrs.evolve(
            report,
            left=tuple(name for name in report.left if name not in dropped),
            notes=(*report.notes, *(f"dropped {name}" for name in dropped), *left),
        )

    def _refuse_not_applied(self) -> None:
        name, record = self._source.record.name, self._source.record
        mend = f"seeknal env plan {name} && seeknal env apply {name}"
        if record.status != "applied":
            found = f"its last command ended {record.status!r}" if record.status else "it never ran"
            raise NotApplied(f"environment {name!r} is not applied wholly: {found}", mend)
        others = differing(self._source.session, record, self._source.manifest)
        if others:
            raise NotApplied(
                f"the folder's definitions are not the ones that {name!r} was applied with: "
                f"{_shown(others)}",
                mend,
            )

    def _refuse_moved(self) -> None:
        """Refuse where the destination's definitions or generation moved since the plan."""
        record, destination = self._source.record, self._destination.record
        is_base = record.base == destination.name or (
            not record.base and destination.name == self._session.settings.production
        )
        moved = moved_digest(destination if destination.nodes else None)
        if is_base and record.base_state != moved and not self._request.force:
            raise StalePlan(
                f"{destination.name!r} has moved since {record.name!r} was planned upon it",
                f"seeknal env plan {record.name} && seeknal env apply {record.name}, "
                f"then: {self._again} (or --force)",
            )

    def _drift(self) -> dict[str, TargetCheck]:
        """Look at all of the destination's targets; refuse what somebody else touched."""
        checks = check_targets(self._session, self._destination.bindings.targets.values())
        guard(
            self._session,
            checks,
            other_records(self._session),
            allow_production=False,
        )
        drifted = []
        for key, held in self._destination.record.targets.items():
            state = checks[key].state if key in checks else None
            if state is None or checks[key].identity != held.identity:
                continue
            if not state.exists:
                drifted.append(f"{held.name} is missing in its store")
            elif state.version != held.version:
                drifted.append(f"{held.name} was changed by somebody else")
        if drifted and not self._request.force:
            name = self._destination.record.name
            raise StalePlan(
                f"{name!r} is not as it was written: {_shown(drifted)}",
                f"seeknal env status {name}; a run mends it, --force promotes over it",
            )
        return checks

    def _rebuild(self, choice: Choice) -> tuple[Ended, dict[str, NodeRecord]]:
        """Run nodes on the destination's sources, into snapshots only."""
        graph = self._session.graph
        rebuilt = set(choice.rebuilt)
        visited = set(rebuilt)
        for id in rebuilt:
            visited |= {*graph.inputs[id], *compared(graph, id)}
        order = tuple(id for id in graph.order if id in visited)
        recorded = {id: choice.nodes[id] for id in order if id not in rebuilt}
        kept = Kept()
        work = Work(
            scope=Scope(
                selected=frozenset(rebuilt),
                recorded=recorded,
                support=frozenset(),
                order=order,
                waits=waits_of(graph, order, recorded),
            ),
            checks={},
            sources=self._destination.bindings.sources,
            record=self._destination.record,
            base=None,
            options=self._request.options,
        )
        known = references(self._session, self._destination.record, self._source.record)
        ended = carry_out(self._session, work, kept, self._reporter, known)
        failed = [node for node in ended.nodes if node.status is NodeStatus.FAILED]
        if failed:
            raise PromotionFailed(
                f"rebuilding over {self._destination.record.name!r} failed, nothing was "
                f"published: {failed[0].id}: {failed[0].detail}",
                failed[0].hint,
            )
        self._session.context.cancellation.check()
        return ended, kept.nodes

    def _wanted(
        self,
        choice: Choice,
        records: Mapping[str, NodeRecord],
        checks: Mapping[str, TargetCheck],
    ) -> list[TargetCheck]:
        """Return the destination's targets that differ from what is promoted."""
        found = []
        for key, check in checks.items():
            id = check.resolved.spec.node
            if id not in choice.promoted:
                continue
            held = self._destination.record.targets.get(key)
            new = records.get(id)
            current = (
                held is not None
                and new is not None
                and not self._session.context.full_refresh
                and held.content_key == new.content_key
                and held.fingerprint == check.fingerprint
                and held.identity == check.identity
                and (check.state is None or check.state.version == held.version)
            )
            if not current:
                found.append(check)
        return found

    def _refuse_row_change(self, report: PromotionReport) -> None:
        gate = self._request.max_row_change
        if gate is None:
            return
        beyond = [
            f"{node.id}: {node.count:,} rows, {node.before_count:,} before"
            for node in report.nodes
            if node.count is not None
            and node.before_count is not None
            and abs(node.count - node.before_count) > gate * node.before_count
        ]
        if beyond:
            raise VerificationFailed(
                f"more rows changed than {gate:.0%} allows, nothing was published: "
                f"{_shown(beyond)}",
                f"look at them: seeknal env diff {self._source.record.name}; "
                f"then: {self._again} with a wider --max-row-change",
            )

    def _count_source(self, choice: Choice, records: Mapping[str, NodeRecord]) -> None:
        """Refuse to ship what the source environment's own tables do not hold any more."""
        wrong = []
        for key, held in self._source.record.targets.items():
            resolved = self._source.bindings.targets.get(key)
            if choice.promoted.get(held.node) is not Rows.SHIPPED or resolved is None:
                continue
            state = self._session.dispatcher.inspect_target(self._source.session.context, resolved)
            if state is not None and not state.exists:
                wrong.append(f"{held.name} is missing; {held.rows:,} rows were written")
                continue
            count = self._session.dispatcher.count_rows(self._source.session.context, resolved)
            if count != held.rows:
                wrong.append(f"{held.name} holds {count:,} rows; {held.rows:,} were written")
        if wrong:
            name = self._source.record.name
            raise VerificationFailed(
                f"tables of {name!r} are not what was verified, nothing was published: "
                f"{_shown(wrong)}",
                f"seeknal run --env {name} --full-refresh writes them again, then: {self._again}",
            )

    def _promotion(
        self, choice: Choice, records: Mapping[str, NodeRecord], wanted: Sequence[TargetCheck]
    ) -> Promotion:
        supports = self._session.dispatcher.supports
        by_connection: dict[str, list[TargetCheck]] = {}
        direct: list[Write] = []
        for check in wanted:
            if supports(check.resolved.target.type, "stage"):
                by_connection.setdefault(check.resolved.connection.name, []).append(check)
            else:
                direct.append(_write(check, records))
        parts = tuple(
            Part(
                connection=name,
                generation=1 + max(c.state.generation if c.state else 0 for c in found),
                writes=tuple(_write(check, records) for check in found),
            )
            for name, found in sorted(by_connection.items())
        )
        before = self._destination.record
        now = datetime.now(UTC)
        after = attrs.evolve(
            before,
            profile=self._session.profile.path or "",
            created_at=before.created_at or now.isoformat(timespec="seconds"),
            last_run_at=now.isoformat(timespec="seconds"),
            last_run_id=self._session.context.run_id,
            status="applied",
            generation=before.generation + 1,
            nodes={id: records[id] for id in self._session.graph.order},
            rolled_back="",
        )
        return Promotion(
            id=f"p-{now:%Y%m%dt%H%M%S}-{uuid.uuid4().hex[:8]}",
            source=self._source.record.name,
            destination=before.name,
            started_at=now.isoformat(timespec="seconds"),
            step=Step.STAGING,
            parts=parts,
            direct=tuple(direct),
            before=before,
            after=after,
            full_refresh=self._session.context.full_refresh,
            adopt=self._session.context.adopt,
        )

    def _publish(self, promotion: Promotion) -> Promotion:
        snapshots = self._snapshots(promotion)
        save_manifest(self._session.state, promotion.id, self._destination.manifest)
        promotions.save(self._session.state, promotion)
        try:
            staged = publishing.stage_all(self._session, promotion, snapshots)
            publishing.verify_all(
                self._session, staged, snapshots, checksums=self._compares_contents
            )
            self._session.context.cancellation.check()
        except SeeknalError:
            publishing.give_up(self._session, promotion)
            raise
        verified = attrs.evolve(staged, step=Step.VERIFIED)
        promotions.save(self._session.state, verified)
        published = publishing.publish_all(self._session, verified)
        return promotions.save(self._session.state, published)

    def _snapshots(self, promotion: Promotion) -> dict[str, Snapshot]:
        found: dict[str, Snapshot] = {}
        for write in (*promotion.writes, *promotion.direct):
            snapshot = self._store.find(write.node, write.content_key)
            if snapshot is None:
                raise PromotionFailed(
                    f"the stored output of {write.node} is gone, nothing was published",
                    f"seeknal env apply {promotion.source} --force",
                )
            found[write.content_key] = snapshot
        return found

    def _compares_contents(self, snapshot: Snapshot) -> bool:
        if self._request.verify:
            return self._request.verify == "checksum"
        return snapshot.bytes <= _CHECKSUM_LIMIT

    def _report(
        self,
        choice: Choice,
        records: Mapping[str, NodeRecord],
        wanted: Sequence[TargetCheck],
    ) -> PromotionReport:
        before = self._destination.record.nodes
        stored = is_stored(self._session)
        return PromotionReport(
            id="",
            source=self._source.record.name,
            destination=self._destination.record.name,
            nodes=tuple(
                PromotedNode(
                    id=id,
                    rows=rows,
                    count=records[id].rows if id in records else None,
                    source_count=self._source.record.nodes[id].rows,
                    before_count=before[id].rows if id in before else None,
                )
                for id, rows in choice.promoted.items()
            ),
            targets=tuple(
                PromotedTarget(
                    key=check.resolved.target.key,
                    node=check.resolved.target.node,
                    name=str(check.resolved.target.name),
                    mode=check.resolved.target.mode.value,
                    rows=None,
                    staged=self._session.dispatcher.supports(check.resolved.target.type, "stage"),
                )
                for check in wanted
            ),
            removed=choice.removed,
            left=tuple(
                held.name
                for key, held in sorted(self._destination.record.targets.items())
                if key not in self._destination.bindings.targets
            ),
            notes=tuple(
                f"the stored output of {id} is gone"
                for id, held in records.items()
                if not stored(held.content_key)
            ),
            outcome="planned",
        )


def _write(check: TargetCheck, records: Mapping[str, NodeRecord]) -> Write:
    target = check.resolved.target
    node = records[target.node]
    return Write(
        key=target.key,
        node=target.node,
        name=str(target.name),
        spec=promotions.spec_document(check.resolved.spec),
        bindings=bindings_digest(check.resolved.connection),
        identity=check.identity,
        fingerprint=check.fingerprint,
        content_key=node.content_key,
        rows=node.rows,
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", and {len(names) - 5} more" if len(names) > 5 else "")
