"""Cleanup: list and drop what an environment made, delete what killed commands left, expire snapshots."""
