"""From a project and an environment to snapshots and written targets."""

from __future__ import annotations
