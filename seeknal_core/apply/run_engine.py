"""The engine of one command, and the folder for what lives no longer than the command."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine import Engine


class RunEngine:
    """Opens the engine when the first node needs it. Thread-safe.

    Args:
        snapshots: the folder of the snapshot store.
    """

    def __init__(self, session: Session, snapshots: Path) -> None:
        self._session = session
        self._snapshots = snapshots
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._remove_scratch()

    @property
    def scratch(self) -> Path:
        """A folder for what lives no longer than the run.

        It is the environment's, whose lock is held: what is there already, a
        command that was killed has left.
        """
        return self._session.layout.scratch_of(self._session.environment.name)

    def get(self) -> Engine:
        """Return the engine, which is opened by the first call."""
        with self._lock:
            if self._engine is None:
                from seeknal_core.engine import open_engine

                self._engine = open_engine(
                    self._session.settings.engine,
                    project_root=Path(self._session.settings.root),
                    snapshot_root=self._snapshots,
                    scratch=self.scratch,
                    cancellation=self._session.context.cancellation,
                    untrusted=self._session.trust.untrusted,
                )
            return self._engine

    def close(self) -> None:
        """Close the engine and remove what only this command needed."""
        if self._engine is not None:
            self._engine.close()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
