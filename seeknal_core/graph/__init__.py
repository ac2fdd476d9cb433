"""Nodes, the references between them, what they mean, and choosing among them."""

from __future__ import annotations

from seeknal_core.graph.build import build_graph
from seeknal_core.graph.fingerprints import audits_fingerprint, target_fingerprint
from seeknal_core.graph.graph import Graph
from seeknal_core.graph.rendering import RenderedSql, render
from seeknal_core.graph.selection import select
from seeknal_core.graph.templates import Variables

__all__ = [
    "Graph",
    "RenderedSql",
    "Variables",
    "audits_fingerprint",
    "build_graph",
    "render",
    "select",
    "target_fingerprint",
]
