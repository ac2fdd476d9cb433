"""What happens to a node: reused, read, computed, or decided when its inputs are known."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import attrs

from seeknal_core.contract.types.digests import ContentKey
from seeknal_core.plan.bindings import is_bound_alike
from seeknal_core.plan.proofs import Proof
from seeknal_core.project.specs import ChangePolicy
from seeknal_core.state.records import NodeRecord


class Action(enum.Enum):
    """What is done for a node. The value is shown to the user."""

    COMPUTE = "compute"
    READ = "read"
    CHECK = "check again"
    REUSE = "reuse"
    DEPENDS = "compute if an input brings other rows"
    NONE = "nothing"

    @property
    def works(self) -> bool:
        """Whether the node is looked at."""
        return self not in (Action.REUSE, Action.NONE)


class Stored(Protocol):
    """Tells which rows are stored: the snapshot store."""

    def stored_as(self, node: str, content_key: str) -> ContentKey | None:
        """Return the key that a node's rows are stored under; None where they are not."""
        ...


@attrs.frozen(kw_only=True)
class Holder:
    """An environment, and what it recorded of a node."""

    name: str
    record: NodeRecord


@attrs.frozen(kw_only=True)
class NodeDecision:
    """What happens to a node, and why.

    Attributes:
        content_key: the stored rows that are taken, or what the computed ones will be called.
            Empty where that is not known yet.
        proof: why stored rows are the node's although something above it changed.
        reused_from: the environment that holds the rows, and ``held`` what it recorded.
    """

    action: Action
    reason: str = ""
    content_key: str = ""
    proof: str = ""
    reused_from: str = ""
    held: NodeRecord | None = None


@attrs.frozen(kw_only=True)
class Rows:
    """Whether rows of a key are stored.

    Attributes:
        stored: the key that they are stored under; None: they have to be computed.
        proof: why rows that are stored under another key are the node's, if they are.
    """

    stored: str | None
    proof: str = ""


def no_proof() -> Proof | None:
    """Return that nobody looks for a proof."""
    return None


def rows(
    node: str, content_key: str, store: Stored, prove: Callable[[], Proof | None] = no_proof
) -> Rows:
    """Decide whether a node's rows are there, under their key or by a proof.

    Args:
        prove: looks for a proof that other stored rows are the node's; only called where
            nothing is stored under the key.
    """
    stored = store.stored_as(node, content_key)
    if stored is not None:
        return Rows(stored=stored)
    proof = prove()
    if proof is not None:
        stored = store.stored_as(node, proof.stored)
        if stored is not None:
            return Rows(stored=stored, proof=proof.sentence)
    return Rows(stored=None)


@attrs.frozen(kw_only=True)
class TransformFacts:
    """What is known of a transform before it is computed.

    Attributes:
        volatile: functions that make its rows its run's own.
        unknown: inputs whose rows are not known yet.
        key: its content key; empty where an input is unknown.
        holders: environments that may hold it, the first one is asked first.
    """

    id: str
    definition: str
    volatile: Sequence[str] = ()
    unknown: Sequence[str] = ()
    key: str = ""
    holders: Sequence[Holder] = ()


def transform(
    facts: TransformFacts,
    store: Stored,
    prove: Callable[[], Proof | None],
    passed: Callable[[NodeRecord], bool],
) -> NodeDecision:
    """Decide what happens to a transform.

    Args:
        passed: tells whether the node's audits passed on the very rows of a record.
    """
    if facts.volatile:
        return NodeDecision(
            action=Action.COMPUTE, reason=f"uses {', '.join(facts.volatile)}, not reusable"
        )
    if facts.unknown:
        return NodeDecision(action=Action.DEPENDS, reason=", ".join(facts.unknown))
    found = rows(facts.id, facts.key, store, prove)
    if found.stored is None:
        return NodeDecision(action=Action.COMPUTE, content_key=facts.key)
    if found.proof:
        return _proved(found.stored, found.proof)
    for holder in facts.holders:
        held = holder.record
        if held.definition == facts.definition and has_rows_of(held, found.stored):
            return _reuse(holder, passed(held))
    if found.stored != facts.key:
        # A second name, which another environment was given: the proof holds here, too.
        proof = prove()
        if proof is not None and store.stored_as(facts.id, proof.stored) == found.stored:
            return _proved(found.stored, proof.sentence)
    return NodeDecision(action=Action.CHECK, content_key=found.stored, reason="stored already")


def _proved(stored: str, sentence: str) -> NodeDecision:
    """Take rows by a proof: the node is looked at, for its new key is not on record yet."""
    return NodeDecision(action=Action.CHECK, content_key=stored, reason=sentence, proof=sentence)


