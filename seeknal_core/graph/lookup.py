"""From a reference as written to a node id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from seeknal_core.contract.options import nearest
from seeknal_core.graph.forms import KINDS


class Lookup:
    """Node ids, found exactly or, where only one fits, in whatever case.

    Kinds are never case-sensitive.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = dict.fromkeys(ids)
        self._folded: dict[str, list[str]] = {}
        for id in self._ids:
            self._folded.setdefault(id.lower(), []).append(id)

    def find(self, parts: Sequence[str]) -> str | None:
        """Return the id that `parts` (kind first) name, or None."""
        if len(parts) < 2:
            return None
        id = ".".join([parts[0].lower(), *parts[1:]])
        if id in self._ids:
            return id
        similar = self._folded.get(id.lower(), [])
        return similar[0] if len(similar) == 1 else None

    def find_bare(self, name: str, *, inside: str) -> str | None:
        """Return the only id that has a name without its kind, in whatever case, or None.

        Args:
            inside: the node whose SQL names it. Its own name is never an input's.
        """
        found = self.with_name(name)
        own = inside.partition(".")[2].lower()
        return found[0] if len(found) == 1 and name.lower() != own else None

    def with_name(self, name: str) -> list[str]:
        """Return the ids that have a name without its kind, in whatever case."""
        return [id for kind in KINDS for id in self._folded.get(f"{kind}.{name.lower()}", ())]

    def suggest(self, parts: Sequence[str]) -> str:
        """Return what to write instead of `parts`, which name nothing, or an empty text."""
        written = ".".join(parts)
        similar = self._folded.get(written.lower(), [])
        if len(similar) > 1:
            return f"it may be {' or '.join(similar)}: write the name in its own case"
        bare = parts[-1].lower()
        same = [f"{kind}.{bare}" for kind in KINDS if f"{kind}.{bare}" in self._folded]
        if same:
            return f"did you mean {self._folded[same[0]][0]!r}?"
        return nearest(written, self._ids)
