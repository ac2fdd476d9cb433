"""``seeknal env promote``: bring an environment's verified result into another one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from seeknal_core.apply.carry import Kept, Work, bound_anew, carry_out
from seeknal_core.apply.prune import drop_removed
from seeknal_core.apply.report import NodeStatus, Reporter
from seeknal_core.apply.scheduler import Options
from seeknal_core.contract.errors import (
    AuditFailed,
    ConfigError,
    DamagedOutput,
    DamagedSource,
    PromotionFailed,
    PromotionInterrupted,
    SeeknalError,
    StalePlan,
    VerificationFailed,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Snapshot
from seeknal_core.plan.bindings import bindings_digest
from seeknal_core.plan.decide import is_as_promoted
from seeknal_core.plan.proofs import references
from seeknal_core.plan.replacing import Confirm, Replaced, replaced
from seeknal_core.plan.scope import Scope, compared, waits_of
from seeknal_core.plan.targets import TargetCheck, covering
from seeknal_core.promote import documents as promotions
from seeknal_core.promote import notes
from seeknal_core.promote import publish as publishing
from seeknal_core.promote.audit import audit_promoted
from seeknal_core.promote.choose import Choice, Policy, Side, choose
from seeknal_core.promote.documents import Part, Promotion, Step, Write
from seeknal_core.promote.finish import finish, write_direct
from seeknal_core.promote.preflight import Preflight
from seeknal_core.promote.report import LEFT, PromotedNode, PromotedTarget, PromotionReport
from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, Status
from seeknal_core.workspace.opening import is_stored, refuse_unfinished
from seeknal_core.workspace.session import Session, bind, load_plugins, sibling


@attrs.frozen(kw_only=True)
class PromoteRequest:
    """What ``seeknal env promote`` was asked for.

    ``verify`` is ``counts``, ``checksum`` or empty (checksums up to a size).
    ``max_row_change`` is a fraction of the destination's rows, None for no gate.
    ``abort`` is empty, ``undo``, ``keep`` or ``overwrite``. ``confirm`` hears of the tables
    that lose rows to a full refresh, before anything is staged. ``source_profile`` is the
    profile file of the promoted environment, None for the one that the rules choose.
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
    confirm: Confirm | None = None
    source_profile: str | None = None


#: Snapshots up to this size are compared by checksum unless told otherwise, in bytes.
_CHECKSUM_LIMIT = 2 << 30

_PUBLISHED = "every store has published"


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
            context=attrs.evolve(
                session.context, state_id=session.state.state_id(create=True), promoting=True
            ),
        )
        session, request = _as_begun(session, source_name, request)
        report = _recover(session, source_name, request)
        if report is None:
            report = _Promoter(session, source_name, request, reporter).run()
    return attrs.evolve(
        report,
        profile=session.profile.path,
        profile_reason=session.profile.reason,
        seconds=time.monotonic() - started,
    )


def _as_begun(
    session: Session, source_name: str, request: PromoteRequest
) -> tuple[Session, PromoteRequest]:
    """Return what an unfinished promotion was asked for, where this command goes on with it.

    What it replaces was confirmed when it was begun.
    """
    found = promotions.load(session.state, session.environment.name)
    if found is None or found.rollback or found.source != source_name:
        return session, request
    context = attrs.evolve(session.context, full_refresh=found.full_refresh, adopt=found.adopt)
    confirmed = found.full_refresh or not session.context.full_refresh
    return (
        attrs.evolve(session, context=context),
        attrs.evolve(request, confirm=None) if confirmed else request,
    )


