"""The columns that nodes will give, as far as they can be known before they are computed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seeknal_core.errors import SeeknalError
from seeknal_core.run.session import Session
from seeknal_core.specs import SqlNode
from seeknal_core.types import Snapshot, read_schema

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.engine.snapshots import SnapshotStore


class Shapes:
    """Gives the columns of nodes: of what is stored, or of SQL over inputs without rows.

    Args:
        keys: the content keys of nodes, as far as they are known.
    """

    def __init__(self, session: Session, store: SnapshotStore, keys: Mapping[str, str]) -> None:
        self._session = session
        self._store = store
        self._keys = keys
        self._known: dict[str, pa.Schema | None] = {}

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

    def _find(self, id: str) -> pa.Schema | None:
        key = self._keys.get(id)
        snapshot = self._store.find(id, key) if key is not None else None
        if snapshot is not None:
            return snapshot.schema
        node = self._session.graph.nodes[id]
        inputs = {input: self._known[input] for input in self._session.graph.inputs[id]}
        if not isinstance(node, SqlNode) or any(schema is None for schema in inputs.values()):
            return None
        try:
            return self._computed(node, {k: v for k, v in inputs.items() if v is not None})
        except SeeknalError:
            return None  # What is wrong with it, the run says.

    def _computed(self, node: SqlNode, inputs: Mapping[str, pa.Schema]) -> pa.Schema:
        """Run a node's SQL over its inputs' columns, without a row."""
        import pyarrow.parquet as pq

        from seeknal_core.engine import open_engine
        from seeknal_core.engine.snapshots import Staging
        from seeknal_core.graph import render

        rendered = render(node, self._session.graph.inputs[node.id], self._session.variables)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            (folder / "staged").mkdir()
            empty = {}
            for number, (id, schema) in enumerate(inputs.items()):
                path = folder / f"{number}.parquet"
                pq.write_table(schema.empty_table(), path, store_decimal_as_integer=True)
                empty[id] = Snapshot(node=id, content_key="", row_count=0, files=(str(path),))
            engine = open_engine(
                self._session.settings.engine,
                project_root=Path(self._session.settings.root),
                snapshot_root=folder,
                scratch=folder / "scratch",
                cancellation=self._session.context.cancellation,
            )
            try:
                staging = Staging(path=folder / "staged")
                engine.compute_sql(node.id, rendered.placed(), empty, staging)
            finally:
                engine.close()
            return read_schema(staging.files()[0])
