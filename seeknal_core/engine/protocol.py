"""What an engine can do, as the rest of the core sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs

from seeknal_core.contract.types import Scan, Snapshot
from seeknal_core.project.specs import AnyNode, Audit, PythonNode, SourceNode

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.engine.files.opened import ResolvedFiles
    from seeknal_core.engine.snapshots import Staging


#: Begins every digest of rows (`Engine.digest`); those of earlier versions have no such mark.
ROWS_FORM = "2:"


@attrs.frozen(kw_only=True)
class Output:
    """What a node put into its staging folder: the stored schema and the rows.

    ``notes`` are sentences for the user: what was left out, what a guess was changed to.
    """

    schema: pa.Schema = attrs.field(eq=False, repr=False)
    row_count: int
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class AuditOutcome:
    """How one audit ended.

    ``failing_rows`` counts the rows (of ``unique``: the values) that break the
    rule; ``message`` says which rule, on which columns, and by how much.
    """

    audit: Audit
    passed: bool
    failing_rows: int
    message: str


class NodeVariables(Protocol):
    """What a Python node may ask for about its run."""

    @property
    def today(self) -> date:
        """The day the run started."""
        ...

    @property
    def run_id(self) -> str:
        """The run's id."""
        ...

    @property
    def env_name(self) -> str:
        """The environment's canonical name."""
        ...

    @property
    def vars(self) -> Mapping[str, object]:
        """What ``--vars`` gave."""
        ...


class Engine(Protocol):
    """Computes nodes into staging folders and asks questions of snapshots.

    Methods are called from several threads at once, one node a thread. Each
    raises `Interrupted` when the user asked to stop, and `EngineError` with the
    node's id for whatever the engine refuses.
    """

    def compute_sql(
        self,
        node: str,
        statements: Sequence[str],
        inputs: Mapping[str, Snapshot],
        staging: Staging,
    ) -> Output:
        """Run a node's statements and store the last one's rows, in its order.

        Args:
            statements: templates expanded, references as quoted view names.
            inputs: by node id, which is the view's name (``"source.orders"``).
        """
        ...

    def compute_python(
        self,
        node: PythonNode,
        inputs: Mapping[str, Snapshot],
        staging: Staging,
        variables: NodeVariables,
    ) -> Output:
        """Call a Python node's function and store what it returns."""
        ...

    def store_stream(
        self,
        node: str,
        reader: pa.RecordBatchReader,
        staging: Staging,
        *,
        max_rows: int | None,
        max_bytes: int | None,
    ) -> Output:
        """Store a stream in bounded memory.

        Args:
            max_rows: the most rows allowed, None for no limit.
            max_bytes: the most bytes in memory format, summed over all batches.
        """
        ...

    def query_over(
        self, node: str, sql: str, columns: Sequence[str] | None, scan: Scan
    ) -> AbstractContextManager[pa.RecordBatchReader]:
        """Return the rows of a query over a table whose store runs none.

        Args:
            columns: those of the result that are wanted, in that order; None for all.
        """
        ...

    def read_files(self, source: SourceNode, files: ResolvedFiles, staging: Staging) -> Output:
        """Read a source's files by its type, params and declared columns."""
        ...

    def digest(self, files: Sequence[Path]) -> str:
        """Return a digest of the schema and rows of Parquet files, whatever their order.

        Nobody can choose rows that have the digest of others.
        """
        ...

    def former_digest(self, files: Sequence[Path]) -> str:
        """Return the digest that older versions made, to find what they stored and wrote.

        Other rows may have the same.
        """
        ...

    def run_audits(
        self, node: AnyNode, snapshot: Snapshot, related: Mapping[str, Snapshot]
    ) -> tuple[AuditOutcome, ...]:
        """Run all audits of a node, in their order.

        Args:
            related: snapshots of other nodes that audits name, by node id.
        """
        ...

    def check_columns(self, node: AnyNode, snapshot: Snapshot) -> tuple[str, ...]:
        """Return a sentence for each declared column that is missing or of another type."""
        ...

    def newest(self, snapshot: Snapshot, column: str) -> datetime | None:
        """Return the latest time in a column, in UTC; None where there is none."""
        ...

    def query(self, sql: str, snapshots: Mapping[str, Snapshot]) -> pa.RecordBatchReader:
        """Answer one SELECT over snapshots, named by id and, where unambiguous, by name."""
        ...

    def close(self) -> None:
        """Free everything the engine holds."""
        ...
