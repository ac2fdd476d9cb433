"""Writing the targets of a run: those that need it, small ones together.

Whatever goes wrong is in a target's outcome. What was written is journalled at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Protocol

import attrs

from seeknal_core.apply.link import Sharer
from seeknal_core.apply.report import TargetOutcome, TargetStatus
from seeknal_core.contract.errors import Interrupted, SeeknalError, WriteRefused
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Drift, Snapshot, WriteResult, redact
from seeknal_core.contract.types.digests import ContentKey
from seeknal_core.plan.advice import consequence, refusal
from seeknal_core.plan.as_production import rows_of, share
from seeknal_core.plan.decide import (
    Candidate,
    Need,
    Production,
    SharedDecision,
    TargetDecision,
    Writing,
    in_words,
    target,
)
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, TargetRecord
from seeknal_core.workspace.session import Session

#: Bytes of a snapshot that is small enough to be written together with others, and how
#: many are written together at most.
SMALL = 2**20
TOGETHER = 40

#: Tells ``--debug`` what the outcomes say in a sentence.
log = logging.getLogger("seeknal")

Writes = tuple[tuple[TargetCheck, Snapshot], ...]


class Finished(Protocol):
    """Hears of each node and target as it is finished; called from several threads."""

    def node(self, id: str, record: NodeRecord) -> None:
        """A node's snapshot is stored and its audits passed."""

    def target(self, key: str, record: TargetRecord) -> None:
        """A target is written."""


def was_stopped(session: Session, error: SeeknalError) -> bool:
    """Return whether a task ended because the user asked; nobody else's stop is one."""
    return isinstance(error, Interrupted) and session.context.cancellation.requested


