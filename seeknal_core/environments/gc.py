"""``seeknal gc``: remove stored outputs that nothing refers to any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seeknal_core.environments.gc_stores import Leftovers
from seeknal_core.plan.document import load_plan
from seeknal_core.state import promotions
from seeknal_core.state.documents import remove_unfinished
from seeknal_core.state.store import StateStore

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import SnapshotStore


#: How long a plan that nobody applied keeps what it would reuse.
_PLAN_LIFE = timedelta(days=7)


@attrs.frozen(kw_only=True)
class Garbage:
    """What was, or would be, removed and kept; sizes in bytes.

    ``stores`` is what killed commands left in them.
    """

    removed: int
    removed_bytes: int
    kept: int
    kept_bytes: int
    stores: Leftovers = Leftovers()


def collect(
    snapshots: Path,
    state: StateStore,
    now: datetime,
    *,
    keep_for: timedelta,
    dry_run: bool,
    stores: Callable[[], Leftovers] = Leftovers,
) -> Garbage:
    """Remove what no record, plan or undo data names and no recent run made.

    Args:
        keep_for: outputs younger than this stay: a run that failed half-way wants them.
        stores: sweeps the stores; called while no other command uses the snapshots.

    Raises:
        StateError: another command uses the snapshots, or a record is unreadable
            (then nothing is removed).
    """
    from seeknal_core.engine.snapshots import SnapshotStore

    store = SnapshotStore(snapshots)
    if not snapshots.is_dir():
        return Garbage(removed=0, removed_bytes=0, kept=0, kept_bytes=0, stores=stores())
    if dry_run:
        return attrs.evolve(_sweep(store, state, now, keep_for, dry_run=True), stores=stores())
    # No other command of this folder runs: what it left in the stores is nobody's.
    with store.exclusive_lock():
        remove_unfinished(state.folder)
        return attrs.evolve(_sweep(store, state, now, keep_for, dry_run=False), stores=stores())


def _sweep(
    store: SnapshotStore, state: StateStore, now: datetime, keep_for: timedelta, *, dry_run: bool
) -> Garbage:
    before = now - keep_for
    named = _named(state, now)
    removed, kept = [], []
    for stored in store.stored():
        if stored.content_key in named or stored.stored_at >= before:
            kept.append(stored.bytes)
            continue
        removed.append(stored.bytes)
        if not dry_run:
            store.remove(stored.content_key)
    if not dry_run:
        store.aliases.keep({stored.content_key for stored in store.stored()})
    return Garbage(
        removed=len(removed),
        removed_bytes=sum(removed),
        kept=len(kept),
        kept_bytes=sum(kept),
    )


def _named(state: StateStore, now: datetime) -> set[str]:
    """Return the content keys that records, plans and promotions refer to."""
    records = [record for name in state.names() if (record := state.load(name)) is not None]
    for document in state.all("promotions"):
        environment, _, which = document.rpartition(".")
        found = promotions.load(state, environment, which)
        if found is not None:
            records += [found.before, found.after]
    named: set[str] = {node.content_key for record in records for node in record.nodes.values()}
    for name in state.all("plans"):
        plan = load_plan(state.document_path("plans", name))
        if plan is not None and now - datetime.fromisoformat(plan.created_at) < _PLAN_LIFE:
            named |= {step.content_key for step in plan.nodes}
    return named
