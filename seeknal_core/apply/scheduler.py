"""Carry out a run: nodes in graph order, in parallel, to snapshots and targets."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue

import attrs

from seeknal_core.apply.find import Computed
from seeknal_core.apply.node import Computer, missing_snapshot
from seeknal_core.apply.report import (
    NodeOutcome,
    NodeStatus,
    Reporter,
    TargetOutcome,
    TargetStatus,
)
from seeknal_core.apply.task import NodeEnd, NodeTasks
from seeknal_core.apply.write import TOGETHER, Finished, Writer, Writes
from seeknal_core.contract.types import Snapshot, redact
from seeknal_core.plan.decide import Production, SharedDecision
from seeknal_core.plan.scope import Scope
from seeknal_core.plan.targets import TargetCheck, covering
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.session import Session

#: How often the main thread looks up from waiting, in seconds, so that a signal is heard.
_HEARTBEAT = 0.2

#: How long running tasks may take to stop after Ctrl-C, in seconds. What has not
#: stopped by then (a Python loop, a store that does not answer) is left to its end
#: with the process: targets are old or new whatever dies.
_GRACE = 4.0

#: Seconds for which small writes wait for others to go along with.
_GATHERING = 0.5

_STOPPED = "not run, the run was stopped"
_ABANDONED = "it did not stop in time and was abandoned"


@attrs.frozen(kw_only=True)
class Options:
    """Execution options."""

    threads: int = 4
    fail_fast: bool = False


@attrs.frozen(kw_only=True)
class _UnchangedEnd:
    """What the task gives back that links what is the same as production's."""

    outcomes: list[TargetOutcome]
    copies: Writes


_Task = Future[NodeEnd | _UnchangedEnd | list[TargetOutcome]]


@attrs.define(kw_only=True)
class _Progress:
    """What the main thread keeps while tasks run; workers never touch it."""

    waiting: dict[str, set[str]]
    dependents: dict[str, list[str]]
    ready: deque[str]
    writes: deque[tuple[TargetCheck, Snapshot]] = attrs.field(factory=deque)
    unchanged: list[tuple[TargetCheck, Snapshot]] = attrs.field(factory=list)
    waiting_since: float = 0.0
    running: dict[_Task, str | Writes] = attrs.field(factory=dict)
    done: dict[str, Snapshot] = attrs.field(factory=dict)
    nodes: dict[str, NodeOutcome] = attrs.field(factory=dict)
    targets: dict[str, TargetOutcome] = attrs.field(factory=dict)
    stopping: bool = False


