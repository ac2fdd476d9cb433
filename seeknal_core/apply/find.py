"""Finding a node's rows in the snapshot store, as the decider says; computing them if need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seeknal_core.apply.run_engine import RunEngine
from seeknal_core.contract.types import Snapshot
from seeknal_core.engine.protocol import ROWS_FORM
from seeknal_core.plan import keys
from seeknal_core.plan.decide import has_rows_of, is_assumed_unchanged, no_proof, rows
from seeknal_core.plan.former_keys import FormerKeys
from seeknal_core.plan.proofs import Proof
from seeknal_core.project.specs import PythonNode, SourceNode
from seeknal_core.state.records import NodeRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import SnapshotStore, Staging


@attrs.frozen(kw_only=True)
class Computed:
    """A node's snapshot and whether it had to be computed.

    ``proof`` says why stored rows are its own although its inputs changed; ``notes`` what is
    to be said of the rows (`Output.notes`).
    """

    snapshot: Snapshot
    reused: bool
    binding: str = ""
    read_at: str = ""
    proof: str = ""
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class _Content:
    """Rows that are named by what they are: all that their key is made of."""

    snapshot: Snapshot
    identity: str
    asked: Mapping[str, object] | None


class Finder:
    """Finds what is stored, and stores what is not. Thread-safe: a call per node.

    Args:
        recorded: by node, what was recorded of it, where the command doesn't compute it.
        sound: returns a snapshot whose bytes are those that were written.
    """

    def __init__(
        self,
        session: Session,
        store: SnapshotStore,
        engine: RunEngine,
        recorded: Mapping[str, NodeRecord],
        sound: Callable[[str, Snapshot], Snapshot],
    ) -> None:
        self._session = session
        self._store = store
        self._engine = engine
        self._recorded = recorded
        self._sound = sound
        self._contents: dict[str, _Content] = {}
        #: How keys were made, for what earlier versions called the rows.
        self.former = FormerKeys(session, self._former_source)

    def stored_python_source(self, node: PythonNode) -> Computed | None:
        """Return what is recorded of a Python source, for when its Python may not run."""
        held = self._recorded.get(node.id)
        binding = keys.local_binding(self._session, node)
        definition = self._session.graph.definitions[node.id]
        if held is None or (held.definition, held.binding) != (definition, binding):
            return None
        snapshot = self._store.find(node.id, held.content_key, verify=True)
        if snapshot is None:
            return None
        return Computed(snapshot=snapshot, reused=True, binding=binding, read_at=held.read_at)

    def assumed_unchanged(
        self, node: SourceNode, binding: str, held: NodeRecord | None
    ) -> Computed | None:
        """Return what the environment holds where the user says not to look again."""
        definition = self._session.graph.definitions[node.id]
        if held is None or not is_assumed_unchanged(
            held, definition, binding, node.changes, node.assume_unchanged_for
        ):
            return None
        snapshot = self._store.find(node.id, held.content_key)
        if snapshot is None:
            return None
        return Computed(snapshot=snapshot, reused=True, binding=held.binding, read_at=held.read_at)

    def stored_or(
        self,
        node_id: str,
        key: str,
        compute: Callable[[Staging], object],
        prove: Callable[[], Proof | None] = no_proof,
    ) -> Computed:
        """Take the rows that the decider finds stored, or compute them."""
        decided = rows(node_id, key, self._store, prove)
        found = self._store.find(node_id, decided.stored) if decided.stored is not None else None
        if found is not None:
            if decided.proof:
                # What changed above provably did not touch them.
                self._store.alias(key, found.content_key, decided.proof)
            return Computed(snapshot=found, reused=True, proof=decided.proof)
        with self._store.staging() as staging:
            compute(staging)
            snapshot = self._store.commit(staging, node_id, key, digest="")
        return Computed(snapshot=snapshot, reused=False)

    def by_content(
        self,
        node_id: str,
        identity: str,
        compute: Callable[[Staging], object],
        held: NodeRecord | None,
        asked: Mapping[str, object] | None = None,
    ) -> Computed:
        """Read anew and name the rows by what they are: equal rows keep the old key."""

        def key_of(content: str) -> str:
            read = {"identity": identity, "digest": content, "asked": asked}
            return keys.stream_key(self._session, node_id, read)

        with self._store.staging() as staging:
            compute(staging)
            # The same bytes are the same rows, whatever digest of them is on record.
            content = self._store.digest_of_same(staging, held.content_key) if held else None
            if content is None:
                content = self._engine.get().digest(staging.files())
            key = key_of(content)
            found = self._store.find(node_id, key)
            if found is None and held is not None:
                key = self._key_on_record(node_id, key, staging, content, key_of, held)
                found = self._store.find(node_id, key)
            reused = found is not None
            if found is None:
                found = self._store.commit(staging, node_id, key, digest=content)
        self._contents[node_id] = _Content(snapshot=found, identity=identity, asked=asked)
        return Computed(snapshot=found, reused=reused)

    def _key_on_record(
        self,
        node_id: str,
        key: str,
        staging: Staging,
        content: str,
        key_of: Callable[[str], str],
        held: NodeRecord,
    ) -> str:
        """Return the key of rows that an earlier version may have stored by another digest.

        Such rows keep the key that records and ledgers know them by; the new one becomes an
        alias of it. That digest proves nothing, so the stored rows are digested as well.
        """
        digest = self._store.digest_of(held.content_key)
        if digest is not None and digest.startswith(ROWS_FORM):
            return key
        former = key_of(self._engine.get().former_digest(staging.files()))
        stored = self._store.find(node_id, former, verify=True)
        if stored is None:
            # Its rows are gone, and its key is all that is known of them.
            return former if has_rows_of(held, former) else key
        files = [Path(file) for file in stored.files]
        if self._engine.get().digest(files) != content:
            return key
        self._store.alias(key, stored.content_key, "the same rows, digested in another way")
        return key

    def former_keys(self, id: str, snapshot: Snapshot) -> tuple[str, ...]:
        """Return what earlier versions called a node's rows, where that differs."""
        key = self.former.of(id, snapshot.content_key)
        return () if has_rows_of(snapshot, key) else (key,)

    def _former_source(self, id: str) -> str | None:
        """Return the key that an earlier version gave to rows that are named by what they are."""
        read = self._contents.get(id)
        if read is None:
            return None
        files = [Path(file) for file in self._sound(id, read.snapshot).files]
        digest = self._engine.get().former_digest(files)
        return keys.stream_key(
            self._session,
            id,
            {"identity": read.identity, "digest": digest, "asked": read.asked},
        )
