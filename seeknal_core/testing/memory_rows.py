"""What the reference backend's modes do to rows, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, assert_never

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from seeknal_core.contract import rules
from seeknal_core.contract.errors import BackendError, WriteRefused
from seeknal_core.contract.modes import Field
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Interval, Mode, SchemaChange, Target

if TYPE_CHECKING:
    from seeknal_core.testing.memory_store import Store


def check(target: Target, rows: pa.Table, there: pa.Table | None, full_refresh: bool) -> None:
    """Refuse rows that a rule of the target's mode or of the store is against.

    Raises:
        WriteRefused: naming the column, where it is one column's fault.
    """
    if not rows.column_names:
        raise refusals.no_columns(target.name)
    for field in rows.schema:
        if pa.types.is_null(field.type):
            hint = f"give it one: CAST({field.name} AS VARCHAR)"
            raise WriteRefused(f"{target.name}: column {field.name!r} has no type", hint)
    rules.check_named_columns(target, rows.column_names)
    if target.mode.rule.needs is Field.PARTITION_BY:
        lacking = [name for name in target.partition_by if name not in rows.column_names]
        if lacking or not target.partition_by:
            raise WriteRefused(f"{target.name} is partitioned by columns", "partition_by: [day]")
    _check_keys(target, rows)
    if there is None:
        return
    lacks = [name for name in there.column_names if name not in rows.column_names]
    if target.on_schema_change is SchemaChange.FAIL and there.schema != rows.schema:
        changed = sorted({*there.column_names} ^ {*rows.column_names}) or ["their types"]
        raise refusals.columns_differ(target.name, changed)
    if lacks and not target.mode.rule.replaces and not full_refresh:
        raise WriteRefused(f"column {lacks[0]!r} of {target.name} is missing", "select it")


def _check_keys(target: Target, rows: pa.Table) -> None:
    def nulls(columns: Sequence[str]) -> int:
        return sum(any(value is None for value in key) for key in _keys(rows, tuple(columns)))

    def doubles(columns: Sequence[str]) -> int:
        counts = Counter(_keys(rows, tuple(columns)))
        return sum(count > 1 for count in counts.values())

    rules.check_rows(target, nulls, doubles)


def merged(target: Target, rows: pa.Table, there: pa.Table) -> pa.Table:
    """Return the table's rows after `rows` arrived, in a mode that does not replace all."""
    match target.mode:
        case Mode.FULL | Mode.APPEND:
            kept = there
        case Mode.UPSERT_BY_KEY:
            kept = _without(there, rows, target.unique_keys)
        case Mode.INSERT_OVERWRITE:
            kept = _without(there, rows, target.partition_by)
        case Mode.INCREMENTAL_BY_TIME:
            new, old = (one[str(target.time_column)] for one in (rows, there))
            replaced = rules.intervals(target, rules.count_days(target, new))
            kept = there.filter(pc.invert(rules.inside(old, replaced)))
        case _ as never:
            assert_never(never)
    return pa.concat_tables([kept, rows], promote_options="permissive")


def _without(there: pa.Table, rows: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """Return a table without the rows whose values in some columns arrive now."""
    new = set(_keys(rows, columns))
    return there.filter([key not in new for key in _keys(there, columns)])


def _keys(rows: pa.Table, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[column].to_pylist() for column in columns), strict=True))


def notes(target: Target, rows: pa.Table, there: pa.Table) -> tuple[str, ...]:
    """Check the days that rows replace in a table; return what the user should hear of it.

    Raises:
        WriteRefused: a row is not in what the node covers, or a day would lose rows.
    """
    if target.mode.rule.placing is not Field.TIME_COLUMN:
        return ()
    new, old = (one[str(target.time_column)] for one in (rows, there))

    def outside(covers: Interval) -> int:
        return int(pc.sum(pc.invert(rules.inside(new, [covers]))).as_py() or 0)

    rules.check_covers(target, outside)
    return rules.check_days(target, rules.count_days(target, new), rules.count_days(target, old))


def query(store: Store, text: str) -> pa.Table:
    """Run one statement that only reads; tables go by ``namespace.table``.

    Raises:
        BackendError: it is another kind of statement, or fails.
    """
    with duckdb.connect(":memory:") as engine:
        try:
            statements = engine.extract_statements(text)
            if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
                raise BackendError("a source's query is one SELECT")
            for number, (name, table) in enumerate(store.tables.items()):
                engine.register(f"_{number}", table.rows)
                engine.execute(f'CREATE SCHEMA IF NOT EXISTS "{name[0]}"')
                engine.execute(f'CREATE VIEW "{name[0]}"."{name[-1]}" AS FROM _{number}')
            return engine.sql(text).to_arrow_table()
        except duckdb.Error as error:
            raise BackendError(f"the query fails: {error}") from error
