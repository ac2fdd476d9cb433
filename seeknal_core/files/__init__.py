"""Seeknal's own files: closed to other users, free of links, and read only as they were written."""

from __future__ import annotations
