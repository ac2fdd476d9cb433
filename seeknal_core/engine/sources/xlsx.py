"""Reading sheets of Excel workbooks, by openpyxl (the extra ``xlsx``).

A cell's own type counts, not what its text looks like: ``007`` as text stays text. A
column is of the one type that all of its cells have, or of its declared type, exactly.
Rows without any value are passed over. Errors, formulas that were never computed and
merged cells are refused: they would arrive as NULL.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from seeknal_core.engine import quoting
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources import exact
from seeknal_core.engine.sources.reading import Reading
from seeknal_core.engine.sources.xlsx_sheet import oddities
from seeknal_core.errors import EngineError
from seeknal_core.formats import XlsxParams
from seeknal_core.formats.declared import DeclaredType, parse
from seeknal_core.structure import nearest

_TABLE = "_seeknal_sheet"
#: Integers that a number of a sheet, a double, keeps.
_EXACT = 2**53
_MOST = 10**38


@attrs.frozen(kw_only=True)
class _Cell:
    """A value and where it stands."""

    value: Any
    place: str


@attrs.define(kw_only=True)
class _Column:
    name: str
    cells: list[tuple[int, _Cell]] = attrs.field(factory=list)


@attrs.define(kw_only=True)
class _Table:
    """The rows of all files: the file of each row, and the cells of each column by row."""

    files: list[Path] = attrs.field(factory=list)
    columns: dict[str, _Column] = attrs.field(factory=dict)


def store(reading: Reading) -> Output:
    """Store the rows of sheets."""
    assert isinstance(reading.params, XlsxParams)
    table = _Table()
    first: Sequence[str] | None = None
    for path in reading.paths:
        names = _read(reading, path, reading.params, table)
        if first is not None and not reading.params.union_by_name:
            _compare(reading, path, first, names)
        first = first or names
    declared = {
        column.name.casefold(): parse(column.dtype)
        for column in reading.source.columns
        if column.dtype is not None
    }
    arrays = {}
    chosen = []
    for key, column in table.columns.items():
        kind = declared.get(key)
        arrays[column.name] = _array(reading, table, column, kind)
        name = quoting.identifier(column.name)
        chosen.append(name if kind is None else f"{exact.convert(name, kind)} AS {name}")
    files = [(str(path), reading.label(path)) for path in reading.paths]
    for name, sql in reading.extra_columns(files, list(arrays)):
        chosen.append(f"{sql} AS {quoting.identifier(name)}")
    rows = pa.table({**arrays, "_file": pa.array(list(map(str, table.files)), pa.string())})
    reading.cursor.register(_TABLE, rows)
    try:
        for key, column in table.columns.items():
            if key in declared:
                _check(reading, table, column, declared[key])
        return reading.store(f"SELECT {', '.join(chosen)} FROM {_TABLE}")
    finally:
        reading.cursor.unregister(_TABLE)


def _read(reading: Reading, path: Path, params: XlsxParams, table: _Table) -> Sequence[str]:
    """Read one file's sheet into the table; return its columns' names."""
    try:
        import openpyxl
    except ImportError:
        raise EngineError(
            f"{reading.source.id}: a source of type xlsx needs openpyxl",
            'pip install "seeknal-core[xlsx]"',
        ) from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a broken file makes it raise
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise reading.error(path, f"is no Excel workbook: {said}", "save it as .xlsx") from None
    try:
        sheet = _sheet(reading, path, book, params.sheet)
        box = openpyxl.utils.range_boundaries(params.range.replace("$", "")) if params.range else ()
        found = oddities(path, sheet.title)
        for place in found.uncomputed:
            if _inside(openpyxl.utils.range_boundaries(place), box):
                raise reading.error(
                    path,
                    f"{sheet.title}!{place} holds a formula that was never computed",
                    "open the file in a spreadsheet program and save it",
                )
        # Some programs write a wrong size of the sheet, and rows would be cut off by it.
        sheet.reset_dimensions()
        bounds: dict[str, int] = {}
        if box:
            bounds = dict(zip(("min_col", "min_row", "max_col", "max_row"), box, strict=True))
        rows = (
            row for row in sheet.iter_rows(**bounds) if any(cell.value is not None for cell in row)
        )
        names, top = _names(reading, path, params, rows)
        for merged in found.merged:
            edges = openpyxl.utils.range_boundaries(merged)
            if _inside(edges, box) and edges[3] >= top:
                raise reading.error(
                    path,
                    f"{sheet.title}!{merged} is one merged cell: only its first cell has a value",
                    "split it, or write params.range without it",
                )
        _take(reading, path, names, rows, table)
        return list(names.values())
    finally:
        book.close()


def _sheet(reading: Reading, path: Path, book: Any, wanted: str | None) -> Any:
    names = [sheet.title for sheet in book.worksheets]
    if wanted is None:
        if len(names) == 1:
            return book.worksheets[0]
        raise reading.error(
            path, f"has {len(names)} sheets: {', '.join(names)}", "write params.sheet"
        )
    if wanted not in names:
        guess = nearest(wanted, names) or f"there are {', '.join(names)}"
        raise reading.error(path, f"has no sheet {wanted!r}", guess)
    return book.worksheets[names.index(wanted)]


def _names(
    reading: Reading, path: Path, params: XlsxParams, rows: Iterator[Sequence[Any]]
) -> tuple[dict[int, str], int]:
    """Return column number -> name, and the first row's number; read the header if there is one."""
    if params.columns is not None:
        box = params.range
        start = _column_number(box) if box else 1
        return dict(enumerate(params.columns, start)), 1
    header = next(rows, None)
    if header is None:
        raise reading.error(path, "has no row", "name another sheet or range")
    found: dict[int, str] = {}
    seen: dict[str, str] = {}
    for cell in header:
        if cell.value is None:
            continue
        name = _text(cell.value)
        other = seen.setdefault(name.casefold(), cell.coordinate)
        if other != cell.coordinate:
            raise reading.error(
                path,
                f"{other} and {cell.coordinate} both name a column {name!r}",
                "give each column a name of its own, or write params.columns",
            )
        found[cell.column] = name
    return found, next(cell.row for cell in header if cell.value is not None)


