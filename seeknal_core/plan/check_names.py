"""``seeknal check``: names of tables and columns that are wrong for certain.

A node's columns are known from a Parquet or CSV file's own head, from a contract, from
what was stored of the same definition, or from SQL over inputs whose columns are known.
Where they are not, nothing is said.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from seeknal_core.contract.errors import ConfigError, EngineError, Problem, SeeknalError
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Location, problem_at
from seeknal_core.files.layout import Layout
from seeknal_core.plan import keys
from seeknal_core.plan.decide import has_rows_of
from seeknal_core.plan.keys import expanded_source, is_remote
from seeknal_core.project.places import Places
from seeknal_core.project.specs import FILE_TYPES, AnyNode, SourceNode, SqlNode
from seeknal_core.workspace.bindings import enabled_targets
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.binding import Binder, Columns

#: Params of CSV files that leave the first line the names of the columns.
_PLAIN_CSV = frozenset({
    "path", "delimiter", "delim", "header", "null", "decimal", "thousands", "date_format",
    "timestamp_format", "on_bad_rows", "sha256", "hive",
})  # fmt: skip
_HEAD_BYTES = 1_000_000
_DELIMITERS = (",", ";", "\t", "|")
#: ``day(c)``, ``bucket(16, c)``: what backends partition by beside plain columns.
_TRANSFORM = re.compile(r"\s*\w+\s*\(\s*(?:\d+\s*,\s*)?(.+?)\s*\)\s*")


def name_problems(session: Session) -> list[Problem]:
    """Find tables and columns that do not exist, in SQL, targets, audits and freshness."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def binder() -> Binder:
            # Imports what a check that remembers everything does not need.
            from seeknal_core.engine.binding import Binder

            return stack.enter_context(contextlib.closing(Binder()))

        return list(_problems(session, binder))


def _problems(session: Session, binder: Callable[[], Binder]) -> Iterator[Problem]:
    known: dict[str, Columns | None] = {}
    stored = _Stored(session)
    nodes, inputs = session.graph.nodes, session.graph.inputs

    @functools.cache
    def is_current(id: str) -> bool:
        """Whether the files that a node's rows come from are those that were read."""
        node = nodes[id]
        if isinstance(node, SourceNode) and node.type in FILE_TYPES:
            return stored.holds_files_of(node)
        return all(is_current(input) for input in inputs[id])

    def held(id: str) -> Columns | None:
        return stored.columns(nodes[id]) if is_current(id) else None

    for id in session.graph.order:
        node = nodes[id]
        if isinstance(node, SqlNode):
            try:
                known[id] = bound(session, binder, node, known) or held(id)
            except EngineError as error:
                known[id] = None
                place = node.sql_location
                line = place.line + max(error.line - 1, 0)
                yield Problem(error.message, place.file, line, path=id, hint=error.hint)
        elif isinstance(node, SourceNode) and node.type in FILE_TYPES:
            known[id] = _declared(node) or _of_file(session, node) or held(id)
        else:
            known[id] = _declared(node) or held(id)
    for node in session.graph.nodes.values():
        yield from _outside_sql(session, node, known)
        yield from _of_audits(session, binder, node, known)


def bound(
    session: Session,
    binder: Callable[[], Binder],
    node: SqlNode,
    known: Mapping[str, Columns | None],
) -> Columns | None:
    """Return the columns that a node's SQL gives, with their types in the engine's words.

    The answer is remembered by the SQL and the columns of its inputs.

    Args:
        binder: called where nothing is remembered.
        known: the columns of its inputs.

    Returns:
        None where they are not known.

    Raises:
        EngineError: a table or a column does not exist; with the line.
    """
    from seeknal_core.graph import render
    from seeknal_core.graph.texts import texts

    inputs = session.graph.inputs[node.id]
    try:
        rendered = render(node, inputs, session.variables)
    except ConfigError:
        return None  # Reported with the statements.
    columns = {id: known[id] for id in inputs}
    placed = rendered.placed()
    parts = ("bound columns", engine_version(), json.dumps([placed, list(columns.items())]))
    found = texts.recall(*parts)
    if found is None:
        found = [binder().bind(node.id, placed, columns, session.graph.nodes)]
        texts.remember(found, *parts)
    bound = found[0]
    return None if bound is None else [(name, kind) for name, kind in bound]


