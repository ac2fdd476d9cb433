"""The project whose store is a folder."""

from __future__ import annotations

from support.shop import folder_site, project, seeknal

__all__ = ["folder_site", "project", "seeknal"]
