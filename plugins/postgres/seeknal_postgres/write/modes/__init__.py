"""What each mode does to a table's rows."""

from __future__ import annotations
