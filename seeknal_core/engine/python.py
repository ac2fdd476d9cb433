"""Python nodes: the ``ctx`` their functions get, and storing what they return.

pandas and polars are the user's: neither is imported unless a value of theirs
is at hand.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import re
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa

from seeknal_core.contract.errors import EngineError, Interrupted, SeeknalError
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Cancellation
from seeknal_core.engine import parquet, quoting, statements
from seeknal_core.engine.disk import disk_guard, is_disk_full
from seeknal_core.engine.names import name_nodes, short_names
from seeknal_core.engine.protocol import NodeVariables, Output
from seeknal_core.engine.snapshots import Staging
from seeknal_core.project.specs import PythonNode

_RETURNS = (
    "return a DuckDB relation, a pyarrow Table or RecordBatchReader, a pandas or polars"
    " DataFrame, or a generator of record batches"
)
#: What DuckDB says of a package that it needs for a result.
_REQUIRED = re.compile(r"'(\w+)' is required for this operation but it was not installed")
#: Packages that are imported by the name they are installed by.
_SAME_NAME = ("pandas", "polars", "numpy", "torch", "tensorflow", "pyarrow")
_MISSING = object()
_QUOTE = '"'


class NodeContext:
    """What a Python node's function is called with: its inputs and its run.

    Made by the engine for one call; not to be kept.
    """

    def __init__(
        self,
        *,
        node: str,
        inputs: tuple[str, ...],
        cursor: duckdb.DuckDBPyConnection,
        variables: NodeVariables,
        cancellation: Cancellation,
    ) -> None:
        self._node = node
        self._inputs = inputs
        self._short = short_names(inputs)
        self._cursor = cursor
        self._variables = variables
        self._cancellation = cancellation
        self._named: set[str] = set()
        self._numbers = itertools.count(1)

    @property
    def env_name(self) -> str:
        """The environment's name."""
        return self._variables.env_name

    @property
    def run_id(self) -> str:
        """The run's id. What is made of it makes the output differ from run to run."""
        return self._variables.run_id

    @property
    def today(self) -> date:
        """The day the run started."""
        return self._variables.today

    def ref(self, node: str) -> duckdb.DuckDBPyRelation:
        """Return an input as a lazy relation; ``.df()``, ``.arrow()``, ``.pl()`` load it.

        Args:
            node: an id of ``inputs=`` (``source.users``), or its bare name.

        Raises:
            EngineError: it isn't among the node's inputs.
        """
        self._cancellation.check()
        id = node if node in self._inputs else self._short.get(node)
        if id is None:
            guess = nearest(node, self._inputs)
            raise EngineError(
                f"{node!r} is not among the inputs of {self._node}",
                guess or f'add it: @transform(..., inputs=["{node}"])',
            )
        return self._cursor.sql(f"SELECT * FROM {quoting.identifier(id)}")

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Return the rows of a query as a lazy relation.

        A table's name means, first, a variable of the calling function that
        holds a relation, an Arrow table or a data frame; then an input, by its
        id (``source.users``) or its bare name.

        Raises:
            EngineError: the query is wrong, or does more than read.
        """
        self._cancellation.check()
        query = name_nodes(query, self._inputs)
        checked = statements.check(self._node, [query], [*self._inputs, *self._short])
        frame = inspect.currentframe()
        for statement in checked:
            self._name_inputs(statement)
        for statement in checked[:-1]:
            self._cursor.execute(statement.text).complete()
        caller = frame.f_back if frame else None
        return parquet.bind(self._cursor, self._with_variables(checked[-1].text, caller))

    def var(self, name: str, default: object = _MISSING) -> object:
        """Return a variable of ``--vars``, or `default`.

        Raises:
            EngineError: it isn't given and there is no default.
        """
        if name in self._variables.vars:
            return self._variables.vars[name]
        if default is _MISSING:
            raise EngineError(
                f"the variable {name!r} is not given", f"add --vars '{{\"{name}\": …}}'"
            )
        return default

    def log(self, message: object) -> None:
        """Write a line into the command's log (shown with ``-v``)."""
        logging.getLogger(f"seeknal.node.{self._node}").info("%s", message)

    def _name_inputs(self, statement: statements.Statement) -> None:
        """Make a view for each input that a statement may mean by its bare name."""
        for _, word, _ in statements.tokens(statement.text):
            name = word.strip(_QUOTE)
            if name in self._short and name not in self._named:
                self._named.add(name)
                self._cursor.execute(
                    f"CREATE TEMP VIEW IF NOT EXISTS {quoting.identifier(name)} AS"
                    f" SELECT * FROM {quoting.identifier(self._short[name])}"
                )

    def _with_variables(self, query: str, frame: types.FrameType | None) -> str:
        """Name the caller's variables in a query, each as a common table expression.

        Not as views: ``users = ctx.sql("SELECT * FROM users")`` would make the next
        ``users`` a view of itself.
        """
        parts = []
        for name in sorted(statements.table_names(query)):
            value = _variable(frame, name)
            if value is not None:
                view = f"_seeknal_{next(self._numbers)}"
                self._cursor.register(view, value)
                parts.append(f"{quoting.identifier(name)} AS (SELECT * FROM {view})")
        if not parts:
            return query
        words = statements.tokens(query)
        if words[0][1].upper() != "WITH":
            return f"WITH {', '.join(parts)} {query}"
        at = words[0 if words[1][1].upper() != "RECURSIVE" else 1]
        end = at[2] + len(at[1])
        return f"{query[:end]} {', '.join(parts)}, {query[end:]}"


