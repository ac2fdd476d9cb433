"""What an environment's nodes were, in words: texts, statements, columns, fingerprints.

The record decides what has to be done; the manifest says what changed. Where it
lacks a node, or tells of another definition than the record, the node's older
form is simply not known, and every change to it counts as breaking.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.state.store import StateStore

_KIND = "manifests"


@attrs.frozen(kw_only=True)
class ManifestNode:
    """A node as it was when it was computed.

    ``definition`` is the record's; ``own`` the same without the inputs'
    definitions. ``text`` is what the user wrote, for a diff, without connection
    options. ``statements`` is the SQL as it ran, references replaced by node ids.
    ``columns`` are the output's, name to type. ``metadata`` digests tags,
    description and owner; ``audits`` the audits as written; ``targets`` holds the
    fingerprint of each target by its key.
    """

    definition: str
    own: str
    text: str
    statements: tuple[str, ...] = ()
    columns: Mapping[str, str] = attrs.field(factory=dict)
    metadata: str = ""
    audits: str = ""
    targets: Mapping[str, str] = attrs.field(factory=dict)


Manifest = Mapping[str, ManifestNode]


def load_manifest(state: StateStore, environment: str) -> Manifest:
    """Load an environment's manifest; empty where there is none."""
    data = state.read(_KIND, environment)
    nodes = data.get("nodes") if data else None
    if not isinstance(nodes, dict):
        return {}
    found: dict[str, ManifestNode] = {}
    for id, value in nodes.items():
        try:
            found[id] = ManifestNode(**{**value, "statements": tuple(value["statements"])})
        except (TypeError, KeyError):
            continue  # of another version: not known
    return found


def save_manifest(state: StateStore, environment: str, manifest: Manifest) -> None:
    """Replace an environment's manifest."""
    state.write(_KIND, environment, {"nodes": manifest})
