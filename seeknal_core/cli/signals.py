"""Ctrl-C and SIGTERM: the first asks running work to stop, the second ends at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.types import Cancellation


@contextlib.contextmanager
def signals(cancellation: Cancellation) -> Iterator[None]:
    """Stop in order on the first Ctrl-C (or SIGTERM), at once on the second.

    At once is safe: whatever dies, targets are old or new, and state is journalled.
    """
    asked = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            os._exit(ExitCode.INTERRUPTED)
        asked = True
        os.write(2, b"stopping; press Ctrl-C again to stop at once\n")
        # Waking what waits in a driver may itself wait: not in a signal handler.
        threading.Thread(target=cancellation.request, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
