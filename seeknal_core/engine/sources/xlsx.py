"""Reading sheets of Excel workbooks, by openpyxl (the extra ``xlsx``).

A cell's own type counts, not what its text looks like: ``007`` as text stays text. A
column is of the one type that all of its cells have, or of its declared type, exactly.
Rows without any value are passed over. The rows go through a file, a few thousand at a
time; of a workbook only its shared texts are in memory. Errors, formulas that were never computed and
merged cells are refused: they would arrive as NULL.
"""

from __future__ import annotations

import datetime
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.options import nearest
from seeknal_core.engine import quoting
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources import exact
from seeknal_core.engine.sources.common import Reading
from seeknal_core.engine.sources.xlsx_sheet import oddities
from seeknal_core.project.formats import XlsxParams
from seeknal_core.project.formats.declared import DeclaredType, parse

#: Integers that a number of a sheet, a double, keeps.
_EXACT = 2**53
_MOST = 10**38
#: So many rows are in memory at a time.
_BATCH = 5_000
#: Bytes of a workbook's parts, unpacked, where the source has no higher ``max_bytes``.
MOST_UNPACKED = 1_000_000_000


@attrs.frozen(kw_only=True)
class _Cell:
    """A value and where it stands."""

    value: Any
    file: Path
    place: str


@attrs.define(kw_only=True)
class _Column:
    """What is known of a column's values: a cell of each kind, and what numbers and dates need."""

    name: str
    kinds: dict[str, _Cell] = attrs.field(factory=dict)
    all_whole: bool = True
    least: int = 0
    greatest: int = 0
    all_midnight: bool = True

    def see(self, value: Any, file: Path, place: str) -> None:
        """Take one more value into account."""
        kind = _kind(value)
        if kind not in self.kinds:
            self.kinds[kind] = _Cell(value=value, file=file, place=place)
        if kind == "a number":
            if isinstance(value, int):
                self.least, self.greatest = min(self.least, value), max(self.greatest, value)
            else:
                self.all_whole = False
        elif isinstance(value, datetime.datetime) and value.time() != datetime.time():
            self.all_midnight = False


@attrs.define(kw_only=True)
class _Table:
    """The rows of all files as texts, in a Parquet file each.

    ``columns`` are those of all files; ``numbers`` are the columns' numbers in each sheet.
    """

    folder: Path
    columns: dict[str, _Column] = attrs.field(factory=dict)
    numbers: dict[Path, dict[str, int]] = attrs.field(factory=dict)
    parts: list[Path] = attrs.field(factory=list)

    @property
    def sql(self) -> str:
        """The query of all rows, in order; a column of texts for each of `columns`."""
        columns = ", ".join(
            f"CAST({quoting.identifier(f'c{n}')} AS VARCHAR) AS c{n}"
            for n in range(len(self.columns))
        )
        files = quoting.paths(map(str, self.parts))
        chosen = f"{columns}, _file, _row" if columns else "_file, _row"
        return f"SELECT {chosen} FROM read_parquet({files}, union_by_name = true)"


def store(reading: Reading) -> Output:
    """Store the rows of sheets."""
    assert isinstance(reading.params, XlsxParams)
    with tempfile.TemporaryDirectory(dir=reading.staging.path.parent, prefix=".sheet-") as scratch:
        table = _Table(folder=Path(scratch))
        first: Sequence[str] | None = None
        for path in reading.paths:
            names = _read(reading, path, reading.params, table)
            if first is not None and not reading.params.union_by_name:
                _compare(reading, path, first, names)
            first = first or names
        return _store(reading, table)


def _store(reading: Reading, table: _Table) -> Output:
    declared = {
        column.name.casefold(): parse(column.dtype)
        for column in reading.source.columns
        if column.dtype is not None
    }
    # Every file has all columns, so that the query of all rows finds them.
    schema = pa.schema([(f"c{n}", pa.string()) for n in range(len(table.columns))])
    empty = table.folder / "columns.parquet"
    whole = pa.schema([*schema, ("_file", pa.string()), ("_row", pa.int64())])
    # Not whole.empty_table(), which imports pandas where it is installed.
    pq.write_table(pa.Table.from_batches([], whole), empty)
    table.parts.insert(0, empty)
    chosen = []
    for number, (key, column) in enumerate(table.columns.items()):
        kind = declared.get(key)
        if kind is not None:
            _check(reading, table, number, column, kind)
            value = exact.convert(f"c{number}", kind)
        else:
            value = f"CAST(c{number} AS {_type(reading, column)})"
        chosen.append(f"{value} AS {quoting.identifier(column.name)}")
    files = [(str(path), reading.label(path)) for path in reading.paths]
    for name, sql in reading.extra_columns(files, [each.name for each in table.columns.values()]):
        chosen.append(f"{sql} AS {quoting.identifier(name)}")
    return reading.store(f"SELECT {', '.join(chosen)} FROM ({table.sql})")


