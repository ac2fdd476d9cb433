"""The store as somebody sees it who has never heard of Seeknal."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class Outsider(abc.ABC):
    """Looks at a store through its own client: what the fixture ``outsider`` returns.

    It must not use the backend's code, nor what the backend remembers: the suite
    believes it where the two differ. A name is its parts, as ``namespace_for`` gave
    them (``QualifiedName.parts``). `read` is called from several threads at once.
    """

    @abc.abstractmethod
    def read(self, parts: tuple[str, ...]) -> pa.Table | None:
        """Return all rows that a reader sees in a table, None where there is no table.

        Columns come under their names in the store, in Arrow types that stand for the
        store's own: where the store keeps a date as text, say, return a date.
        """

    @abc.abstractmethod
    def objects(self) -> frozenset[str]:
        """Name everything that stands in the store and could be left over.

        Namespaces, tables, refs, and files that no table knows of, whoever made them.
        Neither rows nor what a table keeps of its own history. The texts only have to
        differ from each other and stay what they are.
        """

    @abc.abstractmethod
    def write(self, parts: tuple[str, ...], rows: pa.Table) -> None:
        """Add rows to a table behind Seeknal's back; make it and its namespaces if missing.

        ``rows`` holds integers and strings only.
        """
