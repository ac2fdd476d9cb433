"""What one command knows: what it has read, and where its events go."""

from __future__ import annotations

import os
from pathlib import Path

from seeknal_core.contract.types import ExecutionContext
from seeknal_openlineage.delivery import Delivery
from seeknal_openlineage.facts import DatasetName, Outcome, Write

_KEY = "seeknal_openlineage"


class Command:
    """The lineage of one command. Thread-safe: hooks are called from several threads.

    Attributes:
        read: what source nodes read, by node.
        columns: the columns of what is written, by target key.
    """

    def __init__(self) -> None:
        self.read: dict[str, DatasetName] = {}
        self.columns: dict[str, tuple[tuple[str, str], ...]] = {}
        self._delivery = Delivery()

    def inputs_of(self, context: ExecutionContext, node: str) -> tuple[DatasetName, ...]:
        """Return what was read, by this command, for a node and all that it is made of."""
        seen: set[str] = set()
        edge = [node]
        while edge:
            found = edge.pop()
            if found not in seen:
                seen.add(found)
                edge += context.inputs.get(found, ())
        names = {self.read[one] for one in seen if one in self.read}
        return tuple(sorted(names, key=lambda name: (name.namespace, name.name)))

    def started(self, write: Write) -> None:
        """Send a write's first event."""
        self._delivery.put(write, None)

    def ended(self, write: Write, outcome: Outcome) -> None:
        """Send a write's last event."""
        self._delivery.put(write, outcome)

    def close(self) -> None:
        """Wait, not for long, until everything is sent."""
        self._delivery.close()


def command_of(context: ExecutionContext) -> Command | None:
    """Return the command's lineage, or None where OpenLineage is not configured."""
    if not configured():
        return None
    return context.resources.get(_KEY, Command, Command.close)


def configured() -> bool:
    """Return whether anything says where events go, before the client is imported for it.

    The client prints every event where nothing is configured. A plugin that is merely
    installed must not.
    """
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    if os.environ.get("OPENLINEAGE_URL"):
        return True
    if any(name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ):
        return True
    # Where the client looks for a file.
    files = [Path("openlineage.yml"), Path(os.path.expanduser("~/.openlineage/openlineage.yml"))]
    if given := os.environ.get("OPENLINEAGE_CONFIG"):
        files.append(Path(given))
    return any(file.is_file() for file in files)
