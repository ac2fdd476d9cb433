"""Linking and leaving out the targets of a run that are the same as production's.

Those that have to be copied are written like any other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import attrs

from seeknal_core.apply.report import TargetOutcome, TargetStatus
from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Linked, WriteResult
from seeknal_core.plan.as_production import left_out, rows_of
from seeknal_core.plan.decide import Production, SharedDecision, Writing
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.state.records import TargetRecord
from seeknal_core.workspace.session import Session

log = logging.getLogger("seeknal")


@attrs.frozen(kw_only=True)
class Sharer:
    """Carries out decisions about unchanged targets; a failure is in its outcome.

    ``blank``, ``failed`` and ``record`` make a target's outcome and record as the writer
    does; ``journal`` takes a record.
    """

    session: Session
    production: Production
    warnings: SimpleQueue[str]
    blank: Callable[[TargetCheck], TargetOutcome]
    failed: Callable[[TargetOutcome, SeeknalError, float], TargetOutcome]
    record: Callable[[TargetCheck, str, WriteResult], TargetRecord]
    journal: Callable[[str, TargetRecord], None]

    def carry_out(self, decisions: Sequence[SharedDecision]) -> list[TargetOutcome]:
        """Link what is to be linked, and leave out what is to be left out."""
        for sentence in left_out(decisions):
            self.warnings.put(sentence)
        outcomes = [self._leave_out(one) for one in decisions if one.writing is Writing.LEFT_OUT]
        by_connection: dict[str, list[SharedDecision]] = {}
        for decision in decisions:
            if decision.writing is Writing.LINK:
                name = decision.check.resolved.connection.name
                by_connection.setdefault(name, []).append(decision)
        for found in by_connection.values():
            links = self._together(found)
            outcomes += [self._link(one, link) for one, link in zip(found, links, strict=True)]
        return outcomes

    def _leave_out(self, decision: SharedDecision) -> TargetOutcome:
        """Leave a target out; a link that may not stand any more goes."""
        check = decision.check
        blank = attrs.evolve(self.blank(check), reason=decision.reason)
        if check.state is not None and check.state.linked and not decision.asked:
            try:
                self.session.dispatcher.unlink_target(self.session.context, check.resolved)
            except SeeknalError as error:
                return self.failed(blank, error, time.monotonic())
        return attrs.evolve(blank, status=TargetStatus.LEFT_OUT)

    def _together(self, decisions: Sequence[SharedDecision]) -> Sequence[Linked | None]:
        """Link targets of a connection by one call; None for each where that isn't done."""
        dispatcher, context = self.session.dispatcher, self.session.context
        type = decisions[0].check.resolved.target.type
        if len(decisions) > 1 and dispatcher.together(type, Hook.LINK_TARGETS):
            try:
                context.cancellation.check()
                return dispatcher.link_targets(
                    context,
                    [one.check.resolved for one in decisions],
                    [one.origin for one in decisions if one.origin is not None],
                )
            except SeeknalError as error:
                # Whatever is wrong with one of them is said of that one.
                log.debug("linking %d targets one by one", len(decisions), exc_info=error)
        return [None] * len(decisions)

    def _link(self, decision: SharedDecision, link: Linked | None) -> TargetOutcome:
        """Record a link that was made, or make it."""
        started = time.monotonic()
        check, origin = decision.check, decision.origin
        assert origin is not None
        target = check.resolved.target
        blank = attrs.evolve(self.blank(check), reason=f"reads {origin.name}")
        rows = rows_of(check, self.production)
        try:
            if link is None:
                self.session.context.cancellation.check()
                link = self.session.dispatcher.link_target(
                    self.session.context, check.resolved, origin
                )
            for note in link.notes:
                self.warnings.put(f"{target.name}: {note}")
            made = WriteResult(
                rows_written=0, rows_after=rows, version=link.version, mark=link.version
            )
            record = self.record(check, origin.content_key, made)
            self.journal(target.key, attrs.evolve(record, link=str(origin.name)))
        except SeeknalError as error:
            return self.failed(blank, error, started)
        return attrs.evolve(blank, status=TargetStatus.LINKED, rows_after=rows)
