"""The functions that SQL may call: ``functions.txt`` beside this module."""

from __future__ import annotations

import functools
from pathlib import Path

import attrs

from seeknal_core.contract.options import nearest

SOURCE_HINT = "declare the data as a source and name it with ref('source.…')"
_HINT = "SQL may call what computes values of its inputs only: see docs/security.md"

#: Starts of the names of functions that read files; ``…_scan`` reads files or another store.
_READS_FILES = ("read_", "parquet_", "sniff_", "glob")


@attrs.frozen(kw_only=True)
class Functions:
    """Names in lower case: the allowed ones by place, and those known to be refused."""

    scalar: frozenset[str]
    table: frozenset[str]
    refused: frozenset[str]


@functools.cache
def functions() -> Functions:
    """Return the list, read once."""
    sections: dict[str, list[str]] = {}
    words: list[str] = []
    for line in Path(__file__).with_name("functions.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            words = sections.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            words += line.split()
    return Functions(
        scalar=frozenset(
            [
                *sections["functions"],
                *sections["parser"],
                *sections["collations"],
                *sections["operators"],
            ]
        ),
        table=frozenset(sections["table functions"]),
        refused=frozenset(sections["refused functions"] + sections["refused table functions"]),
    )


def why_refused(name: str, *, table: bool) -> tuple[str, str]:
    """Return what is wrong with calling `name`, and a hint."""
    listed = functions()
    if name.endswith("_scan") or (name.startswith(_READS_FILES) and name in listed.refused):
        return f"{name}() reads files itself", SOURCE_HINT
    if name in listed.refused:
        return f"{name}() is not allowed", _HINT
    known = listed.table if table else listed.scalar
    if name in listed.scalar | listed.table:
        other = "no table" if table else "a table"
        return f"{name}() gives {other}", "move it between SELECT and FROM"
    kind = "table function" if table else "function"
    return f"there is no {kind} {name}() that SQL may call", nearest(name, known) or _HINT