def _variable(frame: types.FrameType | None, name: str) -> object | None:
    """Return the caller's variable of a name as something DuckDB can register."""
    if frame is None:
        return None
    value = frame.f_locals.get(name, frame.f_globals.get(name))
    if isinstance(value, duckdb.DuckDBPyRelation | pa.Table | pa.RecordBatchReader):
        return value
    return _table(value)


def _table(value: object) -> pa.Table | None:
    """Turn a data frame of pandas or polars into a table; None if it is none."""
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return pa.Table.from_pandas(value, preserve_index=False)
    if polars is not None and isinstance(value, polars.LazyFrame):
        value = value.collect()
    if polars is not None and isinstance(value, polars.DataFrame):
        return value.to_arrow()
    return None


def compute(
    node: PythonNode,
    context: NodeContext,
    staging: Staging,
    cancellation: Cancellation,
    project_root: Path,
) -> Output:
    """Call a node's function and store what it returns.

    Raises:
        EngineError: the function, or its file's import, failed (file, line and message,
            no traceback), or it returned something that is no rows.
        duckdb.Error: a returned relation fails.
    """
    try:
        function = node.load()
    except EngineError as error:
        raise EngineError(f"{node.id}: {error.message}", error.hint) from None
    user = _UserCode(node, function, project_root)
    with disk_guard(node.id):
        with user:
            wanted = inspect.signature(function).parameters
            result = function(context) if wanted else function()
        if isinstance(result, duckdb.DuckDBPyRelation):
            return parquet.copy_relation(node.id, result, staging)
        reader = _reader(node, result, user)
        return parquet.write_stream(node.id, reader, staging, cancellation)


def _reader(node: PythonNode, result: object, user: _UserCode) -> pa.RecordBatchReader:
    if isinstance(result, pa.RecordBatchReader):
        return pa.RecordBatchReader.from_batches(result.schema, user.each(result))
    if isinstance(result, pa.RecordBatch):
        result = pa.Table.from_batches([result])
    if not isinstance(result, pa.Table):
        try:
            table = _table(result)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise EngineError(
                f"{node.id}: the data frame cannot be stored: {error}",
                "give each column one type",
            ) from None
        if table is not None:
            result = table
    if isinstance(result, pa.Table):
        return result.to_reader()
    if isinstance(result, Iterator):
        return _from_batches(node, user.each(result))
    raise EngineError(f"{node.id}: the function returned {_type_name(result)}", _RETURNS)


def _from_batches(node: PythonNode, batches: Iterator[object]) -> pa.RecordBatchReader:
    first = next(batches, None)
    if not isinstance(first, pa.RecordBatch):
        what = "nothing" if first is None else _type_name(first)
        raise EngineError(
            f"{node.id}: the generator gave {what}, so the columns are not known",
            "yield pyarrow record batches, at least one (it may have no row)",
        )

    def rest() -> Iterator[pa.RecordBatch]:
        yield first
        for batch in batches:
            if not isinstance(batch, pa.RecordBatch) or not batch.schema.equals(first.schema):
                what = batch.schema if isinstance(batch, pa.RecordBatch) else _type_name(batch)
                raise EngineError(
                    f"{node.id}: the generator gave {what} after batches of {first.schema}",
                    "yield record batches of one schema",
                )
            yield batch

    return pa.RecordBatchReader.from_batches(first.schema, rest())


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class _UserCode:
    """A block in which an exception is the user's: told by file and line."""

    def __init__(
        self, node: PythonNode, function: Callable[..., object], project_root: Path
    ) -> None:
        self._node = node
        self._function = function
        self._root = project_root

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, Interrupted):
            return
        # Only the main thread hears Ctrl-C: in all others the function itself raised it.
        main = threading.current_thread() is threading.main_thread()
        if isinstance(error, KeyboardInterrupt) and main:
            return
        if isinstance(error, duckdb.InterruptException) or is_disk_full(error):
            return
        raise self._told(error, trace) from None

    def each(self, values: Iterable[object]) -> Iterator[object]:
        """Iterate over what user code makes as it goes."""
        iterator = iter(values)
        while True:
            with self:
                try:
                    value = next(iterator)
                except StopIteration:
                    return
            yield value

    def _told(self, error: BaseException, trace: types.TracebackType | None) -> EngineError:
        place = self._place(trace)
        if isinstance(error, SeeknalError):
            said = error.message.removeprefix(f"{self._node.id}: ")
            return EngineError(f"{self._node.id}: {place}: {said}", error.hint)
        lines = str(error).strip().splitlines()
        text = lines[0] if lines else ""
        if not isinstance(error, duckdb.Error):  # whose text says its kind
            text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return EngineError(
            f"{self._node.id}: {place}: {text}",
            _missing_module(error, text) or "fix the function",
        )

    def _place(self, trace: types.TracebackType | None) -> str:
        """Return file and line of the innermost frame that is the project's."""
        own = inspect.getsourcefile(self._function)
        for frame in reversed(traceback.extract_tb(trace)):
            path = Path(frame.filename)
            if path.is_relative_to(self._root) and "site-packages" not in path.parts:
                return f"{path.relative_to(self._root)}:{frame.lineno}"
            if frame.filename == own:
                return f"{path.name}:{frame.lineno}"
        return str(self._node.location)


def _missing_module(error: BaseException, text: str) -> str:
    """Return what to install where a module is missing; empty where none is."""
    found = _REQUIRED.search(text)
    name = found[1] if found else ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        name = error.name.partition(".")[0]
    if not name:
        return ""
    if name not in _SAME_NAME:
        return f"install what provides {name!r}, or fix the import"
    other = ", or use .arrow()" if name in ("pandas", "polars") else ""
    return f"pip install {name}{other}"
