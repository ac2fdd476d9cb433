"""Many small JSON files as one, since opening a file costs DuckDB half a millisecond.

The records keep their order and their text. Where something is wrong in one of them,
the error is looked for in the files themselves.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Fewer files are read as they are.
FEWEST = 64
#: The bytes of a file that counts as small, on average.
_SMALL = 1_000_000
_COMPRESSED = frozenset({".gz", ".zst", ".bz2", ".lz4"})
_BOM = b"\xef\xbb\xbf"


@contextlib.contextmanager
def merged(files: Sequence[Path], folder: Path, *, lines: bool) -> Iterator[Sequence[Path]]:
    """Give one file that holds the records of `files`, or `files` where that is no gain.

    Args:
        folder: where the file is made for the length of the block.
        lines: each line of a file is a record; else a file is an array of them, or
            one record after the other.
    """
    if not _are_many_and_small(files):
        yield files
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".merged-") as scratch:
        path = Path(scratch, "records.jsonl" if lines else "records.json")
        whole = _merge_lines(files, path) if lines else _merge_documents(files, path)
        yield [path] if whole else files


def _are_many_and_small(files: Sequence[Path]) -> bool:
    if len(files) < FEWEST or any(path.suffix.lower() in _COMPRESSED for path in files):
        return False
    return sum(path.stat().st_size for path in files) <= len(files) * _SMALL


def _merge_lines(files: Sequence[Path], path: Path) -> bool:
    with path.open("wb") as merged:
        for file in files:
            merged.write(file.read_bytes().removeprefix(_BOM))
            merged.write(b"\n")
    return True


def _merge_documents(files: Sequence[Path], path: Path) -> bool:
    """Merge files that are all arrays, or all records; say whether they were."""
    arrays: bool | None = None
    with path.open("wb") as merged:
        for file in files:
            content = file.read_bytes().removeprefix(_BOM).strip()
            if not content:
                continue
            is_array = content.startswith(b"[")
            if arrays not in (None, is_array) or (is_array and not content.endswith(b"]")):
                return False
            inside = content[1:-1].strip() if is_array else content
            if not inside:
                continue
            if is_array:
                merged.write(b"[" if arrays is None else b",\n")
            arrays = is_array
            merged.write(inside if is_array else inside + b"\n")
        if arrays:
            merged.write(b"]")
    return True
