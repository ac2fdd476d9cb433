"""Deciding what happens to each node and each target, before anything is written."""

from __future__ import annotations