def _recover(session: Session, source_name: str, request: PromoteRequest) -> PromotionReport | None:
    """Go on with, or undo, what an earlier command left; None if a new one is to begin."""
    name = session.environment.name
    found = promotions.load(session.state, name)
    if found is None and (request.resume or request.abort):
        found = notes.take_over(session)
    if found is None:
        notes.refuse_unknown(session)
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
            promotions.ways_out(found),
        )
    session = attrs.evolve(
        session,
        context=attrs.evolve(session.context, full_refresh=found.full_refresh, adopt=found.adopt),
    )
    undone = PromotionReport(id=found.id, source=found.source, destination=name, outcome="undone")
    if request.abort == "keep":
        publishing.keep(session, found)
        return attrs.evolve(undone, outcome=LEFT)
    if request.abort:
        publishing.give_up(session, found, overwrite=request.abort == "overwrite")
        return undone
    if found.step in (Step.STAGING, Step.REVERTING):
        # Nothing was published, so it is begun again: that is what going on means here.
        publishing.give_up(session, found)
        return None
    if found.step is Step.VERIFIED:
        found = publishing.publish_all(session, found)
        with publishing.interrupted_without_state(found, _PUBLISHED):
            promotions.save(session.state, found)
    return _finished(session, found, outcome="promoted, resumed")


