"""Files that spare work and decide nothing: read only as this tool wrote them.

Beside each stands its seal: the digest of its content, and the inode and times of the very
file. Whoever edits the file breaks the seal, and so does a copy: what came with a checkout,
an archive or somebody else's machine is not read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from seeknal_core.contract.verified import stamp_at
from seeknal_core.files.own import open_own
from seeknal_core.files.regular import read_regular


def read_sealed(path: Path) -> bytes | None:
    """Return a file's content; None where it is not as `write_sealed` left it."""
    try:
        seal = json.loads(read_regular(_seal(path)))
        before = stamp_at(path)
        if seal != [*before, _digest(content := read_regular(path))]:
            return None
        return content if stamp_at(path) == before else None
    except (OSError, ValueError, RecursionError):
        return None


def write_sealed(path: Path, text: str, write: Callable[[Path, str], None]) -> None:
    """Write a file and its seal.

    Args:
        write: replaces a file's text, atomically.

    Raises:
        OSError: the seal can't be written; the file counts as absent.
    """
    write(path, text)
    seal = json.dumps([*stamp_at(path), _digest(text.encode())])
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        descriptor = open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(seal)
        os.replace(temporary, _seal(path))
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.seal")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
