"""What a promotion refuses before anything is staged: nothing here changes a store."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import attrs

from seeknal_core.contract.errors import NotApplied, StalePlan, VerificationFailed
from seeknal_core.contract.shown import first_few
from seeknal_core.contract.types import Drift
from seeknal_core.plan.decide import has_rows_of
from seeknal_core.plan.guard import guard
from seeknal_core.plan.look import look
from seeknal_core.plan.targets import TargetCheck, check_targets
from seeknal_core.promote.choose import differing
from seeknal_core.promote.parts import in_parallel
from seeknal_core.promote.report import PromotionReport, Rows
from seeknal_core.promote.work import Promoting, Side
from seeknal_core.state.digests import moved_digest
from seeknal_core.state.records import NodeRecord, Status
from seeknal_core.workspace.bindings import bind
from seeknal_core.workspace.opening import other_records


def check_environments(work: Promoting) -> Promoting:
    """Check that the one is applied, and that the other has not moved since that was planned."""
    preflight = Preflight.of(work)
    preflight.refuse_not_applied()
    preflight.refuse_moved()
    return work


def check_tables(work: Promoting) -> Promoting:
    """Look at all of the destination's targets, exactly at those of promoted nodes."""
    return attrs.evolve(work, checks=Preflight.of(work).check_drift(work.choice.promoted))


def check_rows(work: Promoting) -> Promoting:
    """Check how many rows would change, and that the promoted environment's tables hold theirs."""
    preflight = Preflight.of(work)
    if work.request.max_row_change is not None:
        assert work.report is not None
        preflight.refuse_row_change(work.report, work.request.max_row_change)
    preflight.count_source(work.choice.promoted, work.records)
    return work


