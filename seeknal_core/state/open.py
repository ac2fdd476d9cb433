"""Where a project's state is kept: the one place that decides it."""

from __future__ import annotations

from pathlib import Path

from seeknal_core.files.layout import Layout
from seeknal_core.state.store import StateStore


def open_state(root: Path) -> StateStore:
    """Return the state of a project.

    Args:
        root: the project's folder. Its state is kept below it, in ``target/state``.
    """
    return StateStore(Layout.of_project(root).state)
