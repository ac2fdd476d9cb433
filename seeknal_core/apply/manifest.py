"""The manifest of an environment, brought up to its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from seeknal_core.plan.describe import columns_of, describe, statements_of
from seeknal_core.state.manifest import Manifest, ManifestNode
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.apply.find import Computed


def updated_manifest(
    session: Session,
    before: Manifest,
    record: EnvironmentRecord,
    outputs: Mapping[str, Computed],
    others: Iterable[Manifest] = (),
) -> Manifest:
    """Bring a manifest up to a record: one entry for each recorded node.

    Args:
        outputs: what the nodes gave that were looked at just now.
        others: manifests that may know the columns and statements of the rest.
    """
    found: dict[str, ManifestNode] = {}
    for id, held in record.nodes.items():
        if held.definition != session.graph.definitions.get(id):
            if id in before:
                found[id] = before[id]
            continue
        known = [m[id] for m in (before, *others) if id in m]
        same = next((node for node in known if node.definition == held.definition), None)
        output = outputs.get(id)
        if output is not None or same is None:
            statements = statements_of(session, id)
            shown: Mapping[str, str] = same.columns if same else {}
            if output is not None and not (output.reused and shown):
                shown = columns_of(output.snapshot.schema)
            own = same.own if same else ""
            found[id] = describe(session, id, columns=shown, statements=statements, own=own)
        else:
            found[id] = describe(
                session, id, columns=same.columns, statements=same.statements, own=same.own
            )
    return found
