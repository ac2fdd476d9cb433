"""Promotion: stage, publish, revert, discard."""