class Executor:
    """Runs the nodes of a scope.

    A node's children start when its snapshot is stored and its audits passed;
    they don't wait for its targets. Each finished piece is journalled, so that
    whatever dies, the next run does only what is missing.
    """

    def __init__(
        self,
        session: Session,
        scope: Scope,
        checks: Mapping[str, TargetCheck],
        computer: Computer,
        journal: Finished,
        reporter: Reporter,
        *,
        record: EnvironmentRecord,
        production: Production,
        find: Callable[[str, str], Snapshot | None],
        warnings: SimpleQueue[str],
        linked: Mapping[str, Snapshot] | None = None,
        decisions: Mapping[str, SharedDecision] | None = None,
    ) -> None:
        self._session = session
        self._scope = scope
        self._tasks = NodeTasks(
            session,
            scope,
            computer,
            journal,
            record=record,
            base=production.record,
            find=find,
            warnings=warnings,
        )
        self._writer = Writer(
            session,
            journal,
            record=record,
            production=production,
            warnings=warnings,
            sound=computer.sound,
            former_keys=computer.former_keys,
            decisions=decisions or {},
        )
        self._reporter = reporter
        self._find = find
        self._warnings = warnings
        #: Whether tasks were left running after a stop; what they use must not be closed.
        self.abandoned = False
        self._by_node: dict[str, list[TargetCheck]] = {}
        linked = linked or {}
        self._linked = [(checks[key], shown) for key, shown in linked.items() if key in checks]
        for check in checks.values():
            if check.resolved.target.key in linked:
                continue
            id = check.resolved.target.node
            held = scope.recorded.get(id)
            # Rows that are taken as recorded may be of another day than this command.
            known = check if held is None else covering(check, held.covers)
            self._by_node.setdefault(id, []).append(known)

    @property
    def outputs(self) -> Mapping[str, Computed]:
        """The outputs of the nodes that ended well, by node."""
        return self._tasks.outputs

    def run(self, options: Options) -> tuple[list[NodeOutcome], list[TargetOutcome]]:
        """Run everything; failures are in the outcomes, never raised."""
        progress = self._prepare()
        self._reporter.started(len(self._scope.order))
        pool = ThreadPoolExecutor(max(1, options.threads))
        try:
            self._start_ready(progress, pool, options)
            stopped_at: float | None = None
            while progress.running and not self.abandoned:
                ended, _ = wait(progress.running, timeout=_HEARTBEAT, return_when=FIRST_COMPLETED)
                self._pass_warnings()
                for task in ended:
                    del progress.running[task]
                    self._settle(progress, task.result(), options)
                if self._session.context.cancellation.requested:
                    progress.stopping = True
                    stopped_at = stopped_at or time.monotonic()
                    self.abandoned = time.monotonic() - stopped_at > _GRACE
                self._start_ready(progress, pool, options)
        finally:
            pool.shutdown(wait=not self.abandoned, cancel_futures=True)
        self._pass_warnings()
        self._skip_rest(progress)
        return list(progress.nodes.values()), list(progress.targets.values())

    def _prepare(self) -> _Progress:
        waiting = {id: set(needs) for id, needs in self._scope.waits.items()}
        dependents: dict[str, list[str]] = {id: [] for id in waiting}
        for id, needs in waiting.items():
            for input in needs:
                dependents[input].append(id)
        ready = deque(id for id, needs in waiting.items() if not needs)
        for id in ready:
            del waiting[id]
        return _Progress(
            waiting=waiting, dependents=dependents, ready=ready, unchanged=list(self._linked)
        )

    def _start_ready(self, progress: _Progress, pool: ThreadPoolExecutor, options: Options) -> None:
        # No more than there are threads: what the pool holds can't be called back.
        while not progress.stopping and len(progress.running) < max(1, options.threads):
            if progress.writes and not (progress.ready and self._may_wait(progress)):
                writes = self._next_writes(progress)
                for check, _ in writes:
                    self._reporter.target_started(str(check.resolved.target.name))
                progress.running[pool.submit(self._writer.write, writes)] = writes
            elif progress.ready:
                id = progress.ready.popleft()
                known = {input: progress.done[input] for input in self._scope.waits[id]}
                self._reporter.node_started(id)
                progress.running[pool.submit(self._tasks.carry_out, id, known)] = id
            elif progress.unchanged and not progress.running:
                # All at once, when everything else is done: a store links many in one go.
                same, progress.unchanged = tuple(progress.unchanged), []
                progress.running[pool.submit(self._unchanged, same)] = same
            else:
                return

    def _unchanged(self, same: Writes) -> _UnchangedEnd:
        outcomes, copies = self._writer.unchanged(same)
        found = []
        for check, shown in copies:
            # What was to be a link has no files at hand.
            snapshot = shown if shown.files else self._find(shown.node, shown.content_key)
            if snapshot is None:
                gone = missing_snapshot(self._session, shown.node)
                outcomes.append(self._writer.failed(check, gone))
            else:
                found.append((check, snapshot))
        return _UnchangedEnd(outcomes=outcomes, copies=tuple(found))

    def _may_wait(self, progress: _Progress) -> bool:
        """Whether the writes are small ones, for which more may soon come along."""
        if len(progress.writes) >= TOGETHER:
            return False
        if time.monotonic() - progress.waiting_since > _GATHERING:
            return False
        return all(self._writer.is_small(check, snapshot) for check, snapshot in progress.writes)

    def _next_writes(self, progress: _Progress) -> Writes:
        """Take the write that waits longest, and the small ones that can go with it."""
        first = progress.writes.popleft()
        taken = [first]
        if self._writer.is_small(*first):
            connection = first[0].resolved.connection.name
            left: deque[tuple[TargetCheck, Snapshot]] = deque()
            for one in progress.writes:
                fits = len(taken) < TOGETHER and one[0].resolved.connection.name == connection
                (taken if fits and self._writer.is_small(*one) else left).append(one)
            progress.writes = left
        progress.waiting_since = time.monotonic()
        return tuple(taken)

    def _settle(
        self,
        progress: _Progress,
        ended: NodeEnd | _UnchangedEnd | list[TargetOutcome],
        options: Options,
    ) -> None:
        if isinstance(ended, _UnchangedEnd):
            progress.writes.extend(ended.copies)
            ended = ended.outcomes
        if isinstance(ended, list):
            for one in ended:
                progress.targets[one.key] = one
                self._reporter.target_ended(one)
            failed = any(one.status is TargetStatus.FAILED for one in ended)
        else:
            failed = ended.outcome.status is NodeStatus.FAILED
            self._node_ended(progress, ended)
        if failed and options.fail_fast:
            progress.stopping = True

    def _node_ended(self, progress: _Progress, ended: NodeEnd) -> None:
        id = ended.outcome.id
        progress.nodes[id] = ended.outcome
        self._reporter.node_ended(ended.outcome)
        if ended.snapshot is None:
            return
        progress.done[id] = ended.snapshot
        for child in progress.dependents[id]:
            needs = progress.waiting[child]
            needs.discard(id)
            if not needs:
                del progress.waiting[child]
                progress.ready.append(child)
        if not progress.writes:
            progress.waiting_since = time.monotonic()
        for check in self._by_node.pop(id, ()):
            same = self._writer.is_same(check, ended.snapshot)
            (progress.unchanged if same else progress.writes).append((check, ended.snapshot))

    def _skip_rest(self, progress: _Progress) -> None:
        for task in progress.running.values() if self.abandoned else ():
            if isinstance(task, tuple):
                for check, _ in task:
                    self._skip_target(progress, check, _ABANDONED)
            else:
                progress.nodes[task] = NodeOutcome(
                    id=task, status=NodeStatus.SKIPPED, detail=_ABANDONED
                )
                self._reporter.node_ended(progress.nodes[task])
        for id in (*progress.ready, *progress.waiting):
            cause = self._failed_above(id, progress.nodes)
            detail = f"{cause} failed" if cause else _STOPPED
            progress.nodes[id] = NodeOutcome(id=id, status=NodeStatus.SKIPPED, detail=detail)
            self._reporter.node_ended(progress.nodes[id])
        for id, checks in self._by_node.items():
            node = progress.nodes[id]
            failed = node.status is NodeStatus.FAILED
            for check in checks:
                self._skip_target(progress, check, f"{id} failed" if failed else node.detail)
        for check, _ in (*progress.writes, *progress.unchanged):
            self._skip_target(progress, check, _STOPPED)

    def _failed_above(self, id: str, nodes: Mapping[str, NodeOutcome]) -> str | None:
        """Return the failed node that `id` waits for, directly or not."""
        seen: set[str] = set()
        waiting = [id]
        while waiting:
            for above in sorted(self._scope.waits[waiting.pop()] - seen):
                if above in nodes and nodes[above].status is NodeStatus.FAILED:
                    return above
                seen.add(above)
                waiting.append(above)
        return None

    def _skip_target(self, progress: _Progress, check: TargetCheck, detail: str) -> None:
        target = check.resolved.target
        progress.targets[target.key] = TargetOutcome(
            key=target.key,
            node=target.node,
            type=target.type,
            name=str(target.name),
            mode=target.mode.value,
            status=TargetStatus.SKIPPED,
            detail=detail,
        )

    def _pass_warnings(self) -> None:
        while not self._warnings.empty():
            self._reporter.warn(redact(self._warnings.get()))