class Writer:
    """Writes the targets of one run. Thread-safe.

    Args:
        record: the environment's; it says what each target holds.
        production: what decides whether a target is the same as production's.
        warnings: takes what a backend notes of a write.
        sound: checks a snapshot's bytes before they are sent to a store (`Computer.sound`).
        former_keys: returns what earlier versions called a node's rows.
        decisions: what becomes of targets that are the same as production's, by key, where the
            stores were asked before.
    """

    def __init__(
        self,
        session: Session,
        journal: Finished,
        *,
        record: EnvironmentRecord,
        production: Production,
        warnings: SimpleQueue[str],
        sound: Callable[[str, Snapshot], Snapshot],
        former_keys: Callable[[str, Snapshot], tuple[str, ...]],
        decisions: Mapping[str, SharedDecision],
    ) -> None:
        self._session = session
        self._journal = journal
        self._checked = sound
        self._former_keys = former_keys
        self._record = record
        self._production = production
        self._warnings = warnings
        #: Bytes of targets that are copies of production's rows, by key.
        self._copies: dict[str, int] = {}
        self._decisions = decisions
        self._sharer = Sharer(
            session=session,
            production=production,
            warnings=warnings,
            blank=lambda check: self._blank(check, Need.SAME_AS_PRODUCTION),
            failed=self._failed,
            record=self._written,
            journal=journal.target,
        )

    def is_same(self, check: TargetCheck, snapshot: Snapshot) -> bool:
        """Return whether a target is the same as production's, and not written for itself."""
        return self._decide(check, snapshot).writing is Writing.SHARED

    def unchanged(self, writes: Writes) -> tuple[list[TargetOutcome], Writes]:
        """Link targets that are the same as production's, or leave them out.

        Returns:
            How these ended, and the writes of those that have to be copied.
        """
        started = time.monotonic()
        # Links need no room, so that those decided before and the others don't meet.
        known = {
            key: one
            for check, _ in writes
            if (one := self._decisions.get(key := check.resolved.target.key)) is not None
            and one.writing is Writing.LINK
        }
        try:
            candidates = [
                Candidate(check=check, bytes=snapshot.bytes)
                for check, snapshot in writes
                if check.resolved.target.key not in known
            ]
            found = share(self._session, candidates, self._record, self._production)
            decisions = [*known.values(), *found]
        except SeeknalError as error:
            blanks = [self._blank(check, Need.SAME_AS_PRODUCTION) for check, _ in writes]
            return [self._failed(blank, error, started) for blank in blanks], ()
        outcomes = self._sharer.carry_out(decisions)
        for one in decisions:
            if one.writing is Writing.COPY:
                self._copies[one.check.resolved.target.key] = one.bytes
        return outcomes, tuple(w for w in writes if w[0].resolved.target.key in self._copies)

    def failed(self, check: TargetCheck, error: SeeknalError) -> TargetOutcome:
        """Return the outcome of a target that can't be written."""
        return self._failed(self._blank(check, Need.SAME_AS_PRODUCTION), error, time.monotonic())

    def is_small(self, check: TargetCheck, snapshot: Snapshot) -> bool:
        """Return whether a write may go together with others of its connection."""
        return snapshot.bytes <= SMALL and self._session.dispatcher.together(
            check.resolved.target.type, Hook.MATERIALIZE_TARGETS
        )

    def write(self, writes: Writes) -> list[TargetOutcome]:
        """Write targets of one connection, together where there are several.

        Returns:
            How each ended; a failure is in its outcome, never raised.
        """
        started = time.monotonic()
        decided = [self._decide(check, snapshot) for check, snapshot in writes]
        wanted = [write for write, one in zip(writes, decided, strict=True) if one.need.writes]
        results: dict[str, WriteResult] = {}
        if len(wanted) > 1:
            try:
                self._session.context.cancellation.check()
                found = self._session.dispatcher.materialize_targets(
                    self._session.context,
                    [check.resolved for check, _ in wanted],
                    [self._sound(check, one) for check, one in wanted],
                )
                keys = (check.resolved.target.key for check, _ in wanted)
                results = dict(zip(keys, found, strict=True))
            except SeeknalError as error:
                # Whatever is wrong with one of them, it is told of that one below.
                log.debug("writing %d targets one by one", len(wanted), exc_info=error)
        took = (time.monotonic() - started) / len(wanted) if results else 0.0
        return [
            self._target(check, snapshot, one, results.get(check.resolved.target.key), took)
            for (check, snapshot), one in zip(writes, decided, strict=True)
        ]

    def _sound(self, check: TargetCheck, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot to be written: its bytes checked, with all names of its rows."""
        target = check.resolved.target
        found = self._checked(target.node, snapshot)
        if not target.mode.rule.once:
            return found
        return attrs.evolve(found, former_keys=self._former_keys(target.node, found))

    def _decide(self, check: TargetCheck, snapshot: Snapshot) -> TargetDecision:
        """Decide about a target, now that its rows are known."""
        found = check.resolved.target
        if found.key in self._copies:
            return TargetDecision(writing=Writing.COPY, need=Need.COPY)
        return target(
            check,
            snapshot.content_key,
            self._record.targets.get(found.key),
            self._production,
            full_refresh=self._session.context.full_refresh,
            adopt=self._session.context.adopt,
        )

    def _target(
        self,
        check: TargetCheck,
        snapshot: Snapshot,
        decision: TargetDecision,
        result: WriteResult | None,
        took: float,
    ) -> TargetOutcome:
        """Write a target unless that was done, and write down how it ended.

        Args:
            result: of a write that was done together with others.
            took: the seconds of its share of that.
        """
        started = time.monotonic() - took
        target, why = check.resolved.target, decision.need
        held = self._record.targets.get(target.key)
        ended = self._blank(check, why)
        if decision.writing is Writing.REFUSED:
            said, hint = refusal(self._session, check, held)
            return attrs.evolve(
                ended, status=TargetStatus.REFUSED, detail=redact(said), hint=redact(hint)
            )
        if check.change is not None and check.drift is not Drift.NONE:
            self._warnings.put(f"{target.name}: {consequence(check, why)}")
        if decision.writing is Writing.KEEP:
            self._refresh(check, held, snapshot.content_key)
            return attrs.evolve(ended, rows_after=held.rows if held else None)
        try:
            if decision.writing is Writing.ADOPT:
                return self._adopted(ended, check, snapshot)
            if result is None:
                self._session.context.cancellation.check()
                result = self._session.dispatcher.materialize(
                    self._session.context, check.resolved, self._sound(check, snapshot)
                )
            for note in result.notes:
                said = note.removeprefix(f"{target.name}: ")
                self._warnings.put(f"{target.name}: {said}")
            record = self._written(check, snapshot.content_key, result)
            copied = self._copies.get(target.key, 0)
            self._journal.target(target.key, attrs.evolve(record, copied=copied))
        except SeeknalError as error:
            return self._failed(ended, error, started)
        return attrs.evolve(
            ended,
            status=TargetStatus.COPIED
            if decision.writing is Writing.COPY
            else TargetStatus.WRITTEN,
            rows_written=result.rows_written,
            rows_after=result.rows_after,
            seconds=time.monotonic() - started,
        )

    def _blank(self, check: TargetCheck, why: Need) -> TargetOutcome:
        target = check.resolved.target
        return TargetOutcome(
            key=target.key,
            node=target.node,
            type=target.type,
            name=str(target.name),
            mode=target.mode.value,
            status=TargetStatus.CURRENT,
            reason=in_words(why, check),
        )

    def _failed(self, ended: TargetOutcome, error: SeeknalError, started: float) -> TargetOutcome:
        log.debug("%s failed", ended.name, exc_info=error)
        stopped = was_stopped(self._session, error)
        return attrs.evolve(
            ended,
            status=TargetStatus.SKIPPED if stopped else TargetStatus.FAILED,
            seconds=time.monotonic() - started,
            detail=redact(str(error)),
            hint=redact(error.hint),
            error="" if stopped else type(error).__name__,
        )

    def _refresh(self, check: TargetCheck, held: TargetRecord | None, content_key: str) -> None:
        """Record what an exact look has cleared, so that the next command trusts the mark.

        A link's rows are always production's: with them its content key moves.
        """
        if held is None:
            return
        change, fresh = check.change, held
        if change is not None and change.version:
            owner = check.state.owner if check.state is not None else None
            fresh = attrs.evolve(
                held,
                version=change.version,
                mark=change.mark,
                rows=change.rows,
                run_id=owner.run_id if owner is not None else held.run_id,
            )
        if held.link:
            rows = rows_of(check, self._production)
            fresh = attrs.evolve(fresh, content_key=ContentKey(content_key), rows=rows)
        if not held.parts:
            fresh = attrs.evolve(fresh, parts=check.resolved.target.name.parts)
        if fresh != held:
            self._journal.target(check.resolved.target.key, fresh)

    def _adopted(
        self, ended: TargetOutcome, check: TargetCheck, snapshot: Snapshot
    ) -> TargetOutcome:
        """Take a table as it is found: only the records change."""
        target = check.resolved.target
        dispatcher, context = self._session.dispatcher, self._session.context
        held = self._record.targets.get(target.key)
        owner = check.state.owner if check.state is not None else None
        key: str = snapshot.content_key
        if check.drift is Drift.REPLACED and held is not None:
            key = held.content_key
        elif owner is not None:
            key = owner.content_key
        if not dispatcher.supports(target.type, Hook.ADOPT_TARGET):
            raise WriteRefused(
                f"its backend can't take over {target.name} as it is",
                f"{self._session.rerun(target.node)} --adopt --full-refresh writes it anew",
            )
        taken = dispatcher.adopt_target(context, check.resolved, key)
        self._journal.target(target.key, self._written(check, key, taken))
        return attrs.evolve(ended, status=TargetStatus.ADOPTED, rows_after=taken.rows_after)

    def _written(self, check: TargetCheck, content_key: str, result: WriteResult) -> TargetRecord:
        target = check.resolved.target
        return TargetRecord(
            node=target.node,
            name=str(target.name),
            type=target.type,
            connection=check.resolved.connection.name,
            bindings=check.bindings,
            identity=check.identity,
            fingerprint=check.fingerprint,
            content_key=ContentKey(content_key),
            version=result.version,
            rows=result.rows_after,
            written_at=datetime.now(UTC).isoformat(timespec="seconds"),
            mark=result.mark,
            run_id=self._session.context.run_id,
            parts=target.name.parts,
        )
