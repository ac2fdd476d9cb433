"""How one node's snapshot comes to be: found under its key, or computed into the store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seeknal_core.apply.ahead import ReadingAhead
from seeknal_core.apply.audit import Auditor
from seeknal_core.apply.find import Computed, Finder
from seeknal_core.apply.run_engine import RunEngine
from seeknal_core.contract.errors import DamagedOutput, DamagedSource, EngineError
from seeknal_core.contract.types import Snapshot, SourceStream
from seeknal_core.plan import keys
from seeknal_core.plan.bindings import seen_binding, source_binding
from seeknal_core.plan.decide import has_rows_of
from seeknal_core.plan.proofs import Prover
from seeknal_core.plugins.resolved import ResolvedSource
from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode
from seeknal_core.state.records import NodeRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.engine.files.digests import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore, Staging

#: How often a file source is read again because it changed meanwhile.
_TRIES = 3


class Computer:
    """Computes the nodes of one run. Thread-safe: a call per node, several at once.

    Args:
        recorded: by node, what was recorded of it, where the run doesn't compute it.
    """

    def __init__(
        self,
        session: Session,
        store: SnapshotStore,
        digests: FileDigests,
        sources: Mapping[str, ResolvedSource],
        warn: Callable[[str], None],
        prover: Prover,
        recorded: Mapping[str, NodeRecord] | None = None,
    ) -> None:
        self._session = session
        self._prover = prover
        self._store = store
        self._digests = digests
        self._sources = sources
        self._warn = warn
        self._engine = RunEngine(session, store.root)
        self._recorded = recorded or {}
        self._repairing = threading.RLock()
        self._computed: dict[str, tuple[Mapping[str, Snapshot], NodeRecord | None]] = {}
        self._settled: dict[str, Computed] = {}
        self._ahead = ReadingAhead(
            session.context.cancellation, lambda node: self._file_source(node)
        )
        self._finder = Finder(session, store, self._engine, self._recorded, self.sound)
        self._auditor = Auditor(
            session, self._engine, digests, self.sound, self.is_of_a_store, warn
        )
        self.check = self._auditor.check
        self.former_keys = self._finder.former_keys
        self.stored_python_source = self._finder.stored_python_source

    def close(self) -> None:
        """Close the engine and remove what only this run needed."""
        self._engine.close()

    @property
    def scratch(self) -> Path:
        """A folder for what lives no longer than the run."""
        return self._engine.scratch

    @contextlib.contextmanager
    def reading_ahead(self, order: Iterable[str]) -> Iterator[None]:
        """Begin to read files, which no store has a say in, while the block asks the stores.

        `compute` takes what was read. A block that fails ends the reading.

        Args:
            order: ids of nodes that will be computed.
        """
        nodes = (self._session.graph.nodes[id] for id in order if id not in self._sources)
        with self._ahead.reading([node for node in nodes if isinstance(node, SourceNode)]):
            yield

    def compute(
        self, node: AnyNode, inputs: Mapping[str, Snapshot], held: NodeRecord | None
    ) -> Computed:
        """Return the node's snapshot, computing it if it isn't stored.

        Args:
            inputs: snapshots of the node's inputs, in their order.
            held: what the environment holds of the node.

        Raises:
            SeeknalError: it cannot be computed, in words for the user.
        """
        self._computed[node.id] = (inputs, held)
        settled = self._settled.pop(node.id, None)
        if settled is not None:
            return settled
        try:
            return self._compute(node, inputs, held)
        except (DamagedOutput, DamagedSource):
            raise
        except EngineError as error:
            # The engine knows no environment, and the hint must not lead to another one.
            again = self._session.rerun(node.id)
            raise EngineError(_placed(error, node), _followed(error.hint, again)) from error

    def settle(self, id: str, computed: Computed) -> None:
        """Make `computed` what `compute` returns for a node, once."""
        self._settled[id] = computed

    def is_of_a_store(self, id: str) -> bool:
        """Return whether a source is read by a backend."""
        return id in self._sources

    def _compute(
        self, node: AnyNode, inputs: Mapping[str, Snapshot], held: NodeRecord | None
    ) -> Computed:
        match node:
            case SqlNode():
                return self._sql(node, inputs)
            case PythonNode() if node.kind == "source":
                return self._python_source(node, held)
            case PythonNode():
                return self._python(node, inputs)
            case SourceNode() if node.id in self._sources:
                return self._store_source(node, self._sources[node.id], held)
            case SourceNode():
                return self._ahead.taken(node.id) or self._file_source(node)

    def _sql(self, node: SqlNode, inputs: Mapping[str, Snapshot]) -> Computed:
        from seeknal_core.graph import render

        rendered = render(node, self._session.graph.inputs[node.id], self._session.variables)
        read = {id: inputs[id].content_key for id in self._session.graph.inputs[node.id]}
        self._prover.note(node.id, read)

        def key_over(inputs: Sequence[str]) -> str:
            return keys.sql_key(self._session, node, rendered.tokens, inputs)

        key = key_over(list(read.values()))
        self._finder.former.note(node.id, read, key_over)
        return self._finder.stored_or(
            node.id,
            # Rows that were proved to stay, and are gone, are stored under their first key again.
            self._store.named_by(node.id, key),
            lambda staging: self._over(
                inputs,
                lambda given: self._engine.get().compute_sql(
                    node.id, rendered.placed(), given, staging
                ),
            ),
            lambda: self._prover.prove(node.id, read),
        )

    def _over(
        self,
        inputs: Mapping[str, Snapshot],
        compute: Callable[[Mapping[str, Snapshot]], object],
    ) -> None:
        """Compute over inputs whose bytes were checked, and did not change meanwhile."""
        with contextlib.ExitStack() as stack:
            sound = self._all_sound(inputs).items()
            compute({id: stack.enter_context(each.confirmed()) for id, each in sound})

    def _all_sound(self, snapshots: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
        return {id: self.sound(id, snapshot) for id, snapshot in snapshots.items()}

    def sound(self, id: str, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot whose bytes are those that were written.

        One that was damaged on the disk since is computed again, under the same key.

        Args:
            id: the node that the snapshot is of.

        Raises:
            DamagedSource: a source's rows were damaged, and the command doesn't read sources.
            EngineError: they can't be computed again: what they were made of has changed.
        """
        key = snapshot.content_key
        found = self._store.find(id, key, verify=True)
        if found is not None:
            return found
        with self._repairing:
            found = self._store.find(id, key, verify=True)
            if found is not None:
                return found
            node = self._session.graph.nodes[id]
            if id not in self._computed and node.kind == "source":
                raise damaged_source(self._session, id)
            self._warn(f"{id}: its stored output was damaged on the disk and is computed again")
            inputs, held = self._computed.get(id) or (self._recorded_inputs(id), None)
            again = self._compute(node, self._all_sound(inputs), held).snapshot
            if not has_rows_of(again, key):
                raise missing_snapshot(self._session, id)
            return again

    def _recorded_inputs(self, id: str) -> dict[str, Snapshot]:
        """Return the inputs that a node was computed of, where the run doesn't compute it."""
        held = self._recorded.get(id)
        found = {}
        for input in self._session.graph.inputs[id]:
            key = held.inputs.get(input) if held else None
            snapshot = self._store.find(input, key, verify=True) if key else None
            if snapshot is None:
                if key and self._session.graph.nodes[input].kind == "source":
                    raise damaged_source(self._session, input)
                raise missing_snapshot(self._session, id)
            found[input] = snapshot
        return found

    def _python(self, node: PythonNode, inputs: Mapping[str, Snapshot]) -> Computed:
        read = {id: inputs[id].content_key for id in self._session.graph.inputs[node.id]}
        self._prover.note(node.id, read)

        def key_over(inputs: Sequence[str]) -> str:
            return keys.python_key(self._session, node, inputs)

        key = key_over(list(read.values()))
        self._finder.former.note(node.id, read, key_over)
        return self._finder.stored_or(
            node.id,
            key,
            lambda staging: self._over(
                inputs,
                lambda given: self._engine.get().compute_python(
                    node, given, staging, self._session.variables
                ),
            ),
        )

    def _python_source(self, node: PythonNode, held: NodeRecord | None) -> Computed:
        """Run a Python source each time: what it reads is known to nobody but itself."""
        if not self._session.trust.python:
            stored = self.stored_python_source(node)
            if stored is not None:
                return stored
        computed = self._finder.by_content(
            node.id,
            "python",
            lambda staging: self._engine.get().compute_python(
                node, {}, staging, self._session.variables
            ),
            held,
        )
        return attrs.evolve(computed, binding=keys.local_binding(self._session, node))

    def _file_source(self, node: SourceNode) -> Computed:
        """Read files under the key of just the bytes that were read."""
        from seeknal_core.engine.files.bounds import check_bytes, check_rows

        binding = keys.local_binding(self._session, node)
        for _ in range(_TRIES):
            read = keys.file_read(
                self._session,
                node,
                self._digests,
                self.scratch,
                lambda key: self._store.find(node.id, key) is not None,
            )
            check_bytes(node, read.files.files)
            found = self._store.find(node.id, read.content_key)
            if found is not None:
                check_rows(node, found.row_count)
                notes = self._store.notes_of(read.content_key)
                return Computed(snapshot=found, reused=True, binding=binding, notes=notes)
            with self._store.staging() as staging:
                notes = self._engine.get().read_files(read.source, read.files, staging).notes
                if self._unchanged(node, read):
                    key = read.content_key
                    snapshot = self._store.commit(staging, node.id, key, "", notes)
                    return Computed(snapshot=snapshot, reused=False, binding=binding, notes=notes)
        raise EngineError(
            f"{node.id}: its files change while they are read",
            "wait until they are complete",
        )

    def _unchanged(self, node: SourceNode, read: keys.FileRead) -> bool:
        """Return whether the files are still what they were when the key was made."""
        if keys.is_remote(node):
            # What was read is our own copy, and that was digested.
            return True
        again = keys.file_read(self._session, node, self._digests, self.scratch)
        return has_rows_of(again, read.content_key)

    def _store_source(
        self, node: SourceNode, resolved: ResolvedSource, held: NodeRecord | None
    ) -> Computed:
        from seeknal_core.engine.files.bounds import check_rows

        binding = source_binding(resolved)
        assumed = self._finder.assumed_unchanged(node, binding, held)
        if assumed is not None:
            return assumed
        read_at = datetime.now(UTC).isoformat(timespec="seconds")
        asked = keys.asked_of(resolved.source)
        with self._session.dispatcher.read_source(self._session.context, resolved) as stream:

            def store(staging: Staging) -> object:
                with self._opened(resolved, stream) as reader:
                    return self._engine.get().store_stream(
                        node.id,
                        reader,
                        staging,
                        max_rows=node.max_rows,
                        max_bytes=node.max_bytes,
                    )

            if stream.version is not None:
                read = keys.version_read(stream.identity, stream.version, resolved.source)
                key = keys.stream_key(self._session, node.id, read)
                computed = self._finder.stored_or(node.id, key, store)
            else:
                computed = self._finder.by_content(node.id, stream.identity, store, held, asked)
        # Stored by a node of the same name that had a higher limit, or none.
        check_rows(node, computed.snapshot.row_count)
        seen = seen_binding(binding, stream.sees)
        return attrs.evolve(computed, binding=seen, read_at=read_at)

    def _opened(
        self, resolved: ResolvedSource, stream: SourceStream
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """Open a stream, or a query over it where the store runs none itself."""
        source, scan = resolved.source, stream.scan
        if source.query is None or scan is None:
            return contextlib.nullcontext(stream.open())
        # As the user wrote it, which may begin with a name of the catalog.
        written = tuple((resolved.spec.table or "").split("."))
        scan = attrs.evolve(scan, names=(*scan.names, written))
        return self._engine.get().query_over(source.node, source.query, source.columns, scan)


def _followed(hint: str, again: str) -> str:
    """Return a hint with the command that comes after it."""
    hint = hint.removesuffix(", then run again").removesuffix(", then try again")
    if not hint:
        return again
    if hint in ("try again", "try again later"):
        return f"{hint}: {again}"
    if hint.endswith("?"):
        return f"{hint} Then: {again}"
    # What is no request stands apart from the command.
    joint = "; then: " if hint.startswith(("it ", "the ")) else ", then: "
    return f"{hint}{joint}{again}"


def _placed(error: EngineError, node: AnyNode) -> str:
    """Return where in the project's files the SQL is wrong, where it is SQL."""
    if not isinstance(node, SqlNode):
        return error.message
    return error.placed(node.sql_location.file, node.sql_location.line)


def damaged_source(session: Session, id: str) -> DamagedSource:
    """Return the error for a source whose stored rows were damaged on the disk."""
    return DamagedSource(
        f"the stored rows of {id} were damaged on the disk; nothing of them was used",
        f"read the source again: {session.rerun(id)}",
    )


def missing_snapshot(session: Session, id: str) -> EngineError:
    """Say that an input outside the selection is not stored any more."""
    return EngineError(
        f"the stored output of {id} is gone", f"select it too: {session.rerun(f'+{id}')}"
    )