def _reuse(holder: Holder, passed: bool, reason: str = "") -> NodeDecision:
    """Take what an environment holds; look at it again where its audits have not passed."""
    return NodeDecision(
        action=Action.REUSE if passed else Action.CHECK,
        reason=reason if passed else "its audits are to be run",
        content_key=holder.record.content_key,
        reused_from=holder.name,
        held=holder.record,
    )


@attrs.frozen(kw_only=True)
class SourceFacts:
    """What is known of a source before it is read.

    Attributes:
        binding: where it leads now (`seeknal_core.plan.bindings`).
        own: the binding that this environment recorded of it, if any.
        anew: whether sources are read anew, as a run does.
        rebound: whether it leads to another place than in the base.
        in_store: whether a backend reads it.
        changes, assume_for: when a store's source counts as unchanged.
        refused: why its Python may not run; empty where it may, and for other sources.
        key: its content key, of files that were digested; empty where that is not known.
        holders: environments that may hold it, the first one is asked first.
    """

    id: str
    definition: str
    binding: str
    own: str = ""
    anew: bool = False
    rebound: bool = False
    in_store: bool = False
    changes: ChangePolicy = ChangePolicy.ALWAYS_READ
    assume_for: timedelta | None = None
    refused: str = ""
    key: str = ""
    holders: Sequence[Holder] = ()


def source(facts: SourceFacts, store: Stored, passed: Callable[[NodeRecord], bool]) -> NodeDecision:
    """Decide what happens to a source.

    Args:
        passed: tells whether the source's audits passed on the very rows of a record.
    """
    alike = [
        holder
        for holder in facts.holders
        if holder.record.definition == facts.definition
        and is_bound_alike(holder.record.binding, facts.binding, facts.own)
    ]
    if not facts.anew or facts.refused:
        for holder in alike:
            if store.stored_as(facts.id, holder.record.content_key) is not None:
                reason = "as stored, no Python runs" if facts.anew else ""
                return _reuse(holder, passed(holder.record), reason)
    elif facts.in_store and facts.holders:
        holder = facts.holders[0]
        if is_assumed_unchanged(
            holder.record, facts.definition, facts.binding, facts.changes, facts.assume_for
        ) and (store.stored_as(facts.id, holder.record.content_key) is not None):
            return _reuse(holder, passed(holder.record), f"changes: {facts.changes.value}")
    if facts.key:
        stored = store.stored_as(facts.id, facts.key)
        for holder in alike if stored is not None else ():
            if facts.anew and has_rows_of(holder.record, stored):
                return _reuse(holder, passed(holder.record))
        if stored is not None:
            return NodeDecision(action=Action.CHECK, content_key=stored, reason="stored already")
    why = "bound to another place" if facts.rebound else ""
    if facts.anew:
        why = "sources are read anew"
    return NodeDecision(action=Action.READ, content_key=facts.key, reason=facts.refused or why)


def is_assumed_unchanged(
    held: NodeRecord,
    definition: str,
    binding: str,
    changes: ChangePolicy,
    assume_for: timedelta | None,
) -> bool:
    """Return whether the user says not to look at a store's source again (``changes:``).

    Args:
        held: what is recorded of it.
        binding: where the source leads now.
    """
    if changes is ChangePolicy.ALWAYS_READ:
        return False
    if held.definition != definition or held.binding.partition("+")[0] != binding:
        return False
    if changes is ChangePolicy.NEVER:
        return True
    age = datetime.now(UTC) - datetime.fromisoformat(held.read_at)
    return age <= (assume_for or timedelta(0))


def audits_hold(held: NodeRecord | None, audits: str, *, ages: bool) -> bool:
    """Return whether a node's audits need not run again.

    Args:
        audits: the fingerprint of its audits upon the rows that it has now
            (`seeknal_core.plan.keys.audits_key`).
        ages: whether it has a freshness, which is looked at each time.
    """
    return held is not None and held.audits == audits and not ages


class Keyed(Protocol):
    """Something that has rows: a record, a snapshot, files that were read."""

    @property
    def content_key(self) -> str:
        """The key of its rows."""
        ...


def has_rows_of(held: Keyed, content_key: str | None) -> bool:
    """Return whether something has just the rows of a key."""
    return held.content_key == content_key


def gives_rows_of(held: NodeRecord, node: str, key: str, store: Stored) -> bool:
    """Return whether a node would give, over the inputs of a key, just the rows of a record.

    Then a promotion ships those rows, or keeps them; else it computes them again.

    Args:
        key: the content key that the node would get there.
    """
    return has_rows_of(held, store.stored_as(node, key))


def has_inputs_of(held: NodeRecord, reads: Mapping[str, str]) -> bool:
    """Return whether a node was computed of just these inputs' rows."""
    return dict(held.inputs) == dict(reads)
