"""Carrying out what was decided: nodes become snapshots, targets are written."""

from __future__ import annotations
