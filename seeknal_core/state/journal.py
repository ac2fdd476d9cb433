"""The journal of a running command: a line for each node and target that is finished."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from seeknal_core.files.own import make_folder, open_own
from seeknal_core.files.regular import refuse_irregular
from seeknal_core.state.documents import (
    state_error,
    to_json,
)
from seeknal_core.state.records import NodeRecord, TargetRecord, checked


class Journal:
    """The lines of one running command. Thread-safe.

    Lines are flushed to the operating system, not to the disk: they must
    survive the process, and losing one costs work, not correctness. The file is
    made by the first line: a command that is refused leaves none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def node(self, id: str, record: NodeRecord) -> None:
        """Note a node that is finished."""
        self._append({"node": id, "record": record})

    def target(self, key: str, record: TargetRecord) -> None:
        """Note a target that is written."""
        self._append({"target": key, "record": record})

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _append(self, entry: Mapping[str, object]) -> None:
        line = to_json(entry) + "\n"
        try:
            with self._lock:
                if self._descriptor is None:
                    self._descriptor = self._open()
                os.write(self._descriptor, line.encode())
        except OSError as error:
            raise state_error(error, self._path) from error

    def _open(self) -> int:
        make_folder(self._path.parent)
        refuse_irregular(self._path)
        descriptor = open_own(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if os.fstat(descriptor).st_size:
            # The command that left it may have died inside a line.
            os.write(descriptor, b"\n")
        return descriptor


def entry_of(line: bytes) -> tuple[str, NodeRecord | TargetRecord] | None:
    """Return what a journal's line says; None where it cannot be read."""
    try:
        entry = json.loads(line.decode("utf-8"))
        if "node" in entry:
            return str(entry["node"]), checked(NodeRecord, entry["record"])
        return str(entry["target"]), checked(TargetRecord, entry["record"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
