"""What stands in the store: our own records of it, and what the server's catalogs say."""

from __future__ import annotations