@attrs.frozen(kw_only=True)
class Preflight:
    """The checks of one promotion. ``force`` goes on where the destination moved."""

    source: Side
    destination: Side
    force: bool = False

    @classmethod
    def of(cls, work: Promoting) -> Preflight:
        """Make it of a promotion that begins."""
        return cls(source=work.source, destination=work.destination, force=work.request.force)

    @property
    def again(self) -> str:
        """The command that promotes."""
        return f"seeknal env promote {self.source.record.name} {self.destination.record.name}"

    def refuse_not_applied(self) -> None:
        """Refuse an environment that is not applied wholly, by the folder's definitions.

        Raises:
            NotApplied: naming what is missing or differs.
        """
        name, record = self.source.record.name, self.source.record
        fix = f"seeknal env plan {name} && seeknal env apply {name}"
        if record.status is not Status.APPLIED:
            found = (
                f"its last command ended {record.status.value!r}"
                if record.status
                else "it never ran"
            )
            raise NotApplied(f"environment {name!r} is not applied wholly: {found}", fix)
        others = differing(self.source.session, record, self.source.manifest)
        if others:
            raise NotApplied(
                f"the folder's definitions are not the ones that {name!r} was applied with: "
                f"{first_few(others)}",
                fix,
            )

    def refuse_moved(self) -> None:
        """Refuse where the destination's definitions or generation moved since the plan.

        Raises:
            StalePlan: unless ``force``.
        """
        record, destination = self.source.record, self.destination.record
        is_base = record.base == destination.name or (
            not record.base and destination.name == self.destination.session.settings.production
        )
        moved = moved_digest(destination)
        if is_base and record.base_state != moved and not self.force:
            raise StalePlan(
                f"{destination.name!r} has moved since {record.name!r} was planned upon it",
                f"seeknal env plan {record.name} && seeknal env apply {record.name}, "
                f"then: {self.again} (or --force)",
            )

    def check_drift(self, promoted: Collection[str]) -> dict[str, TargetCheck]:
        """Look at all of the destination's targets; refuse what somebody else touched.

        The marks of tables are compared, as a plan does it, and exactly looked at is what they
        make suspicious. Tables that are to be replaced are looked at exactly in any case.

        Args:
            promoted: the nodes that are promoted.

        Raises:
            CollisionRefused: a target is another environment's.
            StalePlan: a target is missing or was rewritten, unless ``force``.
        """
        session, record = self.destination.session, self.destination.record
        targets = self.destination.bindings.targets.values()
        replaced = [each for each in targets if each.spec.node in promoted]
        others = [each for each in targets if each.spec.node not in promoted]
        seen = check_targets(session, others)
        exactly = check_targets(session, replaced, versions=True)
        # Whatever production writes is its own.
        others_hold = {} if session.environment.is_production else other_records(session)
        guard(session, {**seen, **exactly}, others_hold, allow_production=False)
        checks = {
            **look(session, seen, record),
            **look(session, exactly, record, exact=True),
        }
        drifted = []
        for key, held in record.targets.items():
            state = checks[key].state if key in checks else None
            if state is None or checks[key].identity != held.identity:
                continue
            if not state.exists:
                drifted.append(f"{held.name} is missing in its store")
            elif checks[key].drift is not Drift.NONE:
                drifted.append(_drifted(held.name, checks[key]))
        if drifted and not self.force:
            elsewhere = any(check.drift is Drift.ELSEWHERE for check in checks.values())
            again = session.command(*(("state", "recover") if elsewhere else ("run",)))
            then = (
                "takes over what the ledger says, then plan and apply"
                if elsewhere
                else "writes it again, or says what it leaves to you"
            )
            raise StalePlan(
                f"{record.name!r} is not as it was written: {first_few(drifted)}",
                f"{again} {then}; promote over it: {self.again} --force",
            )
        return checks

    def refuse_row_change(self, report: PromotionReport, gate: float) -> None:
        """Refuse a node whose rows changed by more than a fraction of those before.

        Raises:
            VerificationFailed: naming both counts.
        """
        beyond = [
            f"{node.id}: {node.count:,} rows, {node.before_count:,} before"
            for node in report.nodes
            if node.count is not None
            and node.before_count is not None
            and abs(node.count - node.before_count) > gate * node.before_count
        ]
        if beyond:
            raise VerificationFailed(
                f"more rows changed than {gate:.0%} allows, nothing was published: {first_few(beyond)}",
                f"look at them: seeknal env diff {self.source.record.name}; "
                f"then: {self.again} with a wider --max-row-change",
            )

    def count_source(self, promoted: Mapping[str, Rows], records: Mapping[str, NodeRecord]) -> None:
        """Refuse rows that the source environment's own tables do not hold any more.

        Asked are the tables of nodes whose very rows are promoted, under whatever name.

        Raises:
            VerificationFailed: naming tables and both counts.
        """
        session, record = self.source.session, self.source.record
        wanted = {}
        nodes = [session.graph.nodes[id] for id in promoted]
        bound = bind(session, nodes).targets
        for key, held in record.targets.items():
            resolved = bound.get(key)
            theirs, new = record.nodes.get(held.node), records.get(held.node)
            if held.link:
                # Production's own rows: this environment wrote none.
                continue
            if resolved is None or held.node not in promoted or theirs is None or new is None:
                continue
            if has_rows_of(theirs, new.content_key):
                wanted[key] = resolved
        checks = check_targets(session, wanted.values(), versions=True)

        def look(key: str) -> str | None:
            held, check = record.targets[key], checks[key]
            if check.state is not None and not check.state.exists:
                return f"{held.name} is missing; {held.rows:,} rows were written"
            count = check.state.rows if check.state is not None else None
            if count is None:
                count = session.dispatcher.count_rows(session.context, check.resolved)
            if count != held.rows:
                return f"{held.name} holds {count:,} rows; {held.rows:,} were written"
            return None

        wrong = [line for line in in_parallel(session, look, wanted) if line]
        if wrong:
            name = self.source.record.name
            raise VerificationFailed(
                f"tables of {name!r} are not what was verified, nothing was published: "
                f"{first_few(wrong)}",
                f"seeknal run --env {name} --full-refresh writes them again, then: {self.again}",
            )


def _drifted(name: str, check: TargetCheck) -> str:
    """Return what happened to a target of the destination."""
    detail = check.change.detail if check.change is not None else ""
    if check.drift in (Drift.REPLACED, Drift.ELSEWHERE):
        return f"{name}: {detail or check.drift.value}"
    return f"{name} was changed by somebody else" + (f" ({detail})" if detail else "")
