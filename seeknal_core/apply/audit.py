"""Checking a node's output: its declared columns, its freshness and its audits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from seeknal_core.apply.run_engine import RunEngine
from seeknal_core.contract.errors import AuditFailed
from seeknal_core.contract.types import Snapshot
from seeknal_core.plan import keys
from seeknal_core.project.specs import AnyNode, Freshness, Severity, SourceNode
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.files.digests import FileDigests


class Auditor:
    """Checks outputs by the engine. Thread-safe.

    Args:
        sound: returns a snapshot whose bytes are those that were written.
        in_store: tells whether a source is read by a backend.
        warn: takes what is no reason to stop.
    """

    def __init__(
        self,
        session: Session,
        engine: RunEngine,
        digests: FileDigests,
        sound: Callable[[str, Snapshot], Snapshot],
        in_store: Callable[[str], bool],
        warn: Callable[[str], None],
    ) -> None:
        self._session = session
        self._engine = engine
        self._digests = digests
        self._sound = sound
        self._in_store = in_store
        self._warn = warn

    def check(self, node: AnyNode, snapshot: Snapshot, related: Mapping[str, Snapshot]) -> bool:
        """Hold a node's output to its declared columns, freshness and audits.

        Returns:
            Whether there was nothing to warn about.

        Raises:
            AuditFailed: something of severity ``error`` failed; all failures are named.
        """
        failures: list[str] = []
        warnings: list[str] = []
        aging = isinstance(node, SourceNode) and node.freshness is not None
        if node.columns or node.audits or aging:
            snapshot = self._sound(node.id, snapshot)
            related = (
                {id: self._sound(id, each) for id, each in related.items()}
                if node.audits
                else related
            )
        if node.columns:
            messages = self._engine.get().check_columns(node, snapshot)
            (failures if node.contract else warnings).extend(messages)
        if isinstance(node, SourceNode) and node.freshness is not None:
            failures += self._freshness(node, node.freshness, snapshot, warnings)
        if node.audits:
            for outcome in self._engine.get().run_audits(node, snapshot, related):
                if not outcome.passed:
                    severe = outcome.audit.severity is Severity.ERROR
                    (failures if severe else warnings).append(outcome.message)
        for message in warnings:
            self._warn(f"{node.id}: {message}")
        if failures:
            raise AuditFailed(
                "; ".join(failures),
                f"look at the rows, fix them or the node, then: {self._session.rerun(node.id)}",
            )
        return not warnings

    def _freshness(
        self, node: SourceNode, freshness: Freshness, snapshot: Snapshot, warnings: list[str]
    ) -> list[str]:
        """Return what is too old; what is merely getting old goes to `warnings`."""
        column = freshness.column
        if column is not None:
            newest = self._engine.get().newest(snapshot, column)
            said = f"freshness: newest {column} is"
            if newest is None:
                return [f"freshness: no value in {column}"]
        elif self._in_store(node.id) or keys.is_remote(node):
            warnings.append("freshness: needs a column, only local files have an age")
            return []
        else:
            files = keys.file_read(self._session, node, self._digests, self._engine.scratch).files
            newest = datetime.fromtimestamp(max(f.stat().st_mtime for f in files.files), UTC)
            said = "freshness: newest file is of"
        if newest.tzinfo is None:
            newest = newest.replace(tzinfo=UTC)
        age = datetime.now(UTC) - newest
        said += f" {newest:%Y-%m-%d %H:%M} UTC"
        if freshness.error_after is not None and age > freshness.error_after:
            return [f"{said}, older than error_after"]
        if freshness.warn_after is not None and age > freshness.warn_after:
            warnings.append(f"{said}, older than warn_after")
        return []