@functools.cache
def engine_version() -> str:
    """Return the engine's version, without importing it."""
    return version("duckdb")


def _declared(node: AnyNode) -> Columns | None:
    """Return the columns of a contract: it names them all."""
    if not node.contract or not node.columns:
        return None
    from seeknal_core.project.formats.declared import parse

    return [
        (column.name, None if column.dtype is None else parse(column.dtype).sql)
        for column in node.columns
    ]


def _of_file(session: Session, node: SourceNode) -> Columns | None:
    """Return the columns that the head of a source's first file names."""
    if is_remote(node) or node.type not in ("csv", "parquet"):
        return None
    from seeknal_core.engine.files.find import resolve_files
    from seeknal_core.engine.files.opened import open_checked
    from seeknal_core.engine.sources.hive import decided

    root = Path(session.settings.root)
    try:
        source = expanded_source(session, node)
        params = source.params
        hive = params.get("hive")
        files = resolve_files(source, root, root, places=session.places)
        by_path = decided(source, hive if isinstance(hive, bool) else None, files)
        if by_path or params.get("filename") or params.get("union_by_name"):
            return None
        if node.type == "csv":
            names = _csv_header(files.files[0], session.places, params)
        else:
            import pyarrow.parquet as pq

            with open(open_checked(files.files[0], session.places), "rb") as file:
                names = list(pq.read_schema(file).names)
    except (SeeknalError, OSError, ValueError):
        return None
    return [(name, None) for name in names] or None


def _csv_header(path: Path, places: Places, params: Mapping[str, object]) -> Sequence[str]:
    if params.keys() - _PLAIN_CSV or params.get("header") is False:
        return ()
    from seeknal_core.engine.files.opened import open_checked

    with open(open_checked(path, places), "rb") as opened:
        file = gzip.GzipFile(fileobj=opened) if path.suffix == ".gz" else opened
        # Universal newlines, and a long header; what is longer is not known.
        first = file.read(_HEAD_BYTES).decode("utf-8-sig", "ignore")
    first, ended, _ = first.lstrip().replace("\r", "\n").partition("\n")
    if not ended:
        return ()
    given = params.get("delimiter") or params.get("delim")
    delimiter = str(given) if given else max(_DELIMITERS, key=first.count)
    if len(delimiter) != 1 or '"' in first:
        return ()
    # Trimmed and named as the reader does it.
    names = next(csv.reader([first], delimiter=delimiter), [])
    return [name.strip() or f"column{index}" for index, name in enumerate(names)]


class _Stored:
    """What the environment holds of nodes whose definition is still the same."""

    def __init__(self, session: Session) -> None:
        from seeknal_core.engine.snapshots import SnapshotStore
        from seeknal_core.state.open import open_state

        self._session = session
        self._layout = Layout.of_project(Path(session.settings.root))
        state = open_state(Path(session.settings.root))
        self._store = SnapshotStore(self._layout.snapshots, state)
        try:
            self._record = state.load(session.environment.name)
        except SeeknalError:
            self._record = None

    def holds_files_of(self, node: SourceNode) -> bool:
        """Return whether what is stored was read from the files that are there now."""
        from seeknal_core.engine.files.digests import FileDigests

        record = self._record.nodes.get(node.id) if self._record is not None else None
        if record is None or keys.is_remote(node):
            return False
        digests = FileDigests(self._layout.file_digests)
        try:
            read = keys.file_read(self._session, node, digests, self._layout.scratch)
        except SeeknalError:
            return False
        return has_rows_of(record, self._store.resolve(read.content_key))

    def columns(self, node: AnyNode) -> Columns | None:
        """Return the columns of what is stored, None where that is of another definition."""
        record = self._record.nodes.get(node.id) if self._record is not None else None
        if record is None or record.definition != self._session.graph.definitions[node.id]:
            return None
        if not self._store.contains(record.content_key):
            return None
        try:
            snapshot = self._store.find(node.id, record.content_key)
        except SeeknalError:
            return None
        return None if snapshot is None else [(name, None) for name in snapshot.schema.names]


