"""The files that sources name: finding them, downloading them, telling whether they changed."""

from __future__ import annotations
