"""The project that ``seeknal init --example`` makes, as data files."""

from __future__ import annotations
