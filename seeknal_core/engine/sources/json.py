"""Reading JSON and JSON lines files.

Every record is looked at before a type is chosen, so that no key is missed and no
value is changed: `json_shapes` finds what there is. Then the rows are read:

- *plainly* where DuckDB's own reader keeps every value;
- with *marked* numbers (`json_numbers`) where a number has more digits than a double
  keeps, or a declared type needs the number as it is written.

Text that DuckDB takes for a date, a time or a UUID becomes one only where all values
are written in the usual way; else the column stays text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import attrs
import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine import quoting
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources import exact
from seeknal_core.engine.sources import json_numbers as numbers
from seeknal_core.engine.sources import json_places as places
from seeknal_core.engine.sources import json_shapes as shapes
from seeknal_core.engine.sources.common import (
    Reading,
    bad_rows_note,
    check_formats,
    check_gzip,
    struct,
)
from seeknal_core.engine.sources.json_shapes import Items, Leaf, Members, Scalar, Shape
from seeknal_core.engine.sources.json_shapes import Path as Place
from seeknal_core.engine.sources.merged import merged
from seeknal_core.project.formats import JsonParams, OnBadRows
from seeknal_core.project.formats.declared import DeclaredType, parse, plain

#: The longest record, in bytes, as it mostly is and as it may be. DuckDB reads two of them
#: at a time into memory, for each thread.
_MOSTLY_LONGEST, _LONGEST = 16 * 2**20, 1_000_000_000
_TOO_LONG = '"maximum_object_size" of'

_DATE = r"\d{4}-\d{1,2}-\d{1,2}"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?"
_ZONE = r" ?(Z|[+-]\d{2}(:?\d{2})?)"
#: How text must be written to become the type that DuckDB takes it for.
_USUAL: Mapping[str, str] = {
    "DATE": _DATE,
    "TIME": _CLOCK,
    "TIMESTAMP": f"{_DATE}[ T]{_CLOCK}",
    "TIMESTAMP WITH TIME ZONE": f"{_DATE}[ T]{_CLOCK}{_ZONE}",
    "UUID": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}
#: Begins the errors that our own SQL raises, before the number of a place.
_UNUSUAL = "seeknal-unusual-text:"
_UNFIT = "seeknal-unfit-value:"
_HOLDS_MARK = "seeknal-mark"
_TABLE = "_seeknal_records"
_SHOWN_BAD = 3
#: The params that say how dates and times are written.
_FORMATTED = ("date_format", "timestamp_format")

#: Declared types that are kept by what DuckDB finds, so that nothing needs to be looked at.
_SAME: Mapping[str, str] = {"integer": "BIGINT", "string": "VARCHAR", "boolean": "BOOLEAN"}
#: What DuckDB's reader gives as the text that stands in the file, but for quotes.
_PLAIN_TEXT = frozenset({"BIGINT", "VARCHAR", "BOOLEAN", "NULL", *_USUAL})


def store(reading: Reading) -> Output:
    """Store the rows of JSON files."""
    lines = reading.source.type == "jsonl"
    keys: Sequence[object] = list(
        zip(*(column.values for column in reading.path_columns), strict=True)
    )
    if reading.params.filename:
        keys = reading.files.labels
    keys = keys or [None] * len(reading.paths)
    for path in reading.paths:
        if path.suffix == ".gz":
            check_gzip(reading, path)
    try:
        with merged(reading.paths, keys, reading.staging.path.parent, lines=lines) as files:
            named = [(str(path), reading.label(file)) for path, file in files]
            try:
                return _Json(reading, named, longest=_MOSTLY_LONGEST).store()
            except duckdb.InvalidInputException as error:
                if _TOO_LONG not in str(error):
                    raise
            reading.staging.file().unlink(missing_ok=True)
            return _Json(reading, named, longest=_LONGEST).store()
    except duckdb.NotImplementedException as error:
        raise places.twins(reading, error) from None
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise places.unreadable(reading, error) from None


def _kind_of_format(field: str, format: str | None) -> DeclaredType:
    """Return the type of values that are written in a format."""
    if field == "date_format":
        return plain("date")
    return plain("timestamptz" if exact.has_offset(format or "") else "timestamp")


@attrs.define
class _Json:
    """One reading of JSON files.

    ``files`` are paths and labels of the reading's own, or of merged ones; no record of
    theirs is longer than ``longest`` bytes.

    ``declared`` are the places that are converted to a declared type; ``marked`` says
    whether that, or a long number, needs numbers to be marked. ``texts`` are the places whose text is not written like the type that DuckDB took
    it for, ``known`` all places that an error of our SQL may name by number.
    """

    reading: Reading
    files: Sequence[tuple[str, str]]
    longest: int
    declared: dict[Place, DeclaredType] = attrs.field(factory=dict)
    marked: bool = False
    texts: set[Place] = attrs.field(factory=set)
    known: list[Place] = attrs.field(factory=list)

    def store(self) -> Output:
        shape = shapes.discover(self.reading.cursor, self._scan)
        objects, long, null = self._look(shape)
        if not isinstance(shape, Members):
            return self._without_keys(objects)
        if null:
            raise places.not_an_object(self.reading)
        self.marked = long
        check_formats(self.reading, self._params, [name for name, _ in shape.members])
        shape = self._declare(shape)
        self.known = [path for path, _ in shapes.scalars(shape)]
        self._find_formatted(shape)
        if not self.marked:
            output = self._retried(lambda: self._plain(shape))
            return self._noted(output, shape, f"SELECT * FROM ({self._rows(shape)})")
        # DuckDB's reader refuses a key that an object has twice, json_transform doesn't.
        self.reading.cursor.execute(f"SELECT sum(hash(COLUMNS(*))) FROM ({self._rows(shape)})")
        try:
            return self._noted(self._marked(shape), shape, f"SELECT r FROM {_TABLE}")
        finally:
            self.reading.cursor.execute(f"DROP TABLE IF EXISTS {_TABLE}")

    # --- what there is

    def _look(self, shape: Shape) -> tuple[bool, bool, bool]:
        """Look at the text of all records.

        Returns:
            Whether all are objects, whether one may hold a number that a double cannot
            keep, and whether one is null.
        """
        kinds = {scalar.kind for _, scalar in shapes.scalars(shape)}
        lost = numbers.holds_long_number("json") if kinds & {"DOUBLE", "JSON"} else "false"
        found = self.reading.cursor.execute(
            "SELECT coalesce(bool_and(starts_with(json, '{')), true),"
            f" coalesce(bool_or({lost}), false),"
            f" coalesce(bool_or(json = 'null'), false) FROM ({self._records()})"
        ).fetchall()
        objects, long, null = found[0]
        return bool(objects), bool(long), bool(null)

    def _declare(self, shape: Members) -> Members:
        """Note what must be read as another type than DuckDB finds, and return its shape."""
        wanted = {
            column.name.casefold(): parse(column.dtype)
            for column in self.reading.source.columns
            if column.dtype is not None
        }
        return Members(
            tuple(
                (name, self._declared_or_formatted(found, wanted.get(name.casefold()), name))
                for name, found in shape.members
            )
        )

    def _declared_or_formatted(self, found: Shape, kind: DeclaredType | None, name: str) -> Shape:
        """Note a column's declared type, or the one that a format for just it means."""
        if kind is not None:
            return self._declared(found, kind, (name,))
        for field in _FORMATTED:
            format, own = self._params.format_of(field, name)
            if own:
                return self._with_format(found, _kind_of_format(field, format), (name,), field)
        return found

    def _with_format(self, found: Shape, kind: DeclaredType, path: Place, field: str) -> Shape:
        if isinstance(found, Items):
            return Items(self._with_format(found.item, kind, (*path, "[]"), field))
        if isinstance(found, Scalar):
            return self._declared(found, kind, path)
        name = path[0]
        raise EngineError(
            f"{self.reading.source.id}: params.{field} names {name!r}, which holds objects",
            f"declare {name!r} as struct(…) with the types of its keys, or write one format for"
            " all columns",
        )

    def _find_formatted(self, shape: Members) -> None:
        """Note the texts that all are written in the format of dates or times for all columns."""
        params = self._params
        for field in _FORMATTED:
            format = getattr(params, field)
            if not isinstance(format, str):
                continue
            kind = _kind_of_format(field, format)
            forms = self._forms(("",))
            fit = exact.convert("t", kind, forms)
            taken = [
                path
                for path, scalar in shapes.scalars(shape)
                if path not in self.declared and (scalar.kind == "VARCHAR" or scalar.kind in _USUAL)
            ]
            if not taken:
                continue
            tests = []
            for path in taken:
                texts = self._listed(shape, path)
                given = f"list_filter({texts}, lambda t: t IS NOT NULL)"
                unfit = f"list_filter({given}, lambda t: ({fit}) IS NULL)"
                tests.append(
                    f"bool_or(len({given}) > 0) AND bool_and(coalesce(len({unfit}), 0) = 0)"
                )
            found = self.reading.cursor.execute(
                f"SELECT {', '.join(tests)} FROM ({self._rows(shape)})"
            ).fetchone()
            for path, fits in zip(taken, found or (), strict=True):
                if fits:
                    self.declared[path] = kind

    def _forms(self, path: Place) -> exact.Forms:
        """Return how dates and times of a column are written."""
        date, stamp = (self._params.format_of(field, path[0])[0] for field in _FORMATTED)
        return exact.Forms(date_format=date, timestamp_format=stamp)

    @property
    def _params(self) -> JsonParams:
        assert isinstance(self.reading.params, JsonParams)
        return self.reading.params

    # --- values that do not fit

    def _listed(self, shape: Members, path: Place, record: str = "") -> str:
        """Write the list of the texts at a place, of a row or of what a record was read as."""
        if record:
            return shapes.listed(record, shape, path)
        name, *rest = path
        member = dict(shape.members)[name]
        return shapes.listed(quoting.identifier(name), member, tuple(rest))

    def _bad(self, shape: Members) -> list[tuple[Place, str]]:
        """Write, for each place of a declared type, the list of texts that do not fit it."""
        if self._params.on_bad_rows is OnBadRows.FAIL:
            return []
        found = []
        for path, kind in self.declared.items():
            if kind.name == "string":
                continue
            texts = self._listed(shape, path, "r" if self.marked else "")
            if self.marked:
                plain = numbers.unmarked_text("m")
                texts = f"list_transform({texts}, lambda m: {plain})"
            unfit = exact.is_bad("plain", exact.convert("plain", kind, self._forms(path)))
            found.append((path, f"list_filter({texts}, lambda plain: {unfit})"))
        return found

    def _kept(self, shape: Members) -> str:
        """Write the condition of the rows that are not left out."""
        bad = self._bad(shape)
        if not bad or self._params.on_bad_rows is not OnBadRows.SKIP:
            return ""
        return " WHERE " + " AND ".join(f"coalesce(len({texts}), 0) = 0" for _, texts in bad)

    def _noted(self, output: Output, shape: Members, rows: str) -> Output:
        """Add to the output how many rows were left out, or values made NULL, and some of them."""
        bad = self._bad(shape)
        if not bad:
            return output
        firsts = ", ".join(f"({texts})[1]" for _, texts in bad)
        any_bad = " OR ".join(f"coalesce(len({texts}), 0) > 0" for _, texts in bad)
        found = self.reading.cursor.execute(
            f"SELECT count(*) OVER (), {firsts} FROM ({rows}) WHERE {any_bad} LIMIT {_SHOWN_BAD}"
        ).fetchall()
        if not found:
            return output
        first = [
            next(
                (path, text) for (path, _), text in zip(bad, texts, strict=True) if text is not None
            )
            for _, *texts in found
        ]
        said = places.bad_rows(self.reading, first, self.declared, self._forms)
        note = bad_rows_note(found[0][0], self._params.on_bad_rows, said)
        return attrs.evolve(output, notes=(*output.notes, note))

    def _declared(self, found: Shape, kind: DeclaredType | None, path: Place) -> Shape:
        if kind is None or found == Scalar(_SAME.get(kind.name, "")):
            return found
        if kind.name == "float" and found == Scalar("DOUBLE") and not self.marked:
            return found
        if kind.element is not None and isinstance(found, Items):
            return Items(self._declared(found.item, kind.element, (*path, "[]")))
        if kind.name == "struct" and isinstance(found, Members):
            return self._declared_members(found, kind, path)
        self.declared[path] = kind
        if not isinstance(found, Scalar) or found.kind not in _PLAIN_TEXT:
            self.marked = True
        return Scalar("JSON")

    def _declared_members(self, found: Members, kind: DeclaredType, path: Place) -> Shape:
        keys = {name.casefold(): (name, member) for name, member in found.members}
        members: list[tuple[str, Shape]] = []
        for name, member in kind.members:
            key, shape = keys.pop(name.casefold(), (name, Scalar("NULL")))
            members.append((key, self._declared(shape, member, (*path, key))))
        for key, _ in keys.values():
            raise places.undeclared(self.reading, (*path, key), kind)
        return Members(tuple(members))

    def _digits(self, shape: Members) -> dict[Place, numbers.Digits]:
        lists = {
            path: shapes.listed("r", shape, path)
            for path, scalar in shapes.scalars(shape)
            if scalar.kind == "DOUBLE"
        }
        return numbers.count_digits(self.reading.cursor, f"SELECT r FROM {_TABLE}", lists)

    # --- rows

    def _plain(self, shape: Members) -> Output:
        chosen = shapes.converted_members(shape, self._plain_leaf, quoting.identifier)
        chosen += self._extra([name for name, _ in shape.members])
        return self.reading.store(f"SELECT {chosen} FROM ({self._rows(shape)}){self._kept(shape)}")

    def _marked(self, shape: Members) -> Output:
        try:
            self.reading.cursor.execute(
                f"CREATE OR REPLACE TEMP TABLE {_TABLE} AS {self._transformed(shape)}"
            )
        except duckdb.InvalidInputException as error:
            self._refuse(error)
            raise
        digits = self._digits(shape)

        def leaf(path: Place, scalar: Scalar) -> Leaf:
            return self._marked_leaf(path, scalar, digits)

        def rows() -> Output:
            chosen = shapes.converted_members(
                shape, leaf, lambda name: f"struct_extract(r, {quoting.text(name)})"
            )
            chosen += self._extra([name for name, _ in shape.members])
            return self.reading.store(f"SELECT {chosen} FROM {_TABLE}{self._kept(shape)}")

        return self._retried(rows)

    def _without_keys(self, objects: bool) -> Output:
        """Store records that have no key, as one column of JSON texts."""
        if not objects:
            raise places.not_an_object(self.reading)
        records = self._records()
        empty_key = f"SELECT 1 FROM ({records}) WHERE list_contains(json_keys(json), '') LIMIT 1"
        if self.reading.cursor.execute(empty_key).fetchall():
            raise places.nameless(self.reading)
        if self.reading.cursor.execute(f"SELECT 1 FROM ({records}) LIMIT 1").fetchall():
            chosen = f"CAST(json AS JSON) AS json{self._extra(['json'])}"
            return self.reading.store(f"SELECT {chosen} FROM ({records})")
        of_path = {column.name.casefold() for column in self.reading.path_columns}
        declared = [
            column
            for column in self.reading.source.columns
            if column.dtype is not None and column.name.casefold() not in of_path
        ]
        kinds = [
            f"CAST(NULL AS {parse(column.dtype or '').sql}) AS {quoting.identifier(column.name)}"
            for column in declared
        ]
        if not kinds:
            raise EngineError(
                f"{self.reading.source.id}: {self.reading.label(self.reading.paths[0])} holds no"
                " record",
                "write schema: [{name: id, data_type: integer}] with the type of each column, so "
                "that a file without records has columns",
            )
        chosen = ", ".join(kinds) + self._extra([column.name for column in declared])
        return self.reading.store(f"SELECT {chosen} FROM (SELECT '' AS _file) WHERE false")

    def _retried(self, attempt: Callable[[], Output]) -> Output:
        """Store rows, again where a text turns out not to be what it was taken for."""
        while True:
            try:
                return attempt()
            except duckdb.InvalidInputException as error:
                place = self._place(_UNUSUAL, error)
                if place is None:
                    self._refuse(error)
                    raise
                self.texts.add(place)
                self.reading.staging.file().unlink(missing_ok=True)

    def _refuse(self, error: duckdb.Error) -> None:
        """Raise our own error where one of our checks failed."""
        if _HOLDS_MARK in str(error):
            raise EngineError(
                f"{self.reading.source.id}: a record holds the noncharacter U+FDD0",
                "remove it, it is reserved for internal use by programs (Unicode 23.7)",
            )
        place = self._place(_UNFIT, error)
        if place is not None:
            value = str(error).partition(_UNFIT)[2].partition(":")[2]
            forms = self._forms(place)
            raise places.unfit(self.reading, place, self.declared[place], value, forms)

    def _place(self, marker: str, error: duckdb.Error) -> Place | None:
        found = re.search(re.escape(marker) + r"(\d+)", str(error))
        return None if found is None else self.known[int(found.group(1))]

    # --- leaves

    def _plain_leaf(self, path: Place, scalar: Scalar) -> Leaf:
        if path in self.declared:
            return self._declared_leaf(path)
        if scalar.kind not in _USUAL:
            # A key that is always null: of what type, nobody knows.
            return Leaf(read="INTEGER" if scalar.kind == "NULL" else scalar.kind)
        if path in self.texts:
            return Leaf(read="VARCHAR")
        number = self.known.index(path)
        pattern = quoting.text(_USUAL[scalar.kind])
        return Leaf(
            read="VARCHAR",
            convert=lambda value: (
                f"CASE WHEN regexp_full_match({value}, {pattern})"
                f" THEN CAST({value} AS {scalar.kind})"
                f" WHEN {value} IS NOT NULL THEN error('{_UNUSUAL}{number}') END"
            ),
        )

    def _marked_leaf(
        self, path: Place, scalar: Scalar, digits: Mapping[Place, numbers.Digits]
    ) -> Leaf:
        match scalar.kind if path not in self.declared else "":
            case "DOUBLE":
                return numbers.number_leaf(digits[path])
            case "BIGINT" | "UBIGINT" | "HUGEINT" | "UHUGEINT":
                kind = "BIGINT" if scalar.kind == "BIGINT" else "DECIMAL(38, 0)"
                return Leaf(
                    read="VARCHAR",
                    convert=lambda value: f"CAST({numbers.unmarked(value)} AS {kind})",
                )
            case "JSON":
                return Leaf(
                    read="JSON",
                    convert=lambda value: f"CAST({numbers.unmarked_json(value)} AS JSON)",
                )
        return self._plain_leaf(path, scalar)

    def _declared_leaf(self, path: Place) -> Leaf:
        kind = self.declared[path]
        checked = value = exact.convert("plain", kind, self._forms(path))
        if self._params.on_bad_rows is OnBadRows.FAIL:
            mark = f"{_UNFIT}{self.known.index(path)}:"
            checked = exact.checked("plain", kind, value, mark)
        unmarked = numbers.unmarked_text if self.marked else str
        return Leaf(
            read="VARCHAR",
            # A list of one, so that the text is unmarked once.
            convert=lambda value: (
                f"list_transform([{unmarked(value)}], lambda plain: {checked})[1]"
            ),
        )

    # --- queries

    def _transformed(self, shape: Members) -> str:
        """Write the query for the records with marked numbers, as one column ``r``."""

        def leaf(path: Place, scalar: Scalar) -> Leaf:
            if scalar.kind == "DOUBLE":
                return numbers.number_leaf(numbers.Digits())
            return self._marked_leaf(path, scalar, {})

        marked = numbers.marked("json")
        if not self.declared:
            # A number that a double keeps is as good without its mark, and that is faster.
            marked = f"CASE WHEN {numbers.holds_long_number('json')} THEN {marked} ELSE json END"
        record = (
            f"CASE WHEN {numbers.holds_mark('json')} THEN error('{_HOLDS_MARK}') ELSE {marked} END"
        )
        structure = quoting.text(shapes.structure_of(shape, leaf))
        return f"SELECT json_transform({record}, {structure}) AS r, _file FROM ({self._records()})"

    def _records(self) -> str:
        """Write the query for the records' texts."""
        return (
            "SELECT ltrim(json, ' \t\r\n') AS json, filename AS _file"
            f" FROM read_json_objects({self._arguments()}, filename = true)"
        )

    def _extra(self, names: Sequence[str]) -> str:
        """Write the rest of a SELECT list: the columns that no file has."""
        found = self.reading.extra_columns(self.files, names)
        return "".join(f", {sql} AS {quoting.identifier(name)}" for name, sql in found)

    def _rows(self, shape: Members) -> str:
        """Write the query for the rows as DuckDB's own reader gives them."""
        pairs = [
            (name, shapes.type_of(member, self._plain_leaf, (name,)))
            for name, member in shape.members
        ]
        named = ", filename = '_file'" if self._extra([]) else ""
        return f"SELECT * FROM read_json({self._arguments()}, columns = {struct(pairs)}{named})"

    def _scan(self, options: str) -> str:
        return f"SELECT * FROM read_json({self._arguments()}, {options})"

    def _arguments(self) -> str:
        lines = self.reading.source.type == "jsonl"
        return (
            f"{quoting.paths(path for path, _ in self.files)},"
            f" format = '{'newline_delimited' if lines else 'auto'}',"
            f" maximum_object_size = {self.longest}, hive_partitioning = false"
        )
