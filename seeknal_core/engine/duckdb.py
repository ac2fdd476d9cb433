"""DuckDB as the engine.

One instance a command, which can read the snapshot store and its scratch folder
and nothing else; a cursor a node, whose views nobody else sees. A stranger's SQL
gets an instance for each node, which can read that node's inputs alone, in a process of
its own where the system can close files to it (`walled`). Files of
sources are read by another instance that runs no user's SQL. Time zone is UTC
in all, so that a result doesn't depend on the machine.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from seeknal_core.contract.errors import ConfigError, EngineError, Interrupted, Problem
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Cancellation, Scan, Snapshot
from seeknal_core.engine import (
    audits,
    failures,
    landlock,
    parquet,
    python,
    quoting,
    rowdigest,
    statements,
    streaming,
)
from seeknal_core.engine.columns import is_declared, projection, stored_columns
from seeknal_core.engine.disk import disk_guard
from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.engine.names import name_nodes, short_names
from seeknal_core.engine.protocol import AuditOutcome, NodeVariables, Output
from seeknal_core.engine.snapshots import Staging
from seeknal_core.engine.sources.load import Translated, read_files
from seeknal_core.engine.walled import Walls
from seeknal_core.files.own import make_folder
from seeknal_core.project.specs import AnyNode, EngineSettings, PythonNode, SourceNode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH_ROWS = 65_536
#: Memory for reading files, of which every thread keeps a few row groups.
_FILES_BYTES, _FILES_BYTES_A_THREAD = 320 * 2**20, 64 * 2**20


class _Cramped(Exception):
    """Files need more memory than reading them is given at first."""


class DuckDBEngine:
    """The `Engine` that DuckDB makes. Open it with `seeknal_core.engine.open_engine`."""

    def __init__(
        self,
        settings: EngineSettings,
        project_root: Path,
        snapshot_root: Path,
        scratch: Path,
        cancellation: Cancellation,
        *,
        untrusted: bool = False,
        walled: bool = True,
    ) -> None:
        self._settings = settings
        self._untrusted = untrusted
        self._walls: Walls | None = None
        self._spill: Path | None = None
        self._spill_lock = threading.Lock()
        self._project_root = project_root
        self._snapshot_root = snapshot_root.resolve()
        self._scratch = scratch.resolve()
        self._cancellation = cancellation
        self._lock = threading.Lock()
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._closed = False
        self._file_reader: duckdb.DuckDBPyConnection | None = None
        self._streamer: duckdb.DuckDBPyConnection | None = None
        with disk_guard():
            make_folder(self._scratch)
            make_folder(self._snapshot_root)
        self._instance = self._open()
        self._close_files(self._instance, (self._snapshot_root, self._scratch))
        self._forget = cancellation.on_request(self._start_interrupting)
        if untrusted and walled and landlock.version():
            self._walls = Walls(
                settings=settings,
                project_root=project_root,
                snapshot_root=self._snapshot_root,
                scratch=self._scratch,
                cancellation=cancellation,
            )

    def compute_sql(
        self,
        node: str,
        statements: Sequence[str],
        inputs: Mapping[str, Snapshot],
        staging: Staging,
    ) -> Output:
        """See `Engine`.

        A query that only passes rows on gets as little memory as files do: DuckDB would
        keep as many rows as its limit allows, to write them in their order.
        """
        checked = _check(node, statements, inputs)
        if self._walls is not None:
            return self._walls.compute_sql(node, statements, inputs, staging)
        if self._settings.memory_limit is None and len(checked) == 1 and streaming.is_large(inputs):
            output = self._streamed(node, checked[0], inputs, staging)
            if output is not None:
                return output
        with (
            self._reading(inputs, staging) as instance,
            self.cursor(instance) as cursor,
            disk_guard(node),
        ):
            self._name_inputs(node, cursor, inputs)
            for statement in checked[:-1]:
                with self.translated(node, lines_before=statement.lines_before):
                    cursor.execute(statement.text).complete()
            last = checked[-1]
            if last.many:
                with self.translated(node, lines_before=last.lines_before):
                    relation = cursor.sql(last.text)
                    return parquet.copy_relation(node, relation, staging)
            with self.translated(
                node, wrapper_lines=parquet.WRAPPER_LINES, lines_before=last.lines_before
            ):
                return parquet.copy_query(node, cursor, last.text, staging)

    def _streamed(
        self,
        node: str,
        statement: statements.Statement,
        inputs: Mapping[str, Snapshot],
        staging: Staging,
    ) -> Output | None:
        """Compute a query in little memory, if it only passes rows on; else return None."""
        if statement.many:
            return None
        with (
            self._reading(inputs, staging, limited=True) as instance,
            self.cursor(instance) as cursor,
            disk_guard(node),
        ):
            self._name_inputs(node, cursor, inputs)
            if not streaming.only_passes_rows_on(cursor, statement.text):
                return None
            with self.translated(
                node, wrapper_lines=parquet.WRAPPER_LINES, lines_before=statement.lines_before
            ):
                try:
                    return parquet.copy_query(node, cursor, statement.text, staging)
                except duckdb.OutOfMemoryException:  # some rows are larger than that
                    for path in staging.files():
                        path.unlink()
                    return None

    def compute_python(
        self,
        node: PythonNode,
        inputs: Mapping[str, Snapshot],
        staging: Staging,
        variables: NodeVariables,
    ) -> Output:
        """See `Engine`."""
        with self.cursor() as cursor:
            self._name_inputs(node.id, cursor, inputs)
            context = python.NodeContext(
                node=node.id,
                inputs=tuple(inputs),
                cursor=cursor,
                variables=variables,
                cancellation=self._cancellation,
            )
            with self.translated(node.id):
                return python.compute(
                    node, context, staging, self._cancellation, self._project_root
                )

    def store_stream(
        self,
        node: str,
        reader: pa.RecordBatchReader,
        staging: Staging,
        *,
        max_rows: int | None,
        max_bytes: int | None,
    ) -> Output:
        """See `Engine`."""
        return parquet.write_stream(
            node, reader, staging, self._cancellation, max_rows=max_rows, max_bytes=max_bytes
        )

    @contextlib.contextmanager
    def query_over(
        self, node: str, sql: str, columns: Sequence[str] | None, scan: Scan
    ) -> Iterator[pa.RecordBatchReader]:
        """See `Engine`. In an instance of its own, which reaches no files."""
        from seeknal_core.engine.querying import query_over

        with contextlib.closing(self._open()) as instance:
            instance.execute("SET enable_external_access = false")
            instance.execute("SET lock_configuration = true")
            with (
                self.cursor(instance) as cursor,
                disk_guard(node),
                query_over(node, sql, columns, scan, cursor, self.translated) as reader,
            ):
                yield reader

    def read_files(self, source: SourceNode, files: ResolvedFiles, staging: Staging) -> Output:
        """See `Engine`.

        DuckDB writes rows in their order by keeping as many of them as its limit allows.
        Without a limit of the user's it gets a small one, and all memory where some rows
        need more than that.
        """
        with self._lock:
            if self._file_reader is None:
                self._file_reader = self._open(limited=True)
            instance = self._file_reader
        if self._settings.memory_limit is not None:
            return self._read_files(instance, source, files, staging, self.translated)
        try:
            return self._read_files(instance, source, files, staging, self._translated_or_cramped)
        except _Cramped:
            for path in staging.files():
                path.unlink()
        with contextlib.closing(self._open()) as roomy:
            return self._read_files(roomy, source, files, staging, self.translated)

    def _read_files(
        self,
        instance: duckdb.DuckDBPyConnection,
        source: SourceNode,
        files: ResolvedFiles,
        staging: Staging,
        translated: Translated,
    ) -> Output:
        with self.cursor(instance) as cursor, disk_guard(source.id):
            return read_files(source, files, staging, cursor, translated)

    def digest(self, files: Sequence[Path]) -> str:
        """See `Engine`."""
        with self.cursor() as cursor, self.translated("digest"):
            return rowdigest.of_rows(cursor, files)

    def former_digest(self, files: Sequence[Path]) -> str:
        """See `Engine`."""
        with self.cursor() as cursor, self.translated("digest"):
            return rowdigest.former(cursor, files)

    def run_audits(
        self, node: AnyNode, snapshot: Snapshot, related: Mapping[str, Snapshot]
    ) -> tuple[AuditOutcome, ...]:
        """See `Engine`."""
        if self._walls is not None:
            return self._walls.run_audits(node.id, node.audits, snapshot, related)
        snapshots = {**related, node.id: snapshot}
        with self._reading(snapshots) as instance, self.cursor(instance) as cursor:
            self._name_inputs(node.id, cursor, snapshots)
            _name_shortly(cursor, snapshots)
            cursor.execute(
                f"CREATE TEMP VIEW __THIS__ AS SELECT * FROM {quoting.identifier(node.id)}"
            )
            return tuple(
                audits.run(node, audit, snapshot, snapshots, cursor, self.translated)
                for audit in node.audits
            )

    def check_columns(self, node: AnyNode, snapshot: Snapshot) -> tuple[str, ...]:
        """See `Engine`."""
        found = {field.name.casefold(): field for field in snapshot.schema}
        messages = []
        for column in node.columns:
            field = found.get(column.name.casefold())
            if field is None:
                guess = nearest_column(column.name, snapshot)
                messages.append(f"declared column {column.name!r} is missing{guess}")
            elif column.dtype is not None and not is_declared(column.dtype, field.type):
                messages.append(
                    f"column {column.name!r} is declared {column.dtype} and is {field.type}"
                )
        return tuple(messages)

    def newest(self, snapshot: Snapshot, column: str) -> datetime | None:
        """See `Engine`. A time without zone is taken as UTC; text is read as a time."""
        with self.cursor() as cursor, self.translated(snapshot.node):
            if column.casefold() not in {name.casefold() for name in snapshot.schema.names}:
                raise EngineError(
                    f"{snapshot.node}: there is no column {column!r}"
                    f"{nearest_column(column, snapshot)}",
                    "name an existing column under freshness: column",
                )
            found = cursor.execute(
                f"SELECT epoch_us(max(CAST({quoting.identifier(column)} AS TIMESTAMPTZ)))"
                f" FROM {quoting.snapshot(snapshot.files)}"
            ).fetchone()
        if found is None or found[0] is None:
            return None
        try:
            return _EPOCH + timedelta(microseconds=found[0])
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)

    def query(self, sql: str, snapshots: Mapping[str, Snapshot]) -> pa.RecordBatchReader:
        """See `Engine`. The reader holds a cursor until it is read to its end or closed."""
        sql = name_nodes(sql, snapshots)
        checked = _check("query", [sql], [*snapshots, *short_names(snapshots)])
        selects = sum(statement.selects for statement in checked)
        if selects > 1:
            raise EngineError(
                f"query: there are {selects} SELECTs, and only one can be answered",
                "write one SELECT a command",
            )
        stack = contextlib.ExitStack()
        instance = stack.enter_context(self._reading(snapshots))
        cursor = stack.enter_context(self.cursor(instance))
        try:
            self._name_inputs("query", cursor, snapshots)
            _name_shortly(cursor, snapshots)
            for statement in checked[:-1]:
                with self.translated("query", lines_before=statement.lines_before):
                    cursor.execute(statement.text)
            with self.translated("query", wrapper_lines=1, lines_before=checked[-1].lines_before):
                relation = parquet.bind(cursor, checked[-1].text)
                columns = stored_columns("query", relation.columns, relation.types)
                cast = projection(columns)
                relation = relation.project(cast) if cast else relation
                reader = relation.to_arrow_reader(_BATCH_ROWS)
        except BaseException:
            stack.close()
            raise

        def batches() -> Iterator[pa.RecordBatch]:
            with stack, self.translated("query"):
                yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    def close(self) -> None:
        """See `Engine`."""
        self._forget()
        with self._lock:
            self._closed = True
            running = list(self._running)
        for cursor in running:
            cursor.interrupt()
        self._instance.close()
        for instance in (self._file_reader, self._streamer):
            if instance is not None:
                instance.close()
        if self._spill is not None:
            shutil.rmtree(self._spill, ignore_errors=True)

    @contextlib.contextmanager
    def cursor(
        self, instance: duckdb.DuckDBPyConnection | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Return a private cursor that a request to stop interrupts."""
        self._cancellation.check()
        with self._lock:
            cursor = (instance or self._instance).cursor()
            self._running.add(cursor)
        try:
            yield cursor
        finally:
            with self._lock:
                self._running.discard(cursor)
            cursor.close()

    @contextlib.contextmanager
    def translated(
        self, node: str, *, wrapper_lines: int = 0, lines_before: int = 0
    ) -> Iterator[None]:
        """Turn DuckDB's errors into ours; see `failures.translate`."""
        try:
            yield
        except duckdb.Error as error:
            if self._cancellation.requested:
                raise Interrupted("stopped by the user") from None
            raise failures.translate(
                error,
                node,
                wrapper_lines=wrapper_lines,
                lines_before=lines_before,
                hide=(self._snapshot_root, self._scratch),
            ) from None

    @contextlib.contextmanager
    def _translated_or_cramped(self, node: str) -> Iterator[None]:
        with self.translated(node):
            try:
                yield
            except duckdb.OutOfMemoryException as error:
                raise _Cramped from error

    @contextlib.contextmanager
    def _reading(
        self,
        inputs: Mapping[str, Snapshot],
        staging: Staging | None = None,
        *,
        limited: bool = False,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Return the instance for SQL over `inputs`: of a stranger's SQL, one of its own."""
        if not self._untrusted:
            yield self._shared_streamer() if limited else self._instance
            return
        folder = Path(tempfile.mkdtemp(prefix="node-", dir=self._scratch))
        try:
            with contextlib.closing(self._open(limited=limited, spill=folder)) as instance:
                files = [file for snapshot in inputs.values() for file in snapshot.files]
                self._close_files(instance, (staging.path,) if staging else (), files)
                yield instance
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _shared_streamer(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._streamer is None:
                self._streamer = self._open(limited=True)
                self._close_files(self._streamer, (self._snapshot_root, self._scratch))
            return self._streamer

    def _open(
        self, *, limited: bool = False, spill: Path | None = None
    ) -> duckdb.DuckDBPyConnection:
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "temp_directory": str(spill or self._temp_directory()),
        }
        if self._settings.memory_limit is not None:
            config["memory_limit"] = self._settings.memory_limit
        if self._settings.threads is not None:
            config["threads"] = self._settings.threads
        try:
            instance = duckdb.connect(config=config)
            instance.execute("SET GLOBAL TimeZone = 'UTC'")
            if limited and self._settings.memory_limit is None:
                limit = max(_FILES_BYTES, _FILES_BYTES_A_THREAD * self._threads(instance))
                instance.execute(f"SET memory_limit = '{limit}B'")
        except duckdb.Error as error:
            raise ConfigError(
                [Problem(str(error).splitlines()[0], path="engine")],
                "write e.g. engine: {name: duckdb, memory_limit: 4GB, threads: 4}",
            ) from None
        return instance

    @staticmethod
    def _threads(instance: duckdb.DuckDBPyConnection) -> int:
        found = instance.execute("SELECT current_setting('threads')").fetchone()
        return int(found[0]) if found else 1

    def _temp_directory(self) -> Path:
        """Return a folder of the engine's own: SQL could read all that is in it."""
        if self._settings.temp_directory is None:
            return self._scratch / "spill"
        with self._spill_lock:
            if self._spill is None:
                above = (self._project_root / self._settings.temp_directory).resolve()
                try:
                    above.mkdir(parents=True, exist_ok=True)
                    self._spill = Path(tempfile.mkdtemp(prefix="seeknal-spill-", dir=above))
                except OSError as error:
                    raise ConfigError(
                        [Problem(f"{above}: {error.strerror}", path="engine.temp_directory")],
                        "name a folder that can be written",
                    ) from None
            return self._spill

    @staticmethod
    def _close_files(
        instance: duckdb.DuckDBPyConnection, folders: Iterable[Path], files: Iterable[str] = ()
    ) -> None:
        """Leave some folders and files readable, and fix the settings."""
        names = [f"{folder.resolve()}/" for folder in folders]
        for setting, paths in (("directories", names), ("paths", list(files))):
            # As the tables name them, and as DuckDB names the files that it finds.
            allowed = quoting.texts(dict.fromkeys([*map(quoting.literal_path, paths), *paths]))
            instance.execute(f"SET allowed_{setting} = {allowed}")
        instance.execute("SET enable_external_access = false")
        instance.execute("SET lock_configuration = true")

    def _name_inputs(
        self,
        node: str,
        cursor: duckdb.DuckDBPyConnection,
        inputs: Mapping[str, Snapshot],
    ) -> None:
        with self.translated(node):
            for id, snapshot in inputs.items():
                cursor.execute(
                    f"CREATE TEMP VIEW {quoting.identifier(id)} AS"
                    f" SELECT * FROM {quoting.snapshot(snapshot.files)}"
                )

    def _start_interrupting(self) -> None:
        threading.Thread(target=self._interrupt_all, daemon=True).start()

    def _interrupt_all(self) -> None:
        """Interrupt until nothing runs: one that hits between two statements is lost."""
        while True:
            with self._lock:
                if self._closed or not self._running:
                    return
                for cursor in self._running:
                    with contextlib.suppress(duckdb.Error):
                        cursor.interrupt()
            time.sleep(0.05)


def nearest_column(name: str, snapshot: Snapshot) -> str:
    """Return ``, did you mean …?`` for a column that isn't there, or an empty string."""
    guess = nearest(name, snapshot.schema.names)
    return f", {guess}" if guess else ""


def _check(
    node: str, sql: Sequence[str], tables: Iterable[str]
) -> tuple[statements.Statement, ...]:
    return statements.check(node, sql, tables)


def _name_shortly(cursor: duckdb.DuckDBPyConnection, snapshots: Mapping[str, Snapshot]) -> None:
    """Name each snapshot by its node's bare name too, where only one has it."""
    for name, id in short_names(snapshots).items():
        cursor.execute(
            f"CREATE TEMP VIEW IF NOT EXISTS {quoting.identifier(name)} AS"
            f" SELECT * FROM {quoting.identifier(id)}"
        )
