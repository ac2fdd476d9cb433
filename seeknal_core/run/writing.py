"""Writing the targets of a run: those that need it, small ones together.

Whatever goes wrong is in a target's outcome. What was written is journalled at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Protocol

import attrs

from seeknal_core.errors import Interrupted, SeeknalError
from seeknal_core.run.report import TargetOutcome, TargetStatus
from seeknal_core.run.session import Session
from seeknal_core.run.targets import Need, Production, TargetCheck, need
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, TargetRecord
from seeknal_core.types import Snapshot, WriteResult, redact

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
    """Tell whether a task ended because the user asked; nobody else's stop is one."""
    return isinstance(error, Interrupted) and session.context.cancellation.requested


class Writer:
    """Writes the targets of one run. Thread-safe.

    Args:
        record: the environment's; it says what each target holds.
        production: what decides whether a target is the same as production's.
        warnings: takes what a backend notes of a write.
        sound: checks a snapshot's bytes before they are sent to a store (`Computer.sound`).
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
    ) -> None:
        self._session = session
        self._journal = journal
        self._sound = sound
        self._record = record
        self._production = production
        self._warnings = warnings

    def is_small(self, check: TargetCheck, snapshot: Snapshot) -> bool:
        """Tell whether a write may go together with others of its connection."""
        return snapshot.bytes <= SMALL and self._session.dispatcher.together(
            check.resolved.target.type, "materialize_targets"
        )

    def write(self, writes: Writes) -> list[TargetOutcome]:
        """Write targets of one connection, together where there are several.

        Returns:
            How each ended; a failure is in its outcome, never raised.
        """
        started = time.monotonic()
        whys = [self._need(check, snapshot) for check, snapshot in writes]
        wanted = [write for write, why in zip(writes, whys, strict=True) if why.writes]
        results: dict[str, WriteResult] = {}
        if len(wanted) > 1:
            try:
                self._session.context.cancellation.check()
                found = self._session.dispatcher.materialize_targets(
                    self._session.context,
                    [check.resolved for check, _ in wanted],
                    [self._sound(check.resolved.target.node, one) for check, one in wanted],
                )
                keys = (check.resolved.target.key for check, _ in wanted)
                results = dict(zip(keys, found, strict=True))
            except SeeknalError as error:
                # Whatever is wrong with one of them, it is told of that one below.
                log.debug("writing %d targets one by one", len(wanted), exc_info=error)
        took = (time.monotonic() - started) / len(wanted) if results else 0.0
        return [
            self._target(check, snapshot, why, results.get(check.resolved.target.key), took)
            for (check, snapshot), why in zip(writes, whys, strict=True)
        ]

    def _need(self, check: TargetCheck, snapshot: Snapshot) -> Need:
        target = check.resolved.target
        return need(
            check,
            snapshot.content_key,
            self._session.graph.definitions[target.node],
            self._record.targets.get(target.key),
            self._production,
            full_refresh=self._session.context.full_refresh,
        )

    def _target(
        self,
        check: TargetCheck,
        snapshot: Snapshot,
        why: Need,
        result: WriteResult | None,
        took: float,
    ) -> TargetOutcome:
        """Write a target unless that was done, and write down how it ended.

        Args:
            result: of a write that was done together with others.
            took: the seconds of its share of that.
        """
        started = time.monotonic() - took
        target = check.resolved.target
        held = self._record.targets.get(target.key)
        ended = TargetOutcome(
            key=target.key,
            node=target.node,
            type=target.type,
            name=str(target.name),
            mode=target.mode.value,
            status=TargetStatus.CURRENT,
            reason=why.value,
        )
        if why is Need.SAME_AS_PRODUCTION:
            return attrs.evolve(ended, status=TargetStatus.SAME_AS_PRODUCTION)
        if not why.writes:
            return attrs.evolve(ended, rows_after=held.rows if held else None)
        try:
            if result is None:
                self._session.context.cancellation.check()
                result = self._session.dispatcher.materialize(
                    self._session.context, check.resolved, self._sound(target.node, snapshot)
                )
            for note in result.notes:
                said = note.removeprefix(f"{target.name}: ")
                self._warnings.put(f"{target.name}: {said}")
            self._journal.target(
                target.key, self._written(check, snapshot, result.version, result.rows_after)
            )
        except SeeknalError as error:
            log.debug("%s failed", target.name, exc_info=error)
            return attrs.evolve(
                ended,
                status=TargetStatus.SKIPPED
                if was_stopped(self._session, error)
                else TargetStatus.FAILED,
                seconds=time.monotonic() - started,
                detail=redact(str(error)),
                hint=redact(error.hint),
            )
        return attrs.evolve(
            ended,
            status=TargetStatus.WRITTEN,
            rows_written=result.rows_written,
            rows_after=result.rows_after,
            seconds=time.monotonic() - started,
        )

    def _written(
        self, check: TargetCheck, snapshot: Snapshot, version: str, rows: int
    ) -> TargetRecord:
        target = check.resolved.target
        return TargetRecord(
            node=target.node,
            name=str(target.name),
            type=target.type,
            connection=check.resolved.connection.name,
            bindings=check.bindings,
            identity=check.identity,
            fingerprint=check.fingerprint,
            content_key=snapshot.content_key,
            version=version,
            rows=rows,
            written_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
