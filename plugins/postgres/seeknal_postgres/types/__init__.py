"""Types: from Arrow to PostgreSQL, back again, and in the server's binary form."""

from __future__ import annotations
