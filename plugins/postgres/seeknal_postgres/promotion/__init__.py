"""Promotion: stage, publish, revert, discard."""

from __future__ import annotations
