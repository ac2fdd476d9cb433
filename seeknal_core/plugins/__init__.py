"""Finding plugins, calling their hooks, and holding them to the contract."""

from __future__ import annotations
