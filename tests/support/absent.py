"""Fail if one of the named packages can be imported: ``python -I absent.py NAME…``."""

from __future__ import annotations

import importlib.util
import sys

found = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
if found:
    sys.exit(f"must not be installed here: {', '.join(found)}")
