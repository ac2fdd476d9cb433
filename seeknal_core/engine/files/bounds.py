"""What the params of a source promise of its files: rows, bytes, a digest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seeknal_core.contract.errors import EngineError
from seeknal_core.project.specs import SourceNode

if TYPE_CHECKING:
    pass


def check_rows(source: SourceNode, rows: int) -> None:
    """Refuse more rows than the source's ``max_rows``."""
    if source.max_rows is not None and rows > source.max_rows:
        raise EngineError(
            f"{source.id}: more than {source.max_rows:,} rows (max_rows)",
            "name fewer files, or raise max_rows",
        )


def check_bytes(source: SourceNode, files: Sequence[Path]) -> None:
    """Refuse files that are larger together than the source's ``max_bytes``."""
    if source.max_bytes is None:
        return
    size = sum(path.stat().st_size for path in files)
    if size > source.max_bytes:
        raise EngineError(
            f"{source.id}: {size:,} bytes, more than {source.max_bytes:,} (max_bytes)",
            "name fewer files, or raise max_bytes",
        )


def check_sha256(source: SourceNode, labels: Sequence[str], digests: Sequence[str]) -> None:
    """Refuse a file that is not the one whose SHA-256 the source gives."""
    wanted = source.params.get("sha256")
    if wanted is None:
        return
    if len(labels) != 1:
        raise EngineError(
            f"{source.id}: params.sha256 is about one file, and {len(labels)} were found",
            "name one file, or leave sha256 out",
        )
    if digests[0] != str(wanted).lower():
        raise EngineError(
            f"{source.id}: {labels[0]} is another file than the one that was meant: its SHA-256"
            f" is {digests[0]}",
            "look at the file; if it is right, write that under params: sha256",
        )
