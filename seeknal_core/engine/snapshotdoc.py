"""``snapshot.json``: what a stored snapshot is, and what each of its files was.

A document has a digest of itself, which finds what was damaged, and names its snapshot, so
that two snapshots' documents can't be exchanged. Environments record the digest of the whole
document: who changes a file and its document together is found out by that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.contract.verified import PIECE, FileSums, root_of
from seeknal_core.engine import filedigest
from seeknal_core.files.regular import read_regular

#: Version of the document. Those of version 3 lack the snapshot's key and the pieces' digests.
VERSION = 4
_VERSIONS = (3, VERSION)
NAME = "snapshot.json"

_FILE = re.compile(r"data_[0-9]{1,9}\.parquet", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
#: A document that is larger is none of ours: 100,000 pieces of a file take a tenth of it.
_MOST_BYTES = 64 * 2**20
_MOST_ROWS = 2**63


@attrs.frozen(kw_only=True)
class StoredFile:
    """A data file as it was stored. ``footer`` is the digest of its Parquet footer."""

    name: str
    footer: str
    sums: FileSums


@attrs.frozen(kw_only=True)
class Document:
    """What is written down of a snapshot.

    ``digest`` is that of its rows, empty where the key says what they are; ``own`` is the
    digest of the document's bytes.
    """

    node: str
    row_count: int
    files: tuple[StoredFile, ...]
    digest: str
    notes: tuple[str, ...]
    own: str


def read(folder: Path, content_key: str) -> Document | None:
    """Read a snapshot's document; None where there is none, or none of this snapshot.

    Raises:
        OSError: it cannot be read.
    """
    try:
        if os.stat(folder / NAME).st_size > _MOST_BYTES:
            return None
        content = read_regular(folder / NAME)
        return _document(content, content_key)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except RecursionError:
        return None


def write(
    content_key: str,
    *,
    node: str,
    row_count: int,
    files: Sequence[Path],
    digest: str,
    notes: Sequence[str],
) -> bytes:
    """Return the document of what is staged in a folder; its files are digested for that."""
    found = []
    for path in files:
        size, pieces = filedigest.pieces(path)
        found.append(
            {
                "name": path.name,
                "bytes": size,
                "footer": footer_digest(path),
                "digest": root_of(size, pieces),
                "pieces": pieces,
            }
        )
    document: dict[str, Any] = {
        "version": VERSION,
        "key": content_key,
        "node": node,
        "row_count": row_count,
        "files": found,
        "digest": digest,
        **({"notes": list(notes)} if notes else {}),
    }
    document["check"] = _check(document)
    return json.dumps(document, indent=1).encode()


def own_digest(content: bytes) -> str:
    """Return the digest of a document's bytes."""
    return hashlib.sha256(content).hexdigest()


def footer_digest(path: Path) -> str:
    """Return the SHA-256 of a file's footer, its length and the magic bytes included.

    The footer has the schema, the row counts and every column chunk's place (Parquet
    format: "File format"); reading it so costs no library.

    Raises:
        ValueError: it has none.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 12:
            raise ValueError("the file is too short")
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        if length > size - 12:
            raise ValueError("the footer is longer than its file")
        file.seek(-8 - length, os.SEEK_END)
        return hashlib.sha256(file.read()).hexdigest()


def _document(content: bytes, content_key: str) -> Document | None:
    document = json.loads(content)
    version = document["version"]
    if type(version) is not int or version not in _VERSIONS:
        return None
    if document["check"] != _check(document):
        return None
    if version > 3 and document["key"] != content_key:
        return None
    files = tuple(_file(one, with_pieces=version > 3) for one in document["files"])
    if not files or len({one.name for one in files}) < len(files):
        return None
    notes = document.get("notes", [])
    return Document(
        node=_text(document["node"]),
        row_count=_number(document["row_count"]),
        files=files,
        digest=_text(document["digest"]),
        notes=tuple(_text(note) for note in notes),
        own=own_digest(content),
    )


def _file(value: Mapping[str, Any], *, with_pieces: bool) -> StoredFile:
    name, size = _text(value["name"]), _number(value["bytes"])
    pieces = tuple(_hex(one) for one in value["pieces"]) if with_pieces else ()
    sums = FileSums(bytes=size, digest=_hex(value["digest"]), pieces=pieces)
    if not _FILE.fullmatch(name):
        raise ValueError("name")
    if with_pieces and (len(pieces) != -(-size // PIECE) or root_of(size, pieces) != sums.digest):
        raise ValueError("pieces")
    return StoredFile(name=name, footer=_hex(value["footer"]), sums=sums)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _hex(value: object) -> str:
    text = _text(value)
    if not _DIGEST.fullmatch(text):
        raise ValueError("no digest")
    return text


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < _MOST_ROWS:
        raise ValueError("no number")
    return value


def _check(document: Mapping[str, Any]) -> str:
    """Return the digest of everything else in a document."""
    rest = {key: value for key, value in document.items() if key != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
