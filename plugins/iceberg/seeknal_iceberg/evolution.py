"""How a snapshot's columns meet the columns of a table that exists.

Decided before anything is written, as a frozen `Changes`; carried out in the
write's own transaction by `apply`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
from pyiceberg.schema import Schema
from pyiceberg.types import (
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
)

from seeknal_core.errors import WriteRefused
from seeknal_core.types import SchemaChange
from seeknal_iceberg.nested import match
from seeknal_iceberg.schema import Column, same, widens

if TYPE_CHECKING:
    from pyiceberg.table import Transaction

Path = tuple[str, ...]


@attrs.frozen(kw_only=True)
class Changes:
    """What a write does to a table's schema, and how its columns are called there.

    ``adds`` and ``updates`` are paths with their new types, ``drops`` names of
    columns. ``lacks`` are fields inside columns that only the table has: they stay, and
    new rows have NULL there. ``names`` maps a snapshot's column to the table's (they may differ in
    case). ``exact``: the snapshot's Parquet fits the table byte for byte.
    """

    adds: tuple[tuple[Path, IcebergType], ...] = ()
    updates: tuple[tuple[Path, IcebergType], ...] = ()
    drops: tuple[str, ...] = ()
    lacks: tuple[Path, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    exact: bool = True

    def __bool__(self) -> bool:
        return bool(self.adds or self.updates or self.drops)

    def describe(self) -> str:
        """Return the changes in words."""
        words = [f"column {'.'.join(path)!r} added" for path, _ in self.adds]
        words += [f"column {'.'.join(path)!r} is now {type}" for path, type in self.updates]
        words += [f"column {name!r} dropped" for name in self.drops]
        words += [f"field {'.'.join(path)!r} is NULL in the new rows" for path in self.lacks]
        return "; ".join(words)


def compare(
    schema: Schema,
    columns: Sequence[Column],
    *,
    target: str,
    policy: SchemaChange,
    replaces: bool,
    keep: frozenset[str] = frozenset(),
) -> Changes:
    """Decide what has to change for a table to take a snapshot.

    Args:
        schema: the table's.
        policy: ``FAIL`` refuses every change.
        replaces: the write replaces all rows, so that a column which the snapshot
            lacks is dropped; otherwise its absence is refused.
        keep: the table's columns that cannot be dropped (a partitioning hangs on them).

    Raises:
        WriteRefused: by column.
    """
    known = {field.name: field for field in schema.fields}
    names = _pair(columns, list(known))
    adds: list[tuple[Path, IcebergType]] = []
    updates: list[tuple[Path, IcebergType]] = []
    lacks: list[Path] = []
    exact = True
    problems: list[str] = []
    for column, (_, name) in zip(columns, names, strict=True):
        exact = exact and column.exact
        field = known.get(name)
        if field is None:
            adds.append(((name,), column.type))
            continue
        exact = exact and name == column.name and not field.required
        exact = exact and same(column.type, field.field_type)
        for kind, path, type in _differences((name,), column.type, field.field_type):
            if kind == "add":
                adds.append((path, type))
            elif kind == "widen":
                updates.append((path, type))
            elif kind == "lack":
                lacks.append(path)
            else:
                shown = ".".join(path)
                problems.append(f"column {shown!r} is {_at(field, path)} there and {type} here")
    present = {there for _, there in names}
    missing = [name for name in known if name not in present]
    problems += _missing_problems(missing, replaces=replaces, keep=keep)
    if problems:
        raise WriteRefused(
            f"{target}: {'; '.join(problems)}",
            "CAST or name the columns as the table has them, or write to another table",
            target=target,
        )
    drops = tuple(missing) if replaces else ()
    changes = Changes(
        adds=tuple(adds),
        updates=tuple(updates),
        drops=drops,
        lacks=tuple(lacks),
        names=names,
        exact=exact,
    )
    if (changes or lacks) and policy is SchemaChange.FAIL:
        raise WriteRefused(
            f"{target}: on_schema_change is fail, and the schema differs: {changes.describe()}",
            "set on_schema_change: evolve, or change the node",
            target=target,
        )
    return changes


def _pair(columns: Sequence[Column], known: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return each column's name and what the table calls it, or will."""
    folded = {name.casefold(): name for name in known}
    return tuple(
        (
            column.name,
            column.name
            if column.name in known
            else folded.get(column.name.casefold(), column.name),
        )
        for column in columns
    )


def _missing_problems(missing: Sequence[str], *, replaces: bool, keep: frozenset[str]) -> list[str]:
    if not replaces:
        listed = ", ".join(repr(name) for name in missing)
        return [f"the snapshot lacks the table's column {listed}"] if missing else []
    return [
        f"column {name!r} partitions the table, or did, and is not in the snapshot"
        for name in missing
        if name in keep
    ]


def _at(field: NestedField, path: Path) -> str:
    return str(field.field_type) if len(path) == 1 else "of another type"


def _differences(
    path: Path, here: IcebergType, there: IcebergType
) -> Iterator[tuple[str, Path, IcebergType]]:
    """Walk two types; yield ``add``, ``widen``, ``clash`` or ``lack`` with a path and a type.

    The path has the table's names; the type is ours, or the table's of a field that we lack.
    """
    if isinstance(here, StructType) and isinstance(there, StructType):
        positions = match([field.name for field in there.fields], [f.name for f in here.fields])
        known = dict(zip(positions, there.fields, strict=True))
        for position, field in enumerate(here.fields):
            found = known.pop(position, None)
            if found is None:
                yield "add", (*path, field.name), field.field_type
            else:
                yield from _differences((*path, found.name), field.field_type, found.field_type)
        if None in positions:
            for field, found_at in zip(there.fields, positions, strict=True):
                if found_at is None:
                    yield "lack", (*path, field.name), field.field_type
    elif isinstance(here, ListType) and isinstance(there, ListType):
        yield from _differences((*path, "element"), here.element_type, there.element_type)
    elif isinstance(here, MapType) and isinstance(there, MapType):
        if not widens(here.key_type, there.key_type):
            yield "clash", (*path, "key"), here.key_type
        yield from _differences((*path, "value"), here.value_type, there.value_type)
    elif isinstance(here, PrimitiveType) and isinstance(there, PrimitiveType):
        if widens(here, there):
            return
        yield "widen" if widens(there, here) else "clash", path, here
    else:
        yield "clash", path, here


def apply(transaction: Transaction, changes: Changes) -> None:
    """Make the changes in a transaction; nothing is visible before its commit."""
    if not changes:
        return
    with transaction.update_schema(allow_incompatible_changes=False) as update:
        for name in changes.drops:
            update.delete_column((name,))
        for path, type in changes.updates:
            assert isinstance(type, PrimitiveType)
            update.update_column(path, field_type=type)
        for path, type in changes.adds:
            update.add_column(path, type)
