"""Many small JSON files as one, since opening a file costs DuckDB half a millisecond.

The records keep their order and their text. Where something is wrong in one of them,
the error is looked for in the files themselves.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

#: Fewer files a merged one are read as they are.
FEWEST = 32
#: The bytes of a file that counts as small, on average.
_SMALL = 1_000_000
_COMPRESSED = frozenset({".gz", ".zst", ".bz2", ".lz4"})
_BOM = b"\xef\xbb\xbf"


@contextlib.contextmanager
def merged(
    files: Sequence[Path], keys: Sequence[object], folder: Path, *, lines: bool
) -> Iterator[Sequence[tuple[Path, Path]]]:
    """Return files that hold the records of `files`, fewer of them where that is a gain.

    Each comes with one of `files` that its records are from.

    Args:
        keys: one for each file; only files of one key become one, and only neighbours.
        folder: where the files are made for the length of the block.
        lines: each line of a file is a record; else a file is an array of them, or
            one record after the other.
    """
    groups = [
        [file for _, file in group]
        for _, group in itertools.groupby(zip(keys, files, strict=True), key=lambda pair: pair[0])
    ]
    marked = {file for file in files if _is_marked(file)}
    if len(groups) * FEWEST > len(files) or not _are_small(files):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unmarked-") as scratch:
            yield [(_unmarked(f, Path(scratch)) if f in marked else f, f) for f in files]
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".merged-") as scratch:
        made = []
        for number, group in enumerate(groups):
            path = Path(scratch, f"{number}.jsonl" if lines else f"{number}.json")
            if not (_merge_lines(group, path) if lines else _merge_documents(group, path)):
                made = [(_unmarked(f, Path(scratch)) if f in marked else f, f) for f in files]
                break
            made.append((path, group[0]))
        yield made


def _open(file: Path) -> IO[bytes]:
    if file.suffix == ".gz":
        return gzip.open(file)  # type: ignore[return-value]  # its read() gives bytes
    return file.open("rb")


def _is_marked(file: Path) -> bool:
    """Return whether a file begins with a byte order mark, which DuckDB takes for no JSON."""
    if file.suffix in _COMPRESSED - {".gz"}:
        return False
    try:
        with _open(file) as stream:
            return stream.read(len(_BOM)) == _BOM
    except (EOFError, OSError, zlib.error):
        return False  # Whoever reads it says what is wrong.


def _unmarked(file: Path, folder: Path) -> Path:
    """Copy a file without its byte order mark."""
    number = sum(1 for _ in folder.iterdir())
    copy = (
        folder / f"copy-{number}{Path(file.stem).suffix if file.suffix == '.gz' else file.suffix}"
    )
    with _open(file) as stream, copy.open("wb") as out:
        stream.read(len(_BOM))
        shutil.copyfileobj(stream, out, 1 << 20)
    return copy


def _are_small(files: Sequence[Path]) -> bool:
    if any(path.suffix.lower() in _COMPRESSED for path in files):
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