def _check_size(reading: Reading, path: Path) -> None:
    """Refuse a workbook whose parts are larger, unpacked, than is allowed.

    No more is ever unpacked than what a part's own entry says.
    """
    limit = max(reading.source.max_bytes or 0, MOST_UNPACKED)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, OSError):
        return  # Opening it says what is wrong.
    if size > limit:
        raise reading.error(
            path,
            f"holds {size:,} bytes, unpacked, the limit is {limit:,} (max_bytes)",
            "write max_bytes: beside params, if that is what you want",
        )


def _read(reading: Reading, path: Path, params: XlsxParams, table: _Table) -> Sequence[str]:
    """Read one file's sheet into the table; return its columns' names."""
    try:
        import openpyxl
    except ImportError:
        raise EngineError(
            f"{reading.source.id}: a source of type xlsx needs openpyxl",
            'pip install "seeknal-core[xlsx]"',
        ) from None
    _check_size(reading, path)
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
    position = {key: number for number, key in enumerate(table.columns)}
    columns = {
        number: (table.columns[name.casefold()], position[name.casefold()])
        for number, name in names.items()
    }
    table.numbers[path] = {name.casefold(): number for number, name in names.items()}
    schema = pa.schema(
        [
            *((f"c{at}", pa.string()) for _, at in columns.values()),
            ("_file", pa.string()),
            ("_row", pa.int64()),
        ]
    )
    part = table.folder / f"{len(table.parts):06}.parquet"
    table.parts.append(part)
    taken: list[dict[str, Any]] = []
    with pq.ParquetWriter(part, schema) as writer:
        for row in rows:
            values: dict[str, Any] = {"_file": str(path)}
            for cell in row:
                if cell.value is None:
                    continue
                _refuse_cell(reading, path, cell, names)
                column, at = columns[cell.column]
                column.see(cell.value, path, cell.coordinate)
                values[f"c{at}"] = _text(cell.value)
                values["_row"] = cell.row
            taken.append(values)
            if len(taken) == _BATCH:
                writer.write_table(pa.Table.from_pylist(taken, schema))
                taken.clear()
        if taken:
            writer.write_table(pa.Table.from_pylist(taken, schema))


def _refuse_cell(reading: Reading, path: Path, cell: Any, names: dict[int, str]) -> None:
    """Refuse a value that is an error, or stands below no name."""
    if cell.data_type == "e":
        raise reading.error(
            path,
            f"{cell.coordinate} is an error, {cell.value}",
            "fix the formula, or leave the column out by params.range",
        )
    if cell.column not in names:
        raise reading.error(
            path,
            f"{cell.coordinate} has a value, and its column has no name",
            "name the column in the first row, or write params.range",
        )


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


def _type(reading: Reading, column: _Column) -> str:
    """Return DuckDB's type of the column's texts: that of all of its cells.

    Raises:
        EngineError: cells are of two kinds, or no type keeps them.
    """
    if len(column.kinds) > 1:
        one, other = list(column.kinds.values())[:2]
        raise EngineError(
            f"{reading.source.id}: column {column.name!r}:"
            f" {reading.label(one.file)} {one.place} is {_kind(one.value)},"
            f" {reading.label(other.file)} {other.place} is {_kind(other.value)}",
            "declare the column as string, or fix the cell",
        )
    kind = next(iter(column.kinds), "")
    match kind:
        case "":
            return "INTEGER"
        case "true or false":
            return "BOOLEAN"
        case "a number" if column.all_whole:
            if column.least >= -(2**63) and column.greatest < 2**63:
                return "BIGINT"
            if max(-column.least, column.greatest) < _MOST:
                return "DECIMAL(38, 0)"
        case "a number":
            if max(-column.least, column.greatest) <= _EXACT:
                return "DOUBLE"
        case "a date":
            return "DATE" if column.all_midnight else "TIMESTAMP"
        case "a time of day":
            return "TIME"
        case "text":
            return "VARCHAR"
    raise EngineError(
        f"{reading.source.id}: column {column.name!r} holds {kind or 'values'} that no type keeps",
        "declare the column as string",
    )


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


def _check(
    reading: Reading, table: _Table, number: int, column: _Column, kind: DeclaredType
) -> None:
    """Refuse a value that does not fit its declared type."""
    from openpyxl.utils import get_column_letter

    name = f"c{number}"
    bad = exact.is_bad(name, exact.convert(name, kind))
    found = reading.cursor.execute(
        f"SELECT {name}, _file, _row FROM ({table.sql}) WHERE {bad} LIMIT 1"
    ).fetchall()
    for text, file, row in found:
        path = Path(file)
        letter = get_column_letter(table.numbers[path][column.name.casefold()])
        why, hint = exact.reason(kind, text)
        raise reading.error(path, f"{letter}{row}, column {column.name!r}: {why}", hint)


def _inside(edges: Sequence[Any], box: Sequence[Any]) -> bool:
    """Whether two rectangles of cells meet; no box is everything."""
    if not box:
        return True
    left, top, right, bottom = edges
    return bool(left <= box[2] and right >= box[0] and top <= box[3] and bottom >= box[1])
