"""A private PostgreSQL server for a project whose profile says ``embedded: true``."""

from __future__ import annotations
