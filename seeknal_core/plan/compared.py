"""What became of a node since its environment was applied, or since its base."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

import attrs

from seeknal_core.plan.decide import Action, has_rows_of
from seeknal_core.plan.describe import metadata_digest, own_definition, statements_of, text_of
from seeknal_core.plan.document import Change, NodeStep
from seeknal_core.plan.proofs import Reference
from seeknal_core.project.specs import AnyNode, SqlNode
from seeknal_core.state.manifest import ManifestNode
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.session import Session


class Comparison:
    """Compares the nodes of a plan, in the graph's order, with what is recorded of them.

    Args:
        compared: the environment they are compared with; None: there is none, all are new.
        base: the base's record.
        steps: the steps of the nodes before, by id.
        rebound: sources that are bound to another place than in the base.
        keys: the content keys of nodes, as far as they are known.
    """

    def __init__(
        self,
        session: Session,
        compared: Reference | None,
        base: EnvironmentRecord | None,
        steps: Mapping[str, NodeStep],
        rebound: Collection[str],
        keys: Mapping[str, str],
    ) -> None:
        self._session = session
        self._compared = compared
        self._base = base
        self._steps = steps
        self._rebound = rebound
        self._keys = keys

    def step(self, step: NodeStep, node: AnyNode) -> NodeStep:
        """Return a node's step with what became of the node."""
        id = node.id
        definition = self._session.graph.definitions[id]
        compared = self._compared
        held = compared.record.nodes.get(id) if compared else None
        if compared is None or held is None:
            return attrs.evolve(step, change=Change.ADDED)
        if held.definition == definition:
            return attrs.evolve(step, change=self._change_of_content(step, node, held, compared))
        told = compared.node(id)
        own = told is None or told[1].own != own_definition(self._session, id)
        if not own:
            if step.change is Change.UNAFFECTED:
                return step
            return attrs.evolve(step, change=Change.AFFECTED, reason=self._above(id) or step.reason)
        return self._changed(step, node, told[1] if told else None)

    def _changed(self, step: NodeStep, node: AnyNode, told: ManifestNode | None) -> NodeStep:
        from seeknal_core.engine.changes import classify

        text = told.text if told else ""
        diff = "".join(
            difflib.unified_diff(
                text.splitlines(keepends=True),
                text_of(node).splitlines(keepends=True),
                f"{node.id} before",
                f"{node.id} now",
            )
        )
        breaking, reason = True, step.reason
        columns: tuple[str, ...] = ()
        if told is not None and told.statements and isinstance(node, SqlNode):
            now = statements_of(self._session, node.id)
            change = classify(told.statements, now, told.columns)
            breaking, columns = not change.additive, tuple(change.columns)
            reason = change.reason or reason
        return attrs.evolve(
            step,
            change=Change.CHANGED,
            breaking=breaking,
            columns=columns,
            diff=diff,
            reason=reason,
        )

    def _change_of_content(
        self, step: NodeStep, node: AnyNode, held: NodeRecord, compared: Reference
    ) -> Change:
        if step.id in self._rebound and compared.record is self._base:
            return Change.REBOUND
        above = [self._change_of(input) for input in self._session.graph.inputs[step.id]]
        key = self._keys.get(step.id)
        if key is None or not has_rows_of(held, key):
            if Change.REBOUND in above:
                return Change.REBOUND
            if key is not None and step.action is not Action.DEPENDS:
                return Change.CONTENT
        told = compared.node(step.id)
        if told is not None and told[1].metadata != metadata_digest(node):
            return Change.METADATA
        return Change.UNCHANGED

    def _above(self, id: str) -> str:
        """Name the nodes above whose change reaches this one."""
        changed = [
            input
            for input in self._session.graph.inputs[id]
            if self._change_of(input)
            in (Change.ADDED, Change.CHANGED, Change.AFFECTED, Change.CONTENT)
        ]
        return f"reads {', '.join(changed)}" if changed else ""

    def _change_of(self, id: str) -> Change:
        """Return what became of an input; of one that is out of scope nothing is known."""
        return self._steps[id].change if id in self._steps else Change.UNCHANGED
