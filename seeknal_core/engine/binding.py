"""Finding names that SQL gets wrong, by the engine's own binder, over tables without rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.options import nearest
from seeknal_core.engine import failures, parquet, quoting
from seeknal_core.engine.statements import check

#: Names of columns, and their types in the engine's words where they are known.
Columns = Sequence[tuple[str, str | None]]

#: Statements before the last one that can be run without a row: they compute nothing.
_HARMLESS = re.compile(
    r"\s*create\s+(or\s+replace\s+)?(temp|temporary)\s+(view|macro|function)\b", re.IGNORECASE
)
#: What makes columns of values, or of types that are not known: PIVOT and unnest().
_BY_VALUE = re.compile(r"\b(pivot(_wider)?|unnest)\b", re.IGNORECASE)
_NO_TABLE = re.compile(r"Table with name \"?(.+?)\"? does not exist")
_NO_COLUMN = re.compile(
    r"Referenced column \"(.+?)\" not found|does not have a column named \"(.+?)\""
    r"|Column (?:\"[^\"]+\"\.)*\"(.+?)\" in \w+ list not found"
    r"|Column \"(.+?)\" does not exist on (?:left|right) side"
)
_CANDIDATES = re.compile(r"Candidate bindings: ([^\n]*)")
_UNKNOWN = "_seeknal_unknown"


class Binder:
    """Binds statements to columns. Opens no file; close it at the end."""

    def __init__(self) -> None:
        self._opened: duckdb.DuckDBPyConnection | None = None

    def close(self) -> None:
        """Free what is held."""
        if self._opened is not None:
            self._opened.close()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if self._opened is None:
            self._opened = duckdb.connect(
                config={
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                    "python_enable_replacements": False,
                    "temp_directory": "",
                }
            )
            self._opened.execute("SET GLOBAL TimeZone = 'UTC'")
            self._opened.execute("SET enable_external_access = false")
            self._opened.execute("SET lock_configuration = true")
        return self._opened.cursor()

    def bind(
        self,
        node: str,
        statements: Sequence[str],
        inputs: Mapping[str, Columns | None],
        tables: Collection[str],
    ) -> Columns | None:
        """Return the columns that a node's statements give, None where that is not known.

        Args:
            statements: rendered: inputs are named by their ids.
            inputs: the columns of each input; None where they are not known.
            tables: the names that a table of the SQL may have been meant to be; the node's own
                is passed over. They are looked at after an error only.

        Raises:
            EngineError: a table or a column does not exist, for certain; with its line.
        """
        if not all(_HARMLESS.match(text) for text in statements[:-1]):
            return None
        try:
            texts = [one.text for one in check(node, statements, inputs)]
        except EngineError:
            return None  # What SQL may not do is reported where it is checked.
        known = all(columns is not None for columns in inputs.values())
        known = known and not any(map(_BY_VALUE.search, statements))
        cursor = self._cursor()
        try:
            for id, columns in inputs.items():
                cursor.execute(
                    f"CREATE TEMP VIEW {quoting.identifier(id)} AS SELECT {_selected(columns)}"
                )
            for text in texts[:-1]:
                cursor.execute(text)
            relation = parquet.bind(cursor, texts[-1])
            if not known:
                return None
            return [
                (name, None if str(kind) == '"NULL"' else str(kind))
                for name, kind in zip(relation.columns, relation.types, strict=True)
            ]
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            wrong = _wrong(
                node, error, inputs if known else {}, [one for one in tables if one != node]
            )
            if wrong is not None:
                raise wrong from None
            return None
        except duckdb.Error:
            return None  # What else is wrong depends on types, which are not all known.
        finally:
            cursor.close()


def _selected(columns: Columns | None) -> str:
    if columns is None:
        columns = [(_UNKNOWN, None)]
    parts = (
        f"CAST(NULL AS {kind}) AS {quoting.identifier(name)}"
        if kind is not None
        else f"NULL AS {quoting.identifier(name)}"
        for name, kind in columns
    )
    return ", ".join(parts)


def _wrong(
    node: str,
    error: duckdb.Error,
    inputs: Mapping[str, Columns | None],
    tables: Sequence[str],
) -> EngineError | None:
    text = str(error)
    placed = failures.translate(error, node, wrapper_lines=1)
    line = placed.line if isinstance(placed, EngineError) else 0
    table = _NO_TABLE.search(text)
    if table is not None:
        name = table[1]
        meant = [one for one in tables if one.partition(".")[2].casefold() == name.casefold()]
        if len(meant) > 1:
            hint = f"it may be {' or '.join(meant)}: write its kind too"
        elif meant:
            hint = f"write {meant[0]}: a node's own name is never its input"
        else:
            short = {one.partition(".")[2]: one for one in tables}
            hint = nearest(name, short) or "name a node of the project"
        return EngineError(f"there is no table or node {name!r}", hint, line=line)
    column = _NO_COLUMN.search(text)
    if column is None or not inputs:
        return None
    name = next(filter(None, column.groups()))
    listed = _CANDIDATES.search(text)
    candidates = re.findall(r'"([^"]+)"', listed[1]) if listed else []
    candidates = [one.rpartition(".")[2] for one in candidates]
    candidates += [own for columns in inputs.values() for own, _ in columns or ()]
    having = [
        id
        for id, columns in inputs.items()
        if name.casefold() in {own.casefold() for own, _ in columns or ()}
    ]
    hint = (
        f"it is a column of {' and '.join(having)}, and not of what this part of the SQL reads"
        if having
        else nearest(name, candidates) or f"the inputs are {', '.join(inputs)}"
    )
    return EngineError(f"there is no column {name!r}", hint, line=line)
