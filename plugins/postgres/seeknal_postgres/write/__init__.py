"""Writing a snapshot into a table: columns, rows, and one file per mode in `modes`."""

from __future__ import annotations
