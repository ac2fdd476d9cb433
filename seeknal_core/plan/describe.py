"""What a node is, in words: the entries of an environment's manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode
from seeknal_core.state.manifest import ManifestNode
from seeknal_core.workspace.bindings import enabled_targets
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    import pyarrow as pa


def own_definition(session: Session, id: str) -> str:
    """Return the definition of a node without those of its inputs."""
    from seeknal_core.graph.fingerprints import definition

    inputs = [(f"{i:04}", name) for i, name in enumerate(session.graph.inputs[id])]
    return definition(session.graph.nodes[id], inputs, session.variables.vars)


def statements_of(session: Session, id: str) -> tuple[str, ...]:
    """Return a SQL node's statements as they would run now; none for other nodes."""
    from seeknal_core.graph import render

    node = session.graph.nodes[id]
    if not isinstance(node, SqlNode):
        return ()
    return render(node, session.graph.inputs[id], session.variables).statements


def metadata_digest(node: AnyNode) -> str:
    """Digest what describes a node and changes nothing: tags, description, owner."""
    text = json.dumps([sorted(node.tags), node.description, node.owner], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def target_fingerprints(session: Session, id: str) -> dict[str, str]:
    """Return the fingerprints of a node's targets that are switched on, by key."""
    from seeknal_core.graph import target_fingerprint
    from seeknal_core.plugins.resolve import target_mode

    profile = session.profile
    depends = (
        "targets",
        id,
        profile.default_mode,
        profile.materialization_enabled,
        session.context.full_refresh,
    )
    if depends not in session.described:
        session.described[depends] = {
            spec.key: target_fingerprint(spec, target_mode(spec, session.context))
            for spec in enabled_targets(session, [session.graph.nodes[id]])
        }
    found = session.described[depends]
    assert isinstance(found, dict)
    return found


def audits_of(session: Session, id: str) -> str:
    """Return the fingerprint of a node's audits and contract."""
    from seeknal_core.graph import audits_fingerprint

    depends = ("audits", id)
    if depends not in session.described:
        session.described[depends] = audits_fingerprint(session.graph.nodes[id])
    return str(session.described[depends])


def text_of(node: AnyNode) -> str:
    """Return what the user wrote of a node, for a diff; never a connection's option."""
    from seeknal_core.graph.fingerprints import is_connection_key

    match node:
        case SqlNode():
            covers = f"-- covers {' to '.join(node.covers)}\n" if node.covers else ""
            return covers + node.sql.strip() + "\n"
        case PythonNode():
            return node.text or f"def {node.qualname}\n"
        case SourceNode():
            shown: dict[str, object] = {"source": node.type, "table": node.table}
            shown |= {
                f"params.{key}": value
                for key, value in sorted(node.params.items())
                if not is_connection_key(key)
            }
            lines = [f"{key}: {value}" for key, value in shown.items() if value is not None]
            return "\n".join(lines) + "\n"


def describe(
    session: Session,
    id: str,
    *,
    columns: Mapping[str, str],
    statements: tuple[str, ...],
    own: str = "",
) -> ManifestNode:
    """Describe a node of the project as it stands now.

    Args:
        own: its `own_definition` where that is known: a node of the same definition has it.
    """
    node = session.graph.nodes[id]
    return ManifestNode(
        definition=session.graph.definitions[id],
        own=own or own_definition(session, id),
        text=text_of(node),
        statements=statements,
        columns=columns,
        metadata=metadata_digest(node),
        audits=audits_of(session, id),
        targets=target_fingerprints(session, id),
    )


def columns_of(schema: pa.Schema) -> dict[str, str]:
    """Return a snapshot's columns, name to Arrow type."""
    return {field.name: str(field.type) for field in schema}
