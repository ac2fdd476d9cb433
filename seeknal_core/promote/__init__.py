"""Bringing an environment's verified result into another one, all or nothing, and back."""

from __future__ import annotations
