"""The reference backend's store, as somebody sees it who opens its file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from seeknal_core.testing import Outsider
from seeknal_core.testing.memory_store import Table, changing, load


class MemoryOutsider(Outsider):
    """Opens the store's file. Every table, stage and entry of the ledger is an object."""

    def __init__(self, path: Path, password: str | None = None) -> None:
        self._path = path
        self._password = password

    def read(self, parts: tuple[str, ...]) -> pa.Table | None:
        return load(self._path, self._password).rows(parts)

    def objects(self) -> frozenset[str]:
        store = load(self._path, self._password)
        return frozenset(
            f"{kind} {name}"
            for kind in ("tables", "namespaces", "stages", "generations")
            for name in getattr(store, kind)
        )

    def write(self, parts: tuple[str, ...], rows: pa.Table) -> None:
        with changing(self._path, self._password) as store:
            store.make_namespaces(parts, None)
            table = store.tables.get(parts)
            if table is None:
                store.tables[parts] = Table(rows=rows, made=False)
            else:
                more = pa.concat_tables([table.rows, rows], promote_options="permissive")
                kept = table.owner, table.made, table.appended
                owner, made, appended = kept
                store.tables[parts] = Table(rows=more, owner=owner, made=made, appended=appended)
