"""What a file type's reader is given, and what readers share."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import attrs
import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.options import nearest
from seeknal_core.engine import parquet
from seeknal_core.engine.files.bounds import check_rows
from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.quoting import text
from seeknal_core.engine.snapshots import Staging
from seeknal_core.engine.sources import hive
from seeknal_core.engine.sources.hive import PathColumn
from seeknal_core.project.formats import FileParams, OnBadRows, TextParams
from seeknal_core.project.specs import SourceNode

#: Bytes read at once where a gzip file is checked.
_GZIP_BYTES = 2**20


@attrs.frozen(kw_only=True)
class Reading:
    """One reading of a source's files into a staging folder.

    ``params`` is of the class that `seeknal_core.project.formats` has for the source's type.
    ``cursor`` belongs to an instance that runs no user's SQL and may open any file.
    ``path_columns`` have a value for each of the files.
    """

    source: SourceNode
    params: FileParams
    files: ResolvedFiles
    staging: Staging
    cursor: duckdb.DuckDBPyConnection
    path_columns: tuple[PathColumn, ...] = ()
    _labels: dict[Path, str] = attrs.field(init=False, repr=False)

    @_labels.default
    def _label_of(self) -> dict[Path, str]:
        return dict(zip(self.files.files, self.files.labels, strict=True))

    @property
    def paths(self) -> Sequence[Path]:
        """The files, in the order in which their rows are stored."""
        return self.files.files

    def label(self, path: Path) -> str:
        """Return a file as messages name it."""
        return self._labels[path]

    def error(self, path: Path, message: str, hint: str, *, line: int = 0) -> EngineError:
        """Return the error for something wrong in a file, perhaps in one line of it."""
        where = self.label(path) + (f", line {line}" if line else "")
        return EngineError(f"{self.source.id}: {where}: {message}", hint)

    def store(self, query: str) -> Output:
        """Store a query's rows, in its order, and hold them to the source's ``max_rows``."""
        if self.source.max_rows is not None:
            query += f" LIMIT {self.source.max_rows + 1}"
        output = parquet.copy_query(self.source.id, self.cursor, query, self.staging)
        check_rows(self.source, output.row_count)
        return output

    def extra_columns(
        self, files: Sequence[tuple[str, str]], names: Sequence[str]
    ) -> list[tuple[str, str]]:
        """Return the columns that no file has, as pairs of name and SQL over ``_file``.

        Args:
            files: the path that ``_file`` names and the label of each file.
            names: the columns of the files.

        Raises:
            EngineError: a file has such a column itself.
        """
        hive.check_clash(self.source, self.path_columns, names, files[0][1])
        paths = [path for path, _ in files]
        position = {label: index for index, label in enumerate(self.files.labels)}
        result = []
        for column in self.path_columns:
            values = tuple(column.values[position[label]] for _, label in files)
            result.append((column.name, attrs.evolve(column, values=values).sql("_file", paths)))
        if self.params.filename:
            taken = [*names, *(column.name for column in self.path_columns)]
            if "filename" in {name.casefold() for name in taken}:
                raise EngineError(
                    f"{self.source.id}: the files have a column 'filename' themselves",
                    "leave params.filename out",
                )
            labels = [label for _, label in files]
            result.append(("filename", hive.value_of_file("_file", paths, labels)))
        return result

    def unreadable(self, error: duckdb.Error, hint: str) -> EngineError:
        """Return DuckDB's error about a file in our form: the file first, no absolute path."""
        found = str(error)
        named = [path for path in self.paths if str(path) in found]
        lines = [part.strip() for part in found.partition(": ")[2].splitlines() if part.strip()]
        message = lines[0] if lines else found.splitlines()[0]
        for path in self.paths:
            message = message.replace(str(path), path.name)
        return self.error((named or list(self.paths))[0], message[:300], hint)


def bad_rows_note(count: int, mode: OnBadRows, shown: Sequence[str]) -> str:
    """Return how many rows were left out, or have values made NULL, and show some."""
    rows = "1 row" if count == 1 else f"{count:,} rows"
    what = "left out" if mode is OnBadRows.SKIP else "with values made NULL"
    more = "; …" if count > len(shown) else ""
    return f"{rows} {what} (on_bad_rows: {mode.value}): {'; '.join(shown)}{more}"


def check_formats(reading: Reading, params: TextParams, names: Sequence[str]) -> None:
    """Refuse a format of dates for a column that the files do not have.

    Raises:
        EngineError: with the nearest name.
    """
    unknown = params.unknown_column(names)
    if unknown is not None:
        field, column = unknown
        hint = nearest(column, names) or f"the columns are {', '.join(names[:8])}"
        raise EngineError(
            f"{reading.source.id}: params.{field} names {column!r}, and there is no such column",
            hint,
        )


def check_gzip(reading: Reading, path: Path) -> None:
    """Refuse a damaged gzip file, for DuckDB doesn't look at its checksum.

    Raises:
        EngineError: the file is cut off, or holds other bytes than were packed.
    """
    try:
        with gzip.open(path) as stream:
            while stream.read(_GZIP_BYTES):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise reading.error(path, "is no whole gzip file", "fix the file") from None


def struct(pairs: Sequence[tuple[str, str]]) -> str:
    """Write a struct of texts: ``{'name': 'kind'}``."""
    return "{" + ", ".join(f"{text(name)}: {text(kind)}" for name, kind in pairs) + "}"
