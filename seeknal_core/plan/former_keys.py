"""What earlier versions called the rows of a node: ledgers may know them by that name.

Rows that a store or a Python source gives are named by a digest of them. Earlier versions
made it in another way (`seeknal_core.engine.rowdigest`), and all keys below such a source
have it in them. What an ``append`` added is written down under its key in the store's ledger,
for ever, so the ledger is asked for both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import attrs

from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class _Made:
    """How a node's key was made in this run: of its inputs' keys."""

    inputs: Mapping[str, str]
    key_over: Callable[[Sequence[str]], str]


class FormerKeys:
    """The former keys of a run's nodes, found out when somebody asks. Thread-safe.

    Args:
        of_source: returns the former key of a source's rows; None where it is as ever.
    """

    def __init__(self, session: Session, of_source: Callable[[str], str | None]) -> None:
        self._session = session
        self._of_source = of_source
        self._made: dict[str, _Made] = {}
        self._known: dict[str, str] = {}
        self._lock = threading.RLock()

    def note(
        self, id: str, inputs: Mapping[str, str], key_over: Callable[[Sequence[str]], str]
    ) -> None:
        """Remember how a node's key was made.

        Args:
            key_over: returns the node's key, given those of its inputs.
        """
        self._made[id] = _Made(inputs=dict(inputs), key_over=key_over)

    def of(self, id: str, content_key: str) -> str:
        """Return what an earlier version called a node's rows.

        Args:
            content_key: what they are called now; that is the answer where nothing differs,
                or the run has taken them as they were recorded.
        """
        with self._lock:
            if id not in self._known:
                self._known[id] = self._find(id, content_key)
            return self._known[id]

    def _find(self, id: str, content_key: str) -> str:
        made = self._made.get(id)
        if made is None:
            return self._of_source(id) or content_key
        inputs = [self.of(input, key) for input, key in made.inputs.items()]
        if inputs == list(made.inputs.values()):
            return content_key
        return made.key_over(inputs)
