"""Sources: as the user wrote them, as a hook receives them, and the rows they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.types.values import Location

if TYPE_CHECKING:
    import pyarrow as pa


@attrs.frozen(kw_only=True)
class SourceSpec:
    """A backend's source as the user wrote it, with ``source_defaults`` merged in.

    ``params`` is everything under ``params:``, templates expanded.
    """

    node: str
    type: str
    table: str | None = None
    connection: str | None = None
    params: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    watermark: str | None = None
    declared: Mapping[str, str] = attrs.field(factory=dict)
    location: Location | None = attrs.field(default=None, eq=False)


@attrs.frozen(kw_only=True)
class Source:
    """A source as a hook receives it.

    Exactly one of ``parts`` (non-empty) and ``query`` decides what is read;
    ``query`` wins. ``columns`` is the projection, None for all. ``watermark``
    names a column whose maximum the user declares to tell versions apart.
    ``options`` is an instance of the class that ``describe_options`` named for
    sources, or None. ``declared`` are the types that the user declares, by column,
    in the words of `seeknal_core.project.formats.declared`: a backend reads a column as
    ``string``, say, where it is declared so, and never gives a value that is not exact.
    """

    node: str
    type: str
    parts: tuple[str, ...] = ()
    query: str | None = None
    columns: tuple[str, ...] | None = None
    watermark: str | None = None
    declared: Mapping[str, str] = attrs.field(factory=dict)
    options: object = None


@attrs.frozen(kw_only=True)
class Condition:
    """A condition on one column of a table: ``column operator value``.

    ``operator`` is one of ``= <> < <= > >= in``, ``is null`` and ``is not null``. ``value`` is
    as SQL has it: a bool, int, Decimal, str, date or datetime (without a zone); a tuple
    of them with ``in``; None with the last two. A text may stand for a date or a time.
    """

    column: str
    operator: str
    value: object = None


@attrs.frozen(kw_only=True)
class Scan:
    """A table of a store that runs no queries, for the core to run a source's query over.

    ``schema`` is that of all columns. ``names`` are the ways to write the table's name, as
    parts, the shortest first. ``open`` is given the columns that the query needs, None
    for all, and conditions that all rows it needs meet; it returns those columns in that
    order, and may leave out rows that do not meet the conditions, as SQL compares. What
    it can't tell for sure it leaves in: the query looks at each row again.
    """

    schema: pa.Schema = attrs.field(eq=False, repr=False)
    names: tuple[tuple[str, ...], ...]
    open: Callable[[tuple[str, ...] | None, tuple[Condition, ...]], pa.RecordBatchReader]


class SourceStream:
    """One consistent view of a source, opened lazily. A context manager.

    Args:
        identity: where the rows come from, physically: equal for two
            connections that lead to the same table of the same store, never a
            secret. Part of the content key.
        version: a token that changes whenever the rows may have changed, or
            None where the store has none. With a version that is stored
            already, the core does not call `open`.
        open: starts reading; the reader yields record batches in bounded memory.
            Called at most once, and before `close`.
        close: frees what the view holds; called always, whether or not `open` was.
        sees: a digest of what only the store knows to decide which rows this login sees
            (settings of its role, say); empty where nothing does. Sources bound alike
            with two of these are not the same.
        scan: where the source has a query and the store runs none: the table that the
            core runs it over. `open` is not called then.
    """

    def __init__(
        self,
        *,
        identity: str,
        version: str | None,
        open: Callable[[], pa.RecordBatchReader],
        close: Callable[[], None] = lambda: None,
        sees: str = "",
        scan: Scan | None = None,
    ) -> None:
        self.identity = identity
        self.version = version
        self.open = open
        self.close = close
        self.sees = sees
        self.scan = scan

    def __enter__(self) -> SourceStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