def _column_number(box: str) -> int:
    from openpyxl.utils import range_boundaries

    return int(range_boundaries(box.replace("$", ""))[0])


def _take(
    reading: Reading,
    path: Path,
    names: dict[int, str],
    rows: Iterator[Sequence[Any]],
    table: _Table,
) -> None:
    for name in names.values():
        table.columns.setdefault(name.casefold(), _Column(name=name))
    for row in rows:
        number = len(table.files)
        table.files.append(path)
        for cell in row:
            if cell.value is None:
                continue
            if cell.data_type == "e":
                raise reading.error(
                    path,
                    f"{cell.coordinate} is an error, {cell.value}",
                    "fix the formula, or leave the column out by params.range",
                )
            found = names.get(cell.column)
            if found is None:
                raise reading.error(
                    path,
                    f"{cell.coordinate} has a value, and its column has no name",
                    "name the column in the first row, or write params.range",
                )
            kept = _Cell(value=cell.value, place=cell.coordinate)
            table.columns[found.casefold()].cells.append((number, kept))


def _compare(reading: Reading, path: Path, first: Sequence[str], names: Sequence[str]) -> None:
    here = {name.casefold() for name in names}
    there = {name.casefold() for name in first}
    example = reading.label(reading.paths[0])
    for name, without, having in (
        *((name, reading.label(path), example) for name in first if name.casefold() not in here),
        *((name, example, reading.label(path)) for name in names if name.casefold() not in there),
    ):
        raise EngineError(
            f"{reading.source.id}: {without} has no column {name!r}, which {having} has",
            "write params: {union_by_name: true} to read what is missing as NULL",
        )


def _array(
    reading: Reading, table: _Table, column: _Column, declared: DeclaredType | None
) -> pa.Array:
    values: list[Any] = [None] * len(table.files)
    if declared is not None:
        for row, cell in column.cells:
            values[row] = _text(cell.value)
        return pa.array(values, pa.string())
    kinds: dict[str, tuple[int, _Cell]] = {}
    for row, cell in column.cells:
        values[row] = cell.value
        kinds.setdefault(_kind(cell.value), (row, cell))
    if set(kinds) > {"a number"} or len(kinds) > 1:
        (row, one), (other_row, other) = list(kinds.values())[:2]
        raise EngineError(
            f"{reading.source.id}: column {column.name!r}:"
            f" {reading.label(table.files[row])} {one.place} is {_kind(one.value)},"
            f" {reading.label(table.files[other_row])} {other.place} is {_kind(other.value)}",
            "declare the column as string, or fix the cell",
        )
    kind = next(iter(kinds), "")
    return pa.array(values, _arrow(reading, column, kind, [v for v in values if v is not None]))


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case datetime.datetime() | datetime.date():
            return "a date"
        case datetime.time():
            return "a time of day"
        case datetime.timedelta():
            return "a duration"
        case _:
            return "text"


def _arrow(reading: Reading, column: _Column, kind: str, values: Sequence[Any]) -> pa.DataType:
    match kind:
        case "":
            return pa.int32()
        case "true or false":
            return pa.bool_()
        case "a number" if all(isinstance(value, int) for value in values):
            if all(-(2**63) <= value < 2**63 for value in values):
                return pa.int64()
            if all(abs(value) < _MOST for value in values):
                return pa.decimal128(38, 0)
        case "a number":
            if all(abs(value) <= _EXACT for value in values if isinstance(value, int)):
                return pa.float64()
        case "a date":
            midnight = datetime.time()
            if all(
                not isinstance(value, datetime.datetime) or value.time() == midnight
                for value in values
            ):
                return pa.date32()
            return pa.timestamp("us")
        case "a time of day":
            return pa.time64("us")
        case "text":
            return pa.string()
    raise EngineError(
        f"{reading.source.id}: column {column.name!r} holds {kind or 'values'} that no type keeps",
        "declare the column as string",
    )


def _text(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) <= _EXACT:
            return str(int(value))
        case float():
            return str(Decimal(repr(value))) if abs(value) < 1e16 else repr(value)
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case _:
            return str(value)


def _check(reading: Reading, table: _Table, column: _Column, kind: DeclaredType) -> None:
    """Refuse a value that does not fit its declared type."""
    name = quoting.identifier(column.name)
    bad = exact.is_bad(name, exact.convert(name, kind))
    found = reading.cursor.execute(
        f"SELECT row FROM (SELECT *, row_number() OVER () - 1 AS row FROM {_TABLE})"
        f" WHERE {bad} ORDER BY row LIMIT 1"
    ).fetchall()
    for (row,) in found:
        cell = dict(column.cells)[row]
        why, hint = exact.reason(kind, _text(cell.value))
        message = f"{cell.place}, column {column.name!r}: {why}"
        raise reading.error(table.files[row], message, hint)


def _inside(edges: Sequence[Any], box: Sequence[Any]) -> bool:
    """Whether two rectangles of cells meet; no box is everything."""
    if not box:
        return True
    left, top, right, bottom = edges
    return bool(left <= box[2] and right >= box[0] and top <= box[3] and bottom >= box[1])
