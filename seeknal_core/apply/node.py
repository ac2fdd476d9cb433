"""How one node's snapshot comes to be: found under its key, or computed into the store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import AuditFailed, DamagedOutput, DamagedSource, EngineError
from seeknal_core.contract.types import Snapshot, SourceStream
from seeknal_core.engine.protocol import ROWS_FORM
from seeknal_core.plan import keys
from seeknal_core.plan.bindings import seen_binding, source_binding
from seeknal_core.plan.decide import is_assumed_unchanged, no_proof, rows
from seeknal_core.plan.former_keys import FormerKeys
from seeknal_core.plan.proofs import Proof, Prover
from seeknal_core.plugins.resolved import ResolvedSource
from seeknal_core.project.specs import (
    AnyNode,
    Freshness,
    PythonNode,
    Severity,
    SourceNode,
    SqlNode,
)
from seeknal_core.state.records import NodeRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.engine import Engine
    from seeknal_core.engine.files.find import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore, Staging


#: How often a file source is read again because it changed meanwhile.
_TRIES = 3
#: Seconds that a refused command waits for a reading that it has asked to stop.
_STOPPING = 2.0


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
        self._remove_scratch()
        self._engine: Engine | None = None
        self._engine_lock = threading.Lock()
        self._recorded = recorded or {}
        self._repairing = threading.RLock()
        self._computed: dict[str, tuple[Mapping[str, Snapshot], NodeRecord | None]] = {}
        self._ahead: dict[str, Future[Computed]] = {}
        self._settled: dict[str, Computed] = {}
        self._former = FormerKeys(session, self._former_source)
        self._contents: dict[str, _Content] = {}

    @property
    def scratch(self) -> Path:
        """A folder for what lives no longer than the run.

        It is the environment's, whose lock is held: what is there already, a
        command that was killed has left.
        """
        return self._session.layout.scratch_of(self._session.environment.name)

    def engine(self) -> Engine:
        """Open the engine when the first node needs it."""
        with self._engine_lock:
            if self._engine is None:
                from seeknal_core.engine import open_engine

                self._engine = open_engine(
                    self._session.settings.engine,
                    project_root=Path(self._session.settings.root),
                    snapshot_root=self._store.root,
                    scratch=self.scratch,
                    cancellation=self._session.context.cancellation,
                    untrusted=self._session.trust.untrusted,
                )
            return self._engine

    def close(self) -> None:
        """Close the engine and remove what only this run needed."""
        if self._engine is not None:
            self._engine.close()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        import shutil

        shutil.rmtree(self.scratch, ignore_errors=True)

    @contextlib.contextmanager
    def reading_ahead(self, order: Iterable[str]) -> Iterator[None]:
        """Begin to read files, which no store has a say in, while the block asks the stores.

        `compute` takes what was read. A block that fails ends the reading.

        Args:
            order: ids of nodes that will be computed.
        """
        nodes = self._session.graph.nodes
        files = [nodes[id] for id in order if id not in self._sources]
        readings = [(node, Future[Computed]()) for node in files if isinstance(node, SourceNode)]
        self._ahead = {node.id: reading for node, reading in readings}
        if readings:
            # A daemon, since nothing can stop the digesting of a large file, and nobody should wait.
            threading.Thread(target=self._read_ahead, args=(readings,), daemon=True).start()
        try:
            yield
        except BaseException:
            self._session.context.cancellation.request()
            for reading in self._ahead.values():
                reading.cancel()
            wait(self._ahead.values(), timeout=_STOPPING)
            raise

    def _read_ahead(self, readings: Sequence[tuple[SourceNode, Future[Computed]]]) -> None:
        for node, reading in readings:
            if not reading.set_running_or_notify_cancel():
                continue
            try:
                reading.set_result(self._file_source(node))
            except BaseException as error:  # noqa: BLE001 - raised again where it is asked for
                reading.set_exception(error)

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
                ahead = self._ahead.pop(node.id, None)
                if ahead is not None and not ahead.cancel():
                    return ahead.result()
                return self._file_source(node)

    def _sql(self, node: SqlNode, inputs: Mapping[str, Snapshot]) -> Computed:
        from seeknal_core.graph import render

        rendered = render(node, self._session.graph.inputs[node.id], self._session.variables)
        read = {id: inputs[id].content_key for id in self._session.graph.inputs[node.id]}
        self._prover.note(node.id, read)

        def key_over(inputs: Sequence[str]) -> str:
            return keys.sql_key(self._session, node, rendered.tokens, inputs)

        key = key_over(list(read.values()))
        self._former.note(node.id, read, key_over)
        return self._stored_or(
            node.id,
            key,
            lambda staging: self._over(
                inputs,
                lambda given: self.engine().compute_sql(node.id, rendered.placed(), given, staging),
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
            if again.content_key != key:
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
        self._former.note(node.id, read, key_over)
        return self._stored_or(
            node.id,
            key,
            lambda staging: self._over(
                inputs,
                lambda given: self.engine().compute_python(
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
        computed = self._by_content(
            node.id,
            "python",
            lambda staging: self.engine().compute_python(
                node, {}, staging, self._session.variables
            ),
            held,
        )
        return attrs.evolve(computed, binding=keys.local_binding(self._session, node))

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

    def _file_source(self, node: SourceNode) -> Computed:
        """Read files under the key of just the bytes that were read."""
        from seeknal_core.engine.files.find import check_bytes, check_rows

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
                notes = self.engine().read_files(read.source, read.files, staging).notes
                if self._unchanged(node, read):
                    key = read.content_key
                    snapshot = self._store.commit(staging, node.id, key, "", notes)
                    return Computed(snapshot=snapshot, reused=False, binding=binding, notes=notes)
        raise EngineError(
            f"{node.id}: its files change while they are read",
            "wait until they are complete",
        )

    def _unchanged(self, node: SourceNode, read: keys.FileRead) -> bool:
        """Tell whether the files are still what they were when the key was made."""
        if keys.is_remote(node):
            # What was read is our own copy, and that was digested.
            return True
        again = keys.file_read(self._session, node, self._digests, self.scratch)
        return again.content_key == read.content_key

    def _store_source(
        self, node: SourceNode, resolved: ResolvedSource, held: NodeRecord | None
    ) -> Computed:
        from seeknal_core.engine.files.find import check_rows

        binding = source_binding(resolved)
        assumed = self._assumed_unchanged(node, binding, held)
        if assumed is not None:
            return assumed
        read_at = datetime.now(UTC).isoformat(timespec="seconds")
        asked = keys.asked_of(resolved.source)
        with self._session.dispatcher.read_source(self._session.context, resolved) as stream:

            def store(staging: Staging) -> object:
                with self._opened(resolved, stream) as reader:
                    return self.engine().store_stream(
                        node.id,
                        reader,
                        staging,
                        max_rows=node.max_rows,
                        max_bytes=node.max_bytes,
                    )

            if stream.version is not None:
                read = {"identity": stream.identity, "version": stream.version, "asked": asked}
                key = keys.stream_key(self._session, node.id, read)
                computed = self._stored_or(node.id, key, store)
            else:
                computed = self._by_content(node.id, stream.identity, store, held, asked)
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
        return self.engine().query_over(source.node, source.query, source.columns, scan)

    def _assumed_unchanged(
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

    def _stored_or(
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

    def _by_content(
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
                content = self.engine().digest(staging.files())
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
        former = key_of(self.engine().former_digest(staging.files()))
        stored = self._store.find(node_id, former, verify=True)
        if stored is None:
            # Its rows are gone, and its key is all that is known of them.
            return former if former == held.content_key else key
        files = [Path(file) for file in stored.files]
        if self.engine().digest(files) != content:
            return key
        self._store.alias(key, stored.content_key, "the same rows, digested in another way")
        return key

    def former_keys(self, id: str, snapshot: Snapshot) -> tuple[str, ...]:
        """Return what earlier versions called a node's rows, where that differs."""
        key = self._former.of(id, snapshot.content_key)
        return (key,) if key != snapshot.content_key else ()

    def _former_source(self, id: str) -> str | None:
        """Return the key that an earlier version gave to rows that are named by what they are."""
        read = self._contents.get(id)
        if read is None:
            return None
        files = [Path(file) for file in self.sound(id, read.snapshot).files]
        digest = self.engine().former_digest(files)
        return keys.stream_key(
            self._session,
            id,
            {"identity": read.identity, "digest": digest, "asked": read.asked},
        )

    def check(self, node: AnyNode, snapshot: Snapshot, related: Mapping[str, Snapshot]) -> bool:
        """Hold a node's output to its declared columns, freshness and audits.

        Returns:
            Whether there was nothing to warn about.

        Raises:
            AuditFailed: something of severity ``error`` failed; all failures are named.
        """
        failures: list[str] = []
        warnings: list[str] = []
        aging = isinstance(node, SourceNode) and node.freshness is not None
        if node.columns or node.audits or aging:
            snapshot = self.sound(node.id, snapshot)
            related = self._all_sound(related) if node.audits else related
        if node.columns:
            messages = self.engine().check_columns(node, snapshot)
            (failures if node.contract else warnings).extend(messages)
        if isinstance(node, SourceNode) and node.freshness is not None:
            failures += self._freshness(node, node.freshness, snapshot, warnings)
        if node.audits:
            for outcome in self.engine().run_audits(node, snapshot, related):
                if not outcome.passed:
                    severe = outcome.audit.severity is Severity.ERROR
                    (failures if severe else warnings).append(outcome.message)
        for message in warnings:
            self._warn(f"{node.id}: {message}")
        if failures:
            raise AuditFailed(
                "; ".join(failures),
                f"look at the rows, fix them or the node, then: {self._session.rerun(node.id)}",
            )
        return not warnings

    def _freshness(
        self, node: SourceNode, freshness: Freshness, snapshot: Snapshot, warnings: list[str]
    ) -> list[str]:
        """Return what is too old; what is merely getting old goes to `warnings`."""
        column = freshness.column
        if column is not None:
            newest = self.engine().newest(snapshot, column)
            said = f"freshness: newest {column} is"
            if newest is None:
                return [f"freshness: no value in {column}"]
        elif node.id in self._sources or keys.is_remote(node):
            warnings.append("freshness: needs a column, only local files have an age")
            return []
        else:
            files = keys.file_read(self._session, node, self._digests, self.scratch).files
            newest = datetime.fromtimestamp(max(f.stat().st_mtime for f in files.files), UTC)
            said = "freshness: newest file is of"
        if newest.tzinfo is None:
            newest = newest.replace(tzinfo=UTC)
        age = datetime.now(UTC) - newest
        said += f" {newest:%Y-%m-%d %H:%M} UTC"
        if freshness.error_after is not None and age > freshness.error_after:
            return [f"{said}, older than error_after"]
        if freshness.warn_after is not None and age > freshness.warn_after:
            warnings.append(f"{said}, older than warn_after")
        return []


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
    """Say where in the project's files the SQL is wrong, where it is SQL."""
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
