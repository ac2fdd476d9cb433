"""The file types of sources: their params, and the types that a column may be declared as.

One module a type, with a frozen attrs class of its params; `read_params` makes it.
`seeknal_core.project` checks what the user wrote with it, `seeknal_core.engine.sources`
reads by it. Nothing here opens a file or imports an engine.
"""

from __future__ import annotations

from collections.abc import Mapping

from seeknal_core.contract.errors import OptionError, Problem
from seeknal_core.contract.options import join, structure
from seeknal_core.project.formats.csv import CsvParams
from seeknal_core.project.formats.json import JsonParams
from seeknal_core.project.formats.params import FileParams
from seeknal_core.project.formats.parquet import ParquetParams
from seeknal_core.project.formats.text import OnBadRows, TextParams
from seeknal_core.project.formats.xlsx import XlsxParams

__all__ = [
    "CsvParams",
    "FileParams",
    "JsonParams",
    "OnBadRows",
    "ParquetParams",
    "TextParams",
    "XlsxParams",
    "read_params",
]

_CLASSES: dict[str, type[FileParams]] = {
    "csv": CsvParams,
    "json": JsonParams,
    "jsonl": JsonParams,
    "parquet": ParquetParams,
    "xlsx": XlsxParams,
}


def read_params(type: str, params: Mapping[str, object], *, path: str = "params") -> FileParams:
    """Make the params of a file type from what is written.

    Args:
        type: one of ``specs.FILE_TYPES``.
        path: where the params stand in their document, put before every problem's path.

    Raises:
        OptionError: with all mistakes.
    """
    if "on_bad_rows" in params and params["on_bad_rows"] is None:
        # YAML reads the plain word as no value.
        params = {**params, "on_bad_rows": OnBadRows.NULL.value}
    result = structure(params, _CLASSES[type], path=path, public=True)
    problems = [
        Problem(each.quoted, path=join(path, each.path), hint=each.hint)
        for each in result.mistakes()
    ]
    if problems:
        raise OptionError(problems)
    return result
