"""Reading files while the stores are asked: connecting to them takes half a second."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait

from seeknal_core.apply.find import Computed
from seeknal_core.contract.types import Cancellation
from seeknal_core.project.specs import SourceNode

#: Seconds that a refused command waits for a reading that it has asked to stop.
_STOPPING = 2.0


class ReadingAhead:
    """Reads files in a thread of its own, one after the other.

    Args:
        read: reads one source; it may take long, and stops when the command is cancelled.
    """

    def __init__(self, cancellation: Cancellation, read: Callable[[SourceNode], Computed]) -> None:
        self._cancellation = cancellation
        self._read = read
        self._ahead: dict[str, Future[Computed]] = {}

    @contextlib.contextmanager
    def reading(self, nodes: Sequence[SourceNode]) -> Iterator[None]:
        """Begin to read files while the block runs. A block that fails ends the reading."""
        readings = [(node, Future[Computed]()) for node in nodes]
        self._ahead = {node.id: reading for node, reading in readings}
        if readings:
            # A daemon, since nothing can stop the digesting of a large file, and nobody should wait.
            threading.Thread(target=self._work, args=(readings,), daemon=True).start()
        try:
            yield
        except BaseException:
            self._cancellation.request()
            for reading in self._ahead.values():
                reading.cancel()
            wait(self._ahead.values(), timeout=_STOPPING)
            raise

    def taken(self, id: str) -> Computed | None:
        """Return what was read of a source; None where nobody began to read it.

        Raises:
            SeeknalError: what went wrong when it was read.
        """
        ahead = self._ahead.pop(id, None)
        return ahead.result() if ahead is not None and not ahead.cancel() else None

    def _work(self, readings: Sequence[tuple[SourceNode, Future[Computed]]]) -> None:
        for node, reading in readings:
            if not reading.set_running_or_notify_cancel():
                continue
            try:
                reading.set_result(self._read(node))
            except BaseException as error:  # noqa: BLE001 - raised again where it is asked for
                reading.set_exception(error)