def _outside_sql(
    session: Session, node: AnyNode, known: Mapping[str, Columns | None]
) -> Iterator[Problem]:
    columns = known[node.id]
    if columns is None:
        return
    for spec in enabled_targets(session, [node]):
        named = [("unique_keys", name) for name in spec.unique_keys]
        if spec.time_column is not None:
            named.append(("time_column", spec.time_column))
        names = {own.casefold() for own, _ in columns}
        for name in spec.partition_by:
            call = _TRANSFORM.fullmatch(name) if name.casefold() not in names else None
            named.append(("partition_by", call[1].strip('"') if call else name))
        for field, name in named:
            yield from _missing(columns, name, spec.location, f"{node.id}.{field}")
    for audit in node.audits:
        place = audit.location or node.location
        for name in (*audit.columns, *([audit.column] if audit.column else [])):
            yield from _missing(columns, name, place, f"{node.id}.audits")
        there = known.get(audit.to) if audit.to else None
        if there is not None and audit.field is not None:
            yield from _missing(there, audit.field, place, f"{node.id}.audits")
    if isinstance(node, SourceNode) and node.freshness is not None and node.freshness.column:
        path = f"{node.id}.freshness.column"
        yield from _missing(columns, node.freshness.column, node.location, path)
    if isinstance(node, SourceNode) and node.type in FILE_TYPES:
        yield from _of_params(node, columns)


def _of_params(node: SourceNode, columns: Columns) -> Iterator[Problem]:
    if node.watermark is not None:
        yield from _missing(columns, node.watermark, node.location, f"{node.id}.watermark")
    for field in ("date_format", "timestamp_format"):
        formats = node.params.get(field)
        for name in formats if isinstance(formats, Mapping) else ():
            path = f"{node.id}.params.{field}"
            yield from _missing(columns, str(name), node.location, path)


def _of_audits(
    session: Session,
    binder: Callable[[], Binder],
    node: AnyNode,
    known: Mapping[str, Columns | None],
) -> Iterator[Problem]:
    """Find what the SQL of audits names and the node, or another one, does not have."""
    from seeknal_core.engine.names import name_nodes, short_names
    from seeknal_core.engine.statements import check
    from seeknal_core.graph.texts import texts
    from seeknal_core.plan.scope import compared

    for audit in node.audits:
        if audit.type != "custom_sql" or not audit.sql:
            continue
        # The node itself, its inputs, and nothing else are what an audit may read.
        inputs = (*session.graph.inputs[node.id], *compared(session.graph, node.id))
        tables = {id: known[id] for id in (node.id, *inputs)}
        tables["__THIS__"] = known[node.id]
        parts = ("bound audit", engine_version(), json.dumps([audit.sql, list(tables.items())]))
        found = texts.recall(*parts)
        if found is None:
            found = []
            try:
                named = name_nodes(audit.sql, tables)
                statements = check(node.id, [named], [*tables, *short_names(tables)])
                binder().bind(node.id, [one.text for one in statements], tables, list(tables))
            except EngineError as error:
                found = [error.message.removeprefix(f"{node.id}: "), error.hint]
            texts.remember(found, *parts)
        if found:
            message, hint = found
            place = audit.location or node.location
            yield problem_at(place, message, path=f"{node.id}.audits", hint=hint)


def _missing(columns: Columns, name: str, place: Location | None, path: str) -> Iterator[Problem]:
    names = [own for own, _ in columns]
    if name.casefold() in {own.casefold() for own in names}:
        return
    hint = nearest(name, names) or f"the columns are {', '.join(names[:8])}"
    yield problem_at(place, f"there is no column {name!r}", path=path, hint=hint)
