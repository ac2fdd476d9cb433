"""Carry out a scope: everything open that an executor needs, and closed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

import attrs

from seeknal_core.apply.find import Computed
from seeknal_core.apply.node import Computer
from seeknal_core.apply.report import (
    NodeOutcome,
    NodeStatus,
    Reporter,
    TargetOutcome,
    TargetStatus,
)
from seeknal_core.apply.scheduler import Executor, Options
from seeknal_core.apply.without_python import Gate
from seeknal_core.apply.write import Finished
from seeknal_core.contract.types import Snapshot
from seeknal_core.plan.decide import Production, SharedDecision
from seeknal_core.plan.proofs import Prover, Reference, references
from seeknal_core.plan.scope import Scope
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.plugins.resolved import ResolvedSource
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, TargetRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.files.digests import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore


@attrs.frozen(kw_only=True)
class Late:
    """What is to be done of work whose targets decide about it.

    ``linked`` names targets that are the same as production's, by key, with what they show:
    their nodes need not be looked at. ``decisions`` say what becomes of such targets, as far as
    the stores were asked.
    """

    scope: Scope
    linked: Mapping[str, Snapshot] = attrs.field(factory=dict)
    decisions: Mapping[str, SharedDecision] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Work:
    """What is to be done, and over which records.

    ``check`` looks at the stores and refuses what must not be done, before anything is
    written. ``record`` is the environment's, ``base`` the one it is based on (None: none).
    ``then`` says after the check what is to be done, where that is not known before: until
    then ``scope`` says which files may be read ahead.
    """

    scope: Scope
    check: Callable[[], Mapping[str, TargetCheck]]
    sources: Mapping[str, ResolvedSource]
    record: EnvironmentRecord
    base: EnvironmentRecord | None
    options: Options = Options()
    all_targets: bool = False
    only_changed: bool = False
    then: Callable[[], Late] | None = None


@attrs.frozen(kw_only=True)
class Ended:
    """How it ended. ``outputs`` are those of the nodes that ended well.

    ``documents`` has the digests of the documents of snapshots that were stored, by key.
    """

    nodes: tuple[NodeOutcome, ...]
    targets: tuple[TargetOutcome, ...]
    outputs: Mapping[str, Computed]
    documents: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def failed(self) -> bool:
        """Whether a node or a target failed."""
        return any(node.status is NodeStatus.FAILED for node in self.nodes) or any(
            target.status is TargetStatus.FAILED for target in self.targets
        )


class Kept:
    """Keeps in memory what an executor finishes, for a promotion that may yet be given up."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRecord] = {}

    def node(self, id: str, record: NodeRecord) -> None:
        """Keep a node's record."""
        self.nodes[id] = record

    def target(self, key: str, record: TargetRecord) -> None:
        """Nothing is written by an executor that has no targets."""


def bound_anew(
    nodes: Mapping[str, NodeRecord], documents: Mapping[str, str]
) -> dict[str, NodeRecord]:
    """Return nodes' records, bound to the snapshots that were stored again since.

    Args:
        documents: the digests of the snapshots' documents, by content key.
    """
    return {
        id: attrs.evolve(held, stored=documents.get(held.content_key, held.stored))
        for id, held in nodes.items()
    }


def carry_out(
    session: Session,
    work: Work,
    journal: Finished,
    reporter: Reporter,
    known: Sequence[Reference] | None = None,
    store: SnapshotStore | None = None,
    digests: FileDigests | None = None,
) -> Ended:
    """Run a scope's nodes and write its targets; failures are in the outcomes.

    Args:
        known: what proofs may refer to; by default the work's record and base.
        store, digests: those that the work was planned with, if it was.

    Raises:
        SeeknalError: what the work's check refuses.
    """
    warnings: SimpleQueue[str] = SimpleQueue()
    if store is None:
        store = session.snapshot_store()
    if digests is None:
        digests = session.file_digests()
    if known is None:
        known = references(session, work.record, work.base)
    with store.shared_lock():
        prover = Prover(session, known)
        for id, held in work.scope.recorded.items():
            prover.note(id, held.inputs)
        recorded = {**(work.base.nodes if work.base else {}), **work.record.nodes}
        recorded |= work.scope.recorded
        computer = Computer(session, store, digests, work.sources, warnings.put, prover, recorded)
        gate = Gate(session, work.scope, computer, store, digests, recorded.get)
        try:
            settled = gate.look()
            # Connecting and its imports take half a second, in which files can be read.
            with computer.reading_ahead(work.scope.computed):
                checks = work.check()
            if not settled:
                gate.settle()
            late = work.then() if work.then is not None else Late(scope=work.scope)
            executor = _executor(
                session, work, late, checks, computer, journal, reporter, store, warnings
            )
            nodes, targets = executor.run(work.options)
        except BaseException:
            computer.close()
            raise
        finally:
            digests.save()
            session.save_caches()
        if not executor.abandoned:
            computer.close()
            store.close()
        return Ended(
            nodes=tuple(nodes),
            targets=tuple(targets),
            outputs=dict(executor.outputs),
            documents=dict(store.committed),
        )


def _executor(
    session: Session,
    work: Work,
    late: Late,
    checks: Mapping[str, TargetCheck],
    computer: Computer,
    journal: Finished,
    reporter: Reporter,
    store: SnapshotStore,
    warnings: SimpleQueue[str],
) -> Executor:
    return Executor(
        session,
        late.scope,
        checks,
        computer,
        journal,
        reporter,
        record=work.record,
        production=Production.of(
            session.settings,
            work.base,
            all_targets=work.all_targets,
            only_changed=work.only_changed,
        ),
        find=store.find,
        warnings=warnings,
        linked=late.linked,
        decisions=late.decisions,
    )
