"""The loop around all readers of files.

It checks the params and the free space, and reads again what changed meanwhile.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb

from seeknal_core.contract.errors import ConfigError, EngineError, OptionError
from seeknal_core.contract.options import nearest
from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.snapshots import Staging
from seeknal_core.engine.sources import csv, json, parquet, xlsx
from seeknal_core.engine.sources.common import Reading
from seeknal_core.engine.sources.hive import path_columns
from seeknal_core.project.formats import FileParams, read_params
from seeknal_core.project.specs import SourceNode

#: The readers by file type. To add a type: its params in `seeknal_core.project.formats`, its reader
#: here, its name in `seeknal_core.project.specs.FILE_TYPES`; a test holds the three together.
_READERS: Mapping[str, Callable[[Reading], Output]] = {
    "csv": csv.store,
    "json": json.store,
    "jsonl": json.store,
    "parquet": parquet.store,
    "xlsx": xlsx.store,
}

_TRIES = 3
_RECENT_SECONDS = 2.0

Translated = Callable[[str], AbstractContextManager[None]]


def read_files(
    source: SourceNode,
    files: ResolvedFiles,
    staging: Staging,
    cursor: duckdb.DuckDBPyConnection,
    translated: Translated,
) -> Output:
    """Store the rows of `files`, in the order of the files.

    Args:
        translated: turns DuckDB's errors into ours.

    Raises:
        ConfigError: a param that the type does not have, or of the wrong type.
        EngineError: a file cannot be read as what it should be, or kept changing.
    """
    params = _params(source)
    try:
        with files.opened(staging.path.parent) as opened:
            return _read(source, params, opened, staging, cursor, translated)
    except FileNotFoundError as error:
        raise EngineError(
            f"{source.id}: {Path(str(error.filename)).name} is gone", "try again"
        ) from None


def _read(
    source: SourceNode,
    params: FileParams,
    files: ResolvedFiles,
    staging: Staging,
    cursor: duckdb.DuckDBPyConnection,
    translated: Translated,
) -> Output:
    _check_space(source, files.files, staging.path)
    reading = Reading(
        source=source,
        params=params,
        files=files,
        staging=staging,
        cursor=cursor,
        path_columns=path_columns(source, params.hive, files, cursor),
    )
    for _ in range(_TRIES):
        try:
            recent = [_is_recent(path) for path in files.files]
            before = list(map(_signature, files.files, recent))
            with translated(source.id):
                output = _READERS[source.type](reading)
            _check_watermark(source, output.schema.names)
            if before == list(map(_signature, files.files, recent)):
                return output
        except RecursionError:
            raise EngineError(
                f"{source.id}: a record is nested too deeply",
                "write the file with less nesting",
            ) from None
        staging.file().unlink()
    raise EngineError(
        f"{source.id}: the files changed each time they were read",
        "wait until they are written",
    )


def _params(source: SourceNode) -> FileParams:
    """Return the params, expanded by now, in the class of the type."""
    try:
        return read_params(source.type, source.params, path=f"{source.id}.params")
    except OptionError as error:
        place = source.location
        raise ConfigError(
            [
                each._replace(file=place.file, line=place.line, column=place.column)
                for each in error.problems
            ]
        ) from None


def _check_watermark(source: SourceNode, names: Sequence[str]) -> None:
    column = source.watermark
    if column is not None and column.casefold() not in {name.casefold() for name in names}:
        raise EngineError(
            f"{source.id}: watermark names {column!r}, and there is no such column",
            nearest(column, names) or f"the columns are {', '.join(names[:8])}",
        )


def _is_recent(path: Path) -> bool:
    """Return whether a file may be written again without a new time stamp."""
    return time.time() - path.stat().st_mtime <= _RECENT_SECONDS


def _signature(path: Path, digested: bool) -> tuple[object, ...]:
    """Return what changes when a file's content does.

    Args:
        digested: digest the bytes too, for a file that was recent before it was read.
    """
    found = path.stat()
    signature = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    if not digested:
        return signature
    with path.open("rb") as file:
        return (*signature, hashlib.file_digest(file, "sha256").digest())


def _check_space(source: SourceNode, files: Sequence[Path], folder: Path) -> None:
    needed = sum(path.stat().st_size for path in files if path.exists())
    # Text takes about a fifth of its size as Parquet.
    needed = needed if source.type == "parquet" else needed // 5
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EngineError(
            f"{source.id}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            "free space on the disk, or move target/ to another one",
        )
