"""Runs in which no Python of the project may run: what is stored stands for its nodes.

Before anything is written it must be known that no Python node has to be computed. What
shows from the project and its files is looked at first, without writing anything. Where a
Python node reads what only a store, or another node's rows, can tell, those are read and
computed into the snapshot store before the first target is written; the run then takes
them as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from seeknal_core.apply.node import Computer
from seeknal_core.contract.errors import ConfigError, Interrupted, Problem, SeeknalError
from seeknal_core.contract.types import Snapshot
from seeknal_core.plan import keys
from seeknal_core.plan.decide import rows
from seeknal_core.plan.scope import Scope
from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode
from seeknal_core.state.records import NodeRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.files.digests import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore


class Gate:
    """Lets a run pass when every Python node of its scope is stored.

    Args:
        held: what the environment, or its base, holds of a node.
    """

    def __init__(
        self,
        session: Session,
        scope: Scope,
        computer: Computer,
        store: SnapshotStore,
        digests: FileDigests,
        held: Callable[[str], NodeRecord | None],
    ) -> None:
        self._session = session
        self._scope = scope
        self._computer = computer
        self._store = store
        self._digests = digests
        self._held = held
        nodes = session.graph.nodes
        self._python = [id for id in scope.computed if isinstance(nodes[id], PythonNode)]

    def look(self) -> bool:
        """Refuse what surely has to be computed, having written nothing.

        Returns:
            Whether every Python node is known to be stored.

        Raises:
            ConfigError: with the nodes.
        """
        if self._session.trust.python or not self._python:
            return True
        known: dict[str, str] = {id: one.content_key for id, one in self._scope.recorded.items()}
        new: set[str] = set()
        missing: list[str] = []
        decided = 0
        for id in self._scope.computed:
            node = self._session.graph.nodes[id]
            inputs = self._session.graph.inputs[id]
            if isinstance(node, PythonNode):
                key = self._python_key(node, inputs, known)
                lost = key is not None and self._store.find(id, key, verify=True) is None
                if lost or new.intersection(inputs) or (key is None and node.kind == "source"):
                    missing.append(id)
                    continue
                decided += key is not None
            elif self._session.graph.volatile.get(id):
                new.add(id)
                continue
            else:
                key = self._key(node, inputs, known)
            if key is not None:
                known[id] = self._store.resolve(key)
        self._refuse(missing)
        return decided == len(self._python)

    def settle(self) -> None:
        """Read and compute what Python nodes hang on, into the snapshot store alone.

        Raises:
            ConfigError: a Python node is not stored.
        """
        wanted = self._above()
        done: dict[str, Snapshot] = {}
        missing: list[str] = []
        for id in self._scope.order:
            node = self._session.graph.nodes[id]
            inputs = self._session.graph.inputs[id]
            self._session.context.cancellation.check()
            if id in self._scope.recorded:
                found = self._store.find(id, self._scope.recorded[id].content_key)
                if found is not None:
                    done[id] = found
            elif id in wanted and all(input in done for input in inputs):
                read = {input: done[input] for input in inputs}
                if isinstance(node, PythonNode) and not self._is_stored(node, read):
                    missing.append(id)
                    continue
                try:
                    computed = self._computer.compute(node, read, self._held(id))
                except Interrupted:
                    raise
                except SeeknalError:
                    continue  # The run says it, of this node.
                self._computer.settle(id, computed)
                done[id] = computed.snapshot
        self._refuse(missing)

    def _above(self) -> set[str]:
        """Return the Python nodes and all that they hang on."""
        graph = self._session.graph
        found: set[str] = set()
        waiting = list(self._python)
        while waiting:
            id = waiting.pop()
            if id not in found and id not in self._scope.recorded:
                found.add(id)
                waiting += graph.inputs[id]
        return found

    def _is_stored(self, node: PythonNode, read: Mapping[str, Snapshot]) -> bool:
        known = {id: snapshot.content_key for id, snapshot in read.items()}
        key = self._python_key(node, self._session.graph.inputs[node.id], known)
        return key is not None and self._store.find(node.id, key, verify=True) is not None

    def _python_key(
        self, node: PythonNode, inputs: Sequence[str], known: Mapping[str, str]
    ) -> str | None:
        """Return the key of a Python node; None where it is not known, or of a source not held."""
        if node.kind == "source":
            stored = self._computer.stored_python_source(node)
            return stored.snapshot.content_key if stored is not None else None
        if any(input not in known for input in inputs):
            return None
        return keys.python_key(self._session, node, [known[input] for input in inputs])

    def _key(self, node: AnyNode, inputs: Sequence[str], known: Mapping[str, str]) -> str | None:
        """Return the key of another node; None where a store or other rows decide it."""
        if isinstance(node, SourceNode):
            if self._computer.is_of_a_store(node.id) or keys.is_remote(node):
                return None
            try:
                scratch = self._computer.scratch
                return keys.file_read(self._session, node, self._digests, scratch).content_key
            except (SeeknalError, OSError):
                return None
        if not isinstance(node, SqlNode) or any(input not in known for input in inputs):
            return None
        key = keys.transform_key(self._session, node, [known[input] for input in inputs])
        # Of rows that are not stored yet, a proof may say that they are stored ones.
        return rows(node.id, key, self._store).stored

    def _refuse(self, missing: Sequence[str]) -> None:
        if not missing:
            return
        why = self._session.trust.why_no_python
        nodes = [self._session.graph.nodes[id] for id in missing]
        raise ConfigError(
            [
                Problem(
                    f"{node.id} would have to be computed, and with {why} no Python of the"
                    " project runs",
                    node.location.file,
                    node.location.line,
                )
                for node in nodes
            ],
            f"compute it where the project's Python is trusted: {self._command(missing)}",
        )

    def _command(self, missing: Sequence[str]) -> str:
        alone = len(missing) == 1
        return self._session.rerun(missing[0]) if alone else self._session.command("run")
