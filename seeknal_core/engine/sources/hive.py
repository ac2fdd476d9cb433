"""Columns that the folders of a path give: ``year=2024/month=01/data.parquet``.

Only folders below the fixed part of the written path count, so that the place where a
project lies adds nothing, and the same files give the same columns from everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote_to_bytes

import attrs
import duckdb

from seeknal_core.contract.errors import ConfigError, EngineError, Problem
from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.engine.quoting import text
from seeknal_core.engine.sources import exact
from seeknal_core.project.formats.declared import parse
from seeknal_core.project.specs import SourceNode

#: What Hive writes for NULL (``hive.exec.default.partition.name``).
_NULL = "__HIVE_DEFAULT_PARTITION__"
_KEY = re.compile(r"([^=]+)=(.*)", re.DOTALL)


@attrs.frozen(kw_only=True)
class PathColumn:
    """A column whose value is the same in all rows of a file.

    ``values`` has one for each file of the source; ``dtype`` is a declared type or None.
    """

    name: str
    values: tuple[str | None, ...]
    dtype: str | None = None

    def sql(self, file: str, paths: Sequence[str]) -> str:
        """Write the SQL of the value in a row.

        Args:
            file: an expression of the path of the row's file, as in `paths`.
            paths: the files of the source.
        """
        found = value_of_file(file, paths, self.values)
        return found if self.dtype is None else exact.convert(f"({found})", parse(self.dtype))


def value_of_file(file: str, paths: Sequence[str], values: Sequence[str | None]) -> str:
    """Write the SQL of what a file's rows have, given one value for each file."""
    unique = list(dict.fromkeys(values))
    if len(unique) == 1:
        return f"CAST({_literal(unique[0])} AS VARCHAR)"
    listed = ", ".join(map(_literal, unique))
    index = {value: position for position, value in enumerate(unique, 1)}
    positions = ", ".join(str(index[value]) for value in values)
    # The code of an enum is found by hash, a place in a list by looking at each.
    kind = f"ENUM({', '.join(text(path) for path in paths)})"
    at = f"list_extract([{positions}], CAST(enum_code(CAST({file} AS {kind})) AS BIGINT) + 1)"
    return f"list_extract([{listed}], {at})"


def path_columns(
    source: SourceNode,
    hive: bool | None,
    files: ResolvedFiles,
    cursor: duckdb.DuckDBPyConnection,
) -> tuple[PathColumn, ...]:
    """Return the columns that the paths of a source's files give.

    Args:
        hive: what the source says; None if it says nothing.

    Raises:
        ConfigError: there are such folders, and nobody said what they are.
        EngineError: the files do not have the same ones, or a value is not of the type declared.
    """
    if not decided(source, hive, files):
        return ()
    first: Mapping[str, str | None] | None = None
    rows = []
    for label, folders in zip(files.labels, files.folders, strict=True):
        found = _keys(source, label, folders)
        if first is None:
            first = found
        elif list(found) != list(first):
            raise EngineError(
                f"{source.id}: {files.labels[0]} lies below {_named(first)},"
                f" {label} below {_named(found)}",
                "name files by a path that has the same key=value folders for all",
            )
        rows.append(found)
    declared = {column.name.casefold(): column.dtype for column in source.columns}
    columns = tuple(
        PathColumn(
            name=name,
            values=tuple(row[name] for row in rows),
            dtype=declared.get(name.casefold()),
        )
        for name in first or ()
    )
    for column in columns:
        _check_type(source, column, files, cursor)
    return columns


def decided(source: SourceNode, hive: bool | None, files: ResolvedFiles) -> bool:
    """Return whether ``key=value`` folders are columns.

    Raises:
        ConfigError: there are such folders, and nobody said what they are.
    """
    written = source.table or str(source.params.get("path", ""))
    if hive is not None:
        return hive
    if any(_KEY.fullmatch(part) and re.search(r"[*?\[]", part) for part in _parts(written)[:-1]):
        return True
    folder = next(
        (part for folders in files.folders for part in folders if _KEY.fullmatch(part)), None
    )
    if folder is None:
        return False
    place = source.location
    raise ConfigError(
        [
            Problem(
                f"{written} finds folders like {folder!r}, which may be columns",
                place.file,
                place.line,
                place.column,
                f"{source.id}.params.hive",
                "write params: {hive: true} to read them as columns, {hive: false} to pass over"
                " them",
            )
        ]
    )


def check_clash(
    source: SourceNode, columns: Sequence[PathColumn], names: Sequence[str], example: str
) -> None:
    """Refuse a column that stands in a file and in its path.

    Args:
        names: the columns of the files.
        example: the label of a file, for the message.
    """
    own = {name.casefold(): name for name in names}
    for column in columns:
        if column.name.casefold() in own:
            raise EngineError(
                f"{source.id}: column {own[column.name.casefold()]!r} stands in the files and in"
                f" their path ({example})",
                "write params: {hive: false} to read the files' own",
            )


def _keys(source: SourceNode, label: str, folders: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for folder in folders:
        match = _KEY.fullmatch(folder)
        if match is None:
            continue
        key, value = (_unescaped(source, label, part) for part in match.groups())
        if key.casefold() in {name.casefold() for name in found}:
            raise EngineError(
                f"{source.id}: {label} has a folder for {key!r} twice", "move the file"
            )
        found[key] = None if value == _NULL else value
    return found


def _unescaped(source: SourceNode, label: str, part: str) -> str:
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise EngineError(
            f"{source.id}: {label}: the folder {part!r} is no UTF-8 when unescaped",
            "rename the folder",
        ) from None


def _check_type(
    source: SourceNode,
    column: PathColumn,
    files: ResolvedFiles,
    cursor: duckdb.DuckDBPyConnection,
) -> None:
    if column.dtype is None:
        return
    kind = parse(column.dtype)
    for value in dict.fromkeys(column.values):
        if value is None:
            continue
        fits = f"SELECT {exact.convert(text(value), kind)} IS NOT NULL"
        if cursor.execute(fits).fetchall() == [(False,)]:
            label = files.labels[column.values.index(value)]
            why, _ = exact.reason(kind, value)
            raise EngineError(
                f"{source.id}: {label}: column {column.name!r}: {why}",
                "rename the folder, or declare the column as another type",
            )


def _named(keys: Mapping[str, object]) -> str:
    return "/".join(f"{key}=…" for key in keys) or "no key=value folder"


def _parts(written: str) -> tuple[str, ...]:
    return PurePosixPath(written).parts


def _literal(value: str | None) -> str:
    return "NULL" if value is None else text(value)
