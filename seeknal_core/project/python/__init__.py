"""Python nodes: what their files say, found without running them where that is possible."""

from __future__ import annotations
