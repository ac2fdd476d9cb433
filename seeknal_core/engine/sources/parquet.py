"""Reading Parquet files.

Files of a glob must have the same columns, in any order; types may differ where the
wider one keeps every value. What DuckDB would read as something else (a decimal of
more than 38 digits as a double, a duration as a number) is refused. A column that is
declared as another type than its own is converted exactly, or the value is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.options import nearest
from seeknal_core.engine import quoting
from seeknal_core.engine.columns import is_declared
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources import exact
from seeknal_core.engine.sources.common import Reading
from seeknal_core.engine.sources.parquet_types import agree, lost
from seeknal_core.project.formats import ParquetParams
from seeknal_core.project.formats.declared import DeclaredType, parse

_UNFIT = "seeknal-unfit-value:"


def store(reading: Reading) -> Output:
    """Store the rows of Parquet files."""
    schemas = _schemas(reading)
    schema = _agreed(reading, schemas)
    for path, own in schemas:
        try:
            _check_int96(reading, path, own)
        except (pa.ArrowException, ValueError, OSError) as error:
            message = f"cannot be read: {_first_line(error)}"
            raise reading.error(path, message, "fix the file, or leave it out") from None
    declared = _declared(reading, schemas)
    alike = all(other.equals(schema) for _, other in schemas)
    options = f"union_by_name = {'false' if alike else 'true'}, hive_partitioning = false"
    scan = f"read_parquet({quoting.paths(map(str, reading.paths))}, {options}, filename = '_file')"
    files = [(str(path), reading.label(path)) for path in reading.paths]
    chosen = "* EXCLUDE (_file)"
    if declared:
        values = ", ".join(
            f"{_checked(name, kind)} AS {quoting.identifier(name)}"
            for name, kind in declared.items()
        )
        chosen += f" REPLACE ({values})"
    for name, sql in reading.extra_columns(files, schema.names):
        chosen += f", {sql} AS {quoting.identifier(name)}"
    try:
        return reading.store(f"SELECT {chosen} FROM {scan}")
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        if _UNFIT in str(error):
            raise _unfit(reading, declared) from None
        raise reading.unreadable(error, "fix the file, or leave it out") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _schemas(reading: Reading) -> list[tuple[Path, pa.Schema]]:
    found = []
    for path in reading.paths:
        try:
            schema = pq.read_schema(path)
            names = [name.casefold() for name in schema.names]
        except FileNotFoundError:
            raise
        # Names that are not UTF-8 are a ValueError.
        except (pa.ArrowException, ValueError, OSError) as error:
            message = f"is no Parquet file: {_first_line(error)}"
            raise reading.error(path, message, "fix the file, or leave it out") from None
        for name in schema.names:
            if names.count(name.casefold()) > 1:
                message = f"has more than one column named {name!r}, letter case aside"
                raise reading.error(path, message, "write the file with one name each")
        for field in schema:
            problem = lost(field.type)
            if problem is not None:
                message = f"column {field.name!r} is {field.type}, {problem[0]}"
                raise reading.error(path, message, problem[1])
        found.append((path, schema))
    return found


def _agreed(reading: Reading, schemas: Sequence[tuple[Path, pa.Schema]]) -> pa.Schema:
    """Return the first file's schema, which all others agree with.

    Raises:
        EngineError: one doesn't; both files are named.
    """
    assert isinstance(reading.params, ParquetParams)
    loose = reading.params.union_by_name
    first_path, first = schemas[0]
    kinds = {field.name.casefold(): [(field, first_path)] for field in first}
    for path, schema in schemas[1:]:
        if schema.equals(first):
            continue
        here = {field.name.casefold(): field for field in schema}
        for key, field in here.items():
            if key not in kinds and not loose:
                raise _missing(reading, field.name, first_path, path, first.names)
            seen = kinds.setdefault(key, [])
            for other, where in seen:
                if not agree(other.type, field.type, loose=loose):
                    raise EngineError(
                        f"{reading.source.id}: column {field.name!r} is {other.type} in"
                        f" {reading.label(where)} and {field.type} in {reading.label(path)}",
                        "write the files with one type, or make two sources of them",
                    )
            if all(other.type != field.type for other, _ in seen):
                seen.append((field, path))
        for key, seen in kinds.items():
            if key not in here and not loose:
                raise _missing(reading, seen[0][0].name, path, seen[0][1], schema.names)
    return pa.schema([seen[0][0] for seen in kinds.values()])


def _missing(
    reading: Reading, name: str, without: Path, having: Path, names: Sequence[str]
) -> EngineError:
    guess = nearest(name, names)
    return EngineError(
        f"{reading.source.id}: {reading.label(without)} has no column {name!r}, which"
        f" {reading.label(having)} has" + (f" ({guess})" if guess else ""),
        "write params: {union_by_name: true} to read what is missing as NULL",
    )


def _check_int96(reading: Reading, path: Path, schema: pa.Schema) -> None:
    """Refuse nanoseconds in timestamps of the old form, which DuckDB reads to the microsecond."""
    old = [field.name for field in schema if field.type == pa.timestamp("ns")]
    if not old:
        return
    import pyarrow.compute as pc

    with (
        pq.ParquetFile(path) as file,
        pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as coarse,
    ):
        columns = [file.schema.column(number) for number in range(len(file.schema))]
        old = [c.path for c in columns if c.physical_type == "INT96" and c.path in old]
        for group in range(file.num_row_groups if old else 0):
            fine = file.read_row_group(group, columns=old)
            rough = coarse.read_row_group(group, columns=old)
            for name in old:
                # Beyond the years that 64 bits of nanoseconds hold nothing can be compared.
                micros = rough[name].cast(pa.int64())
                held = pc.less(pc.abs(micros), 9_223_372_036_854_775)
                again = pc.multiply(pc.if_else(held, micros, 0), 1000)
                same = pc.or_(pc.invert(held), pc.equal(again, fine[name].cast(pa.int64())))
                if not pc.all(same).as_py():
                    message = f"column {name!r} holds nanoseconds in timestamps of type INT96"
                    hint = "write them as TIMESTAMP(NANOS), or to the microsecond"
                    raise reading.error(path, message, hint)


def _declared(
    reading: Reading, schemas: Sequence[tuple[Path, pa.Schema]]
) -> dict[str, DeclaredType]:
    """Return the columns that are declared as another type than they have."""
    wanted = {
        column.name.casefold(): column.dtype
        for column in reading.source.columns
        if column.dtype is not None
    }
    found: dict[str, DeclaredType] = {}
    for _, schema in schemas:
        for field in schema:
            dtype = wanted.get(field.name.casefold())
            if dtype is not None and not is_declared(dtype, _plain(field.type)):
                found.setdefault(field.name, parse(dtype))
    return found


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.string() if pa.types.is_large_string(kind) else kind


def _text(name: str) -> str:
    column = quoting.identifier(name)
    kind = f"typeof({column})"
    nested = f"{kind} LIKE '%]' OR {kind} LIKE 'STRUCT(%' OR {kind} LIKE 'MAP(%'"
    return (
        f"CASE WHEN {nested} THEN CAST(to_json({column}) AS VARCHAR)"
        f" ELSE CAST({column} AS VARCHAR) END"
    )


def _checked(name: str, kind: DeclaredType) -> str:
    value = exact.checked("plain", kind, exact.convert("plain", kind), _UNFIT)
    return f"list_transform([{_text(name)}], lambda plain: {value})[1]"


def _unfit(reading: Reading, declared: dict[str, DeclaredType]) -> EngineError:
    """Find the first value that does not fit its declared type."""
    for path in reading.paths:
        options = "hive_partitioning = false, file_row_number = true"
        scan = f"read_parquet({quoting.paths([str(path)])}, {options})"
        names = {name.casefold() for name in pq.read_schema(path).names}
        for name, kind in declared.items():
            if name.casefold() not in names:
                continue
            bad = exact.is_bad("plain", exact.convert("plain", kind))
            found = reading.cursor.execute(
                f"SELECT file_row_number + 1, plain FROM"
                f" (SELECT {_text(name)} AS plain, file_row_number FROM {scan})"
                f" WHERE {bad} LIMIT 1"
            ).fetchall()
            for row, value in found:
                why, hint = exact.reason(kind, value)
                return reading.error(path, f"row {row}, column {name!r}: {why}", hint)
    return EngineError(f"{reading.source.id}: a value does not fit its declared type", "")
