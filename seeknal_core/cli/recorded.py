"""What is recorded of a project, found without nodes, plugins or stores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def project(context: click.Context) -> tuple[Any, Any]:
    """Read the project file and find the state, without nodes or plugins."""
    from seeknal_core import project as config
    from seeknal_core.state.open import open_state

    root = config.find_root(Path(context.obj["project_dir"] or os.curdir))
    config.refuse_brought_target(root, context.obj["trust"])
    settings, _warnings = config.load_settings(root, context.obj["trust"])
    return settings, open_state(root)
