"""Asking an environment's stored outputs, by node name; no store is asked."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Cancellation, Snapshot
from seeknal_core.files.layout import Layout
from seeknal_core.files.own import make_folder
from seeknal_core.project.specs import ProjectSettings
from seeknal_core.project.trust import Trust
from seeknal_core.state.open import open_state
from seeknal_core.state.records import EnvironmentRecord

_NO_TABLE = re.compile(
    r'Table with name "?(?P<bare>[^"\s]+?)"? does not exist'
    r"|'(?P<id>(?:source|transform)\.[^'/\\]+)' is not an input"
)

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.engine import Engine
    from seeknal_core.engine.snapshots import SnapshotStore


@contextlib.contextmanager
def opened(
    settings: ProjectSettings, cancellation: Cancellation, trust: Trust
) -> Iterator[tuple[Engine, SnapshotStore]]:
    """Open the engine and the stored outputs; nobody removes any of them meanwhile."""
    from seeknal_core.engine import open_engine
    from seeknal_core.engine.snapshots import SnapshotStore

    layout = Layout.of_project(Path(settings.root))
    store = SnapshotStore(layout.snapshots, open_state(Path(settings.root)))
    with store.shared_lock(), _scratch(layout.scratch) as scratch:
        engine = open_engine(
            settings.engine,
            project_root=Path(settings.root),
            snapshot_root=store.root,
            scratch=scratch,
            cancellation=cancellation,
            untrusted=trust.untrusted,
        )
        try:
            yield engine, store
        finally:
            engine.close()


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Return the engine a folder to write into, below `folder` where that can be written.

    Somebody who may only read the project keeps nothing in it.
    """
    try:
        make_folder(folder)
        made = Path(tempfile.mkdtemp(prefix="query-", dir=folder))
    except OSError:
        made = Path(tempfile.mkdtemp(prefix="seeknal-query-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def snapshots_of(
    store: SnapshotStore, record: EnvironmentRecord, ids: Iterable[str]
) -> dict[str, Snapshot]:
    """Return what is stored of some nodes of an environment.

    Raises:
        EngineError: a node's output is gone, or was never stored.
    """
    found: dict[str, Snapshot] = {}
    for id in ids:
        snapshot = store.find(id, record.nodes[id].content_key, verify=True)
        if snapshot is None:
            raise EngineError(
                f"the stored output of {id} in {record.name!r} is gone",
                f"seeknal run --env {record.name}",
            )
        found[id] = snapshot
    return found


def named_in(sql: str, record: EnvironmentRecord) -> list[str]:
    """Return the nodes whose name occurs in a query; the engine decides what it means."""
    text = sql.casefold()
    return [id for id in record.nodes if id.partition(".")[2].casefold() in text]


def _hint(error: EngineError, name: str) -> str:
    """Return what is advised to whoever asks a question, not to the writer of a node."""
    if "is not allowed" in error.message or "would be seen" in error.message:
        return "a query only reads: write one SELECT"
    if "there is no SQL" in error.message:
        return "write one SELECT"
    if "is not an input" in error.message or "cannot read files" in error.message:
        return f"name nodes; they are listed by: seeknal env show {name}"
    return error.hint


def query(
    engine: Engine, store: SnapshotStore, record: EnvironmentRecord, sql: str
) -> pa.RecordBatchReader:
    """Answer one SELECT over an environment's stored outputs.

    Raises:
        EngineError: the SQL is wrong, or names no node.
    """
    try:
        return engine.query(sql, snapshots_of(store, record, named_in(sql, record)))
    except EngineError as error:
        missing = _NO_TABLE.search(error.message)
        if missing is None:
            hint = _hint(error, record.name)
            raise EngineError(error.message, hint, line=error.line) from None
        short = [id.partition(".")[2] for id in record.nodes]
        hint = nearest(missing["bare"] or missing["id"], [*record.nodes, *short]) or (
            f"only what has run is stored: seeknal run --env {record.name}"
        )
        raise EngineError(error.message, hint, line=error.line) from None
