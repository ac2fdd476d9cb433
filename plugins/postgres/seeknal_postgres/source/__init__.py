"""Reading: sources, and tables for their checksums."""

from __future__ import annotations