def _finished(session: Session, found: Promotion, outcome: str = "promoted") -> PromotionReport:
    """Write what cannot be staged, move the state, and report."""
    said = [note for write in found.writes if write.staged for note in write.staged.notes]
    with publishing.interrupted_without_state(found, _PUBLISHED):
        found, errors = write_direct(session, found)
        notes = (*said, *finish(session, found))
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

        self._session = session
        self._request = request
        self._reporter = reporter
        self._store = session.snapshot_store()
        self._source = _source_side(session, source_name, request.source_profile)
        self._destination = _side(session)

    def run(self) -> PromotionReport:
        """Check, rebuild, stage, verify, publish."""
        preflight = Preflight(
            source=self._source, destination=self._destination, force=self._request.force
        )
        preflight.refuse_not_applied()
        preflight.refuse_moved()
        checks = preflight.check_drift()
        choice = choose(self._source, self._destination, self._store, self._request.policy)
        if self._request.dry_run:
            wanted = self._wanted(choice, choice.nodes, checks)
            report = self._report(choice, choice.nodes, wanted)
            foreseen = (*self._foreseen_publish(wanted), *self._foreseen(choice, wanted))
            losses = map(str, self._replaced(wanted))
            return attrs.evolve(report, notes=(*report.notes, *foreseen, *losses))
        if self._request.confirm is not None:
            self._request.confirm(self._replaced(self._wanted(choice, choice.nodes, checks)))
        records = dict(choice.nodes)
        with self._store.shared_lock():
            if choice.rebuilt:
                records |= self._rebuild(choice)
            wanted = self._wanted(choice, records, checks)
            report = self._report(choice, records, wanted)
            if self._request.max_row_change is not None:
                preflight.refuse_row_change(report, self._request.max_row_change)
            preflight.count_source(choice.promoted, records)
            records = audit_promoted(
                self._destination, choice.promoted, records, self._store, self._reporter
            )
            idle = not choice.promoted and not wanted and not choice.removed
            if idle and not (self._request.prune and report.left):
                return attrs.evolve(report, id="", outcome="nothing to promote")
            for sentence in self._foreseen_publish(wanted):
                self._reporter.warn(sentence)
            wanted = self._as_tables(wanted)
            published = self._publish(self._promotion(records, wanted))
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

    def _replaced(self, wanted: Sequence[TargetCheck]) -> tuple[Replaced, ...]:
        """Return the tables that lose rows to a full refresh."""
        return replaced(self._session, wanted, self._destination.record)

    def _rebuild(self, choice: Choice) -> dict[str, NodeRecord]:
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
            check=dict,
            sources=self._destination.bindings.sources,
            record=self._destination.record,
            base=None,
            options=self._request.options,
        )
        known = references(self._session, self._destination.record, self._source.record)
        ended = carry_out(self._session, work, kept, self._reporter, known)
        failed = [node for node in ended.nodes if node.status is NodeStatus.FAILED]
        if failed:
            verified = (AuditFailed.__name__, DamagedOutput.__name__, DamagedSource.__name__)
            raise (VerificationFailed if failed[0].error in verified else PromotionFailed)(
                f"rebuilding over {self._destination.record.name!r} failed, nothing was "
                f"published: {failed[0].id}: {failed[0].detail}",
                failed[0].hint,
            )
        self._session.context.cancellation.check()
        return bound_anew(kept.nodes, ended.documents)

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
                and is_as_promoted(check, new.content_key, held)
            )
            if not current:
                found.append(check if new is None else covering(check, new.covers))
        return found

    def _foreseen(self, choice: Choice, wanted: Sequence[TargetCheck]) -> list[str]:
        """Say what the promotion does to columns of tables that are there, or what refuses it."""
        said: list[str] = []
        for check in wanted:
            id = check.resolved.spec.node
            # A rebuilt node gives the columns that it gave in the environment.
            held = choice.nodes.get(id) or self._source.record.nodes.get(id)
            if held is None or check.state is None or not check.state.exists or check.state.linked:
                continue
            said += [f"{check.resolved.target.name}: {note}" for note in check.state.notes]
            snapshot = self._store.find(id, held.content_key)
            if snapshot is None:
                continue
            found = self._session.dispatcher.preview_write(
                self._session.context, check.resolved, snapshot.schema
            )
            if found is not None:
                said += found.notes
                said += [f"will be refused: {found.refused}; {found.hint}"] if found.refused else []
        return said

    def _foreseen_publish(self, wanted: Sequence[TargetCheck]) -> list[str]:
        """Say what publishing that many targets together may fail by."""
        return [
            sentence
            for found in self._together(wanted).values()
            for sentence in self._session.dispatcher.preview_publish(
                self._session.context, [check.resolved for check in found]
            )
        ]

    def _together(self, wanted: Sequence[TargetCheck]) -> dict[str, list[TargetCheck]]:
        """Return the targets that are staged, by connection."""
        together: dict[str, list[TargetCheck]] = {}
        for check in wanted:
            if self._session.dispatcher.supports(check.resolved.target.type, Hook.STAGE):
                together.setdefault(check.resolved.connection.name, []).append(check)
        return together

    def _as_tables(self, wanted: Sequence[TargetCheck]) -> list[TargetCheck]:
        """Put tables with the same rows in the place of links, so that they can be undone.

        What is promoted into an environment that shows production's rows replaces a link.
        Its readers see those rows until the promotion is published, and after a rollback.
        """
        found, record = [], self._destination.record
        for check in wanted:
            key = check.resolved.target.key
            held = record.targets.get(key)
            if check.state is None or not check.state.linked or held is None:
                found.append(check)
                continue
            snapshot = self._store.find(held.node, held.content_key)
            dispatcher, context = self._session.dispatcher, self._session.context
            targets = {k: one for k, one in record.targets.items() if k != key}
            if snapshot is None:
                dispatcher.unlink_target(context, check.resolved)
            else:
                made = dispatcher.materialize(context, check.resolved, snapshot)
                targets[key] = attrs.evolve(
                    held,
                    link="",
                    version=made.version,
                    mark=made.mark,
                    rows=made.rows_after,
                    run_id=context.run_id,
                )
            record = attrs.evolve(record, targets=targets)
            self._session.state.save(record)
            state = dispatcher.inspect_target(context, check.resolved)
            found.append(attrs.evolve(check, state=state))
        self._destination = attrs.evolve(self._destination, record=record)
        return found

    def _promotion(
        self, records: Mapping[str, NodeRecord], wanted: Sequence[TargetCheck]
    ) -> Promotion:
        together = self._together(wanted)
        staged = {check.resolved.target.key for found in together.values() for check in found}
        direct = [
            _write(check, records) for check in wanted if check.resolved.target.key not in staged
        ]
        before = self._destination.record
        now = datetime.now(UTC)
        after = attrs.evolve(
            before,
            profile=self._session.profile.path or "",
            created_at=before.created_at or now.isoformat(timespec="seconds"),
            last_run_at=now.isoformat(timespec="seconds"),
            last_run_id=self._session.context.run_id,
            status=Status.APPLIED,
            generation=before.generation + 1,
            nodes={id: records[id] for id in self._session.graph.order},
            rolled_back="",
            protected=self._session.profile.protected,
            given_profile=(self._session.profile.path or "") if self._session.profile.given else "",
        )
        source = self._source.record
        if source.base and source.base != before.name:
            # What the promoted environment was planned upon, this one is now.
            after = attrs.evolve(after, base=source.base, base_state=source.base_state)
        id = f"p-{now:%Y%m%dt%H%M%S}-{uuid.uuid4().hex[:8]}"
        parts = tuple(
            Part(
                batch=f"{id}-{number}",
                connection=name,
                generation=1 + max(c.state.generation if c.state else 0 for c in found),
                writes=tuple(_write(check, records) for check in found),
            )
            for number, (name, found) in enumerate(sorted(together.items()))
        )
        return Promotion(
            id=id,
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
            notes.put(self._session, promotion)
            staged = publishing.stage_all(self._session, promotion, snapshots)
            publishing.verify_all(
                self._session, staged, snapshots, checksums=self._compares_contents
            )
            self._session.context.cancellation.check()
            verified = attrs.evolve(staged, step=Step.VERIFIED)
            notes.put(self._session, verified)
        except SeeknalError as error:
            publishing.give_up(self._session, promotion)
            if isinstance(error, DamagedOutput):
                raise self._set_aside(promotion, error.node) from error
            raise
        promotions.save(self._session.state, verified)
        published = publishing.publish_all(self._session, verified)
        with publishing.interrupted_without_state(verified, _PUBLISHED):
            return promotions.save(self._session.state, published)

    def _snapshots(self, promotion: Promotion) -> dict[str, Snapshot]:
        found: dict[str, Snapshot] = {}
        for write in (*promotion.writes, *promotion.direct):
            # Its bytes are checked while they are staged.
            snapshot = self._store.find(write.node, write.content_key)
            if snapshot is None and write.content_key in self._store.damaged:
                raise self._damaged(write.node)
            if snapshot is None:
                raise PromotionFailed(
                    f"the stored output of {write.node} is gone, nothing was published",
                    f"seeknal env apply {promotion.source} --force",
                )
            found[write.content_key] = snapshot
        return found

    def _set_aside(self, promotion: Promotion, node: str) -> VerificationFailed:
        """Remove the snapshot that was found damaged while it was staged; return the error."""
        for write in (*promotion.writes, *promotion.direct):
            if write.node == node:
                self._store.find(write.node, write.content_key, verify=True)
        return self._damaged(node)

    def _damaged(self, node: str) -> VerificationFailed:
        """Return the error for a stored output whose bytes are not those that were verified."""
        source = self._source.session
        again = (
            source.rerun(node)
            if source.graph.nodes[node].kind == "source"
            else f"seeknal env apply {self._source.record.name} --force"
        )
        return VerificationFailed(
            f"the stored output of {node} was damaged on the disk since it was verified, "
            "nothing was published",
            f"compute it again: {again}",
        )

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
                    staged=self._session.dispatcher.supports(
                        check.resolved.target.type, Hook.STAGE
                    ),
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


def _side(session: Session) -> Side:
    name = session.environment.name
    return Side(
        session=session,
        record=session.state.load(name) or EnvironmentRecord(name=name),
        manifest=load_manifest(session.state, name),
        bindings=bind(session, list(session.graph.nodes.values())),
    )


def _source_side(session: Session, name: str, explicit: str | None) -> Side:
    """Open the promoted environment, by the profile that the user or the rules choose.

    Raises:
        StalePlan: it was applied with a profile that the user named, and the one chosen now
            leads elsewhere. The recorded file is not opened: whoever may write the state could
            have named it.
    """
    record = session.state.load(name)
    given = record.given_profile if record is not None and explicit is None else ""
    command = session.again("env", "promote", name, session.environment.name)
    refused = StalePlan(
        f"{name!r} was applied with --profile {given}, and the profile that is chosen without it "
        "leads elsewhere",
        f"name the file again, if it is the one you mean: {command} --source-profile FILE",
    )
    try:
        side = _side(sibling(session, name, explicit=explicit))
    except ConfigError as error:
        if not given:
            raise
        raise refused from error
    if not given or given == side.session.profile.path:
        return side
    for key, held in side.record.targets.items():
        found = side.bindings.targets.get(key)
        if found is not None and (held.bindings, held.name) != (
            bindings_digest(found.connection),
            str(found.target.name),
        ):
            raise refused
    return side
