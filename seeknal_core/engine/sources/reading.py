"""What a file type's reader is given, and what readers share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import duckdb

from seeknal_core.engine import parquet
from seeknal_core.engine.files import ResolvedFiles, check_rows
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.quoting import text
from seeknal_core.engine.snapshots import Staging
from seeknal_core.errors import EngineError
from seeknal_core.formats import FileParams
from seeknal_core.specs import SourceNode


@attrs.frozen(kw_only=True)
class Reading:
    """One reading of a source's files into a staging folder.

    ``params`` is of the class that `seeknal_core.formats` has for the source's type.
    ``cursor`` belongs to an instance that runs no user's SQL and may open any file.
    """

    source: SourceNode
    params: FileParams
    files: ResolvedFiles
    staging: Staging
    cursor: duckdb.DuckDBPyConnection

    @property
    def paths(self) -> Sequence[Path]:
        """The files, in the order in which their rows are stored."""
        return self.files.files

    def label(self, path: Path) -> str:
        """Return a file as messages name it."""
        return self.files.labels[self.files.files.index(path)]

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

    def unreadable(self, error: duckdb.Error, hint: str) -> EngineError:
        """Return DuckDB's error about a file in our form: the file first, no absolute path."""
        found = str(error)
        named = [path for path in self.paths if str(path) in found]
        lines = [part.strip() for part in found.partition(": ")[2].splitlines() if part.strip()]
        message = lines[0] if lines else found.splitlines()[0]
        for path in self.paths:
            message = message.replace(str(path), path.name)
        return self.error((named or list(self.paths))[0], message[:300], hint)


def struct(pairs: Sequence[tuple[str, str]]) -> str:
    """Write a struct of texts: ``{'name': 'kind'}``."""
    return "{" + ", ".join(f"{text(name)}: {text(kind)}" for name, kind in pairs) + "}"
