"""The columns that nodes will give, as far as they can be known before they are computed."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.types import Snapshot, read_schema
from seeknal_core.plan import check_names as names
from seeknal_core.plan.describe import columns_of, own_definition
from seeknal_core.project.specs import SourceNode, SqlNode
from seeknal_core.state.manifest import Manifest
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.engine.binding import Binder, Columns
    from seeknal_core.engine.files.opened import ResolvedFiles
    from seeknal_core.engine.protocol import Engine
    from seeknal_core.engine.snapshots import SnapshotStore


#: Types that have one name each in Arrow and in the engine, and are stored as they are.
PLAIN = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "date32[day]": "DATE",
    "timestamp[us]": "TIMESTAMP",
    "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
}
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)|DECIMAL\((\d+),(\d+)\)")


class Shapes:
    """Gives the columns of nodes: of what is stored, or of SQL over inputs without rows.

    Nothing is computed for a node that is unchanged below inputs whose columns are.

    Args:
        keys: the content keys of nodes, as far as they are known.
        record, manifest: what the environment holds.
    """

    def __init__(
        self,
        session: Session,
        store: SnapshotStore,
        keys: Mapping[str, str],
        record: EnvironmentRecord,
        manifest: Manifest,
    ) -> None:
        self._session = session
        self._store = store
        self._keys = keys
        self._record = record
        self._manifest = manifest
        self._known: dict[str, pa.Schema | None] = {}
        self._same: dict[str, bool] = {}
        self._open = contextlib.ExitStack()
        self._engine: Engine | None = None
        self._binder: Binder | None = None
        self._folder = Path()

    def close(self) -> None:
        """Close the engine, if there was a need for one."""
        self._open.close()

    def is_same(self, id: str) -> bool:
        """Return whether a node's columns are those that are recorded of it."""
        for above in self._above(id):
            if above not in self._same:
                self._same[above] = self._compare(above)
        return self._same[id]

    def _compare(self, id: str) -> bool:
        held = self._manifest.get(id)
        if held is None:
            return False
        stored = self._stored(id, self._keys.get(id))
        if stored is None:
            unchanged = held.own == own_definition(self._session, id)
            source = isinstance(self._session.graph.nodes[id], SourceNode)
            inputs = self._session.graph.inputs[id]
            if unchanged and inputs and not source and all(self._same[each] for each in inputs):
                return True
            stored = self.of(id)
        return stored is not None and dict(held.columns) == columns_of(stored)

    def of(self, id: str) -> pa.Schema | None:
        """Return a node's columns; None where they are not known."""
        for above in self._above(id):
            if above not in self._known:
                self._known[above] = self._find(above)
        return self._known[id]

    def _above(self, id: str) -> list[str]:
        """Return a node and all that it needs, in the graph's order."""
        wanted, waiting = {id}, [id]
        while waiting:
            for input in self._session.graph.inputs[waiting.pop()]:
                if input not in wanted:
                    wanted.add(input)
                    waiting.append(input)
        return [each for each in self._session.graph.order if each in wanted]

    def _stored(self, id: str, key: str | None) -> pa.Schema | None:
        snapshot = self._store.find(id, key) if key is not None else None
        return snapshot.schema if snapshot is not None else None

    def _find(self, id: str) -> pa.Schema | None:
        found = self._stored(id, self._keys.get(id))
        if found is None and self._same.get(id) and id in self._record.nodes:
            found = self._stored(id, self._record.nodes[id].content_key)
        if found is not None:
            return found
        node = self._session.graph.nodes[id]
        inputs = {input: self._known[input] for input in self._session.graph.inputs[id]}
        known = {input: schema for input, schema in inputs.items() if schema is not None}
        if not isinstance(node, SqlNode) or len(known) < len(inputs):
            return None
        try:
            return self._bound(node, known) or self._computed(node, known)
        except SeeknalError:
            return None  # What is wrong with it, the run says.

    def _bound(self, node: SqlNode, inputs: Mapping[str, pa.Schema]) -> pa.Schema | None:
        """Ask the engine's binder, which takes a tenth of the time.

        Returns:
            None where a type of an input or of the node is not a plain one.
        """
        columns = {id: in_words(schema) for id, schema in inputs.items()}
        if None in columns.values():
            return None
        found = names.bound(self._session, self._open_binder, node, columns)
        return None if found is None else stored_as(found)

    def _open_binder(self) -> Binder:
        if self._binder is None:
            from seeknal_core.engine.binding import Binder

            self._binder = self._open.enter_context(contextlib.closing(Binder()))
        return self._binder

    def _computed(self, node: SqlNode, inputs: Mapping[str, pa.Schema]) -> pa.Schema:
        """Run a node's SQL over its inputs' columns, without a row."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from seeknal_core.engine.snapshots import Staging
        from seeknal_core.graph import render

        engine = self._opened()
        rendered = render(node, self._session.graph.inputs[node.id], self._session.variables)
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            empty = {}
            for number, (id, schema) in enumerate(inputs.items()):
                path = folder / f"{number}.parquet"
                # Not schema.empty_table(), which imports pandas where it is installed.
                empty_table = pa.Table.from_batches([], schema)
                pq.write_table(empty_table, path, store_decimal_as_integer=True)
                empty[id] = Snapshot(node=id, content_key="", row_count=0, files=(str(path),))
            (folder / "staged").mkdir()
            staging = Staging(path=folder / "staged")
            engine.compute_sql(node.id, rendered.placed(), empty, staging)
            return read_schema(staging.files()[0])

    def notes_of_files(self, source: SourceNode, files: ResolvedFiles) -> tuple[str, ...]:
        """Read a source's files, throw their rows away, and return what is to be said of them.

        Raises:
            SeeknalError: they can't be read.
        """
        from seeknal_core.engine.snapshots import Staging

        engine = self._opened()
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name) / "staged"
            folder.mkdir()
            return engine.read_files(source, files, Staging(path=folder)).notes

    def _opened(self) -> Engine:
        if self._engine is None:
            from seeknal_core.engine import open_engine

            name = self._open.enter_context(tempfile.TemporaryDirectory())
            self._folder = Path(name).resolve()
            self._engine = open_engine(
                self._session.settings.engine,
                project_root=Path(self._session.settings.root),
                snapshot_root=self._folder,
                scratch=self._folder / "scratch",
                cancellation=self._session.context.cancellation,
                untrusted=self._session.trust.untrusted,
            )
            self._open.callback(self._engine.close)
        return self._engine


def in_words(schema: pa.Schema) -> Columns | None:
    """Return columns with their types in the engine's words, None where one is not plain."""
    found = []
    for field in schema:
        kind = str(field.type)
        word = PLAIN.get(kind)
        if word is None and (decimal := _DECIMAL.fullmatch(kind)):
            word = f"DECIMAL({decimal[1]},{decimal[2]})"
        if word is None:
            return None
        found.append((field.name, word))
    return found


def stored_as(columns: Columns) -> pa.Schema | None:
    """Return columns as they are stored, None where a type is not a plain one."""
    import pyarrow as pa

    types = {
        "FLOAT": pa.float32(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
        "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC"),
    }
    types |= {word: pa.type_for_alias(name) for name, word in PLAIN.items() if word not in types}
    if len({name.casefold() for name, _ in columns}) < len(columns):
        return None
    fields = []
    for name, word in columns:
        kind = types.get(word or "")
        if kind is None and word and (decimal := _DECIMAL.fullmatch(word)):
            kind = pa.decimal128(int(decimal[3]), int(decimal[4]))
        if kind is None:
            return None
        fields.append(pa.field(name, kind, nullable=True))
    return pa.schema(fields)
