"""A connection of a profile: its options, its sessions, their settings, locks and errors."""

from __future__ import annotations
