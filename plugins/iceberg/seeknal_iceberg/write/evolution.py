"""Matches a snapshot's columns with those of an existing table.

Decided before anything is written, as a frozen `Changes`; carried out in the
write's own transaction by `apply`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DecimalType,
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
)

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import SchemaChange, Target
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.types.nested import match
from seeknal_iceberg.types.recast import has_cast
from seeknal_iceberg.types.schema import Column, check_names, paths_of, same, widens

if TYPE_CHECKING:
    from pyiceberg.table import Table, Transaction

    from seeknal_iceberg.write.modes.interface import WriteMode

Path = tuple[str, ...]

#: A field of a struct, as pyiceberg writes it: id, name, whether it may be NULL.
_FIELD = re.compile(r"-?\d+: ((?:[^,<>]|, )+?): (?:optional|required) ")


@attrs.frozen(kw_only=True)
class Changes:
    """What a write does to a table's schema, and how its columns are called there.

    ``adds`` and ``updates`` are paths with their new types, ``drops`` names of columns of ours
    that the node no longer has. ``retypes`` are columns whose type cannot be widened to the new one:
    they are created again, and the values of rows that stay are cast. ``left`` are columns of ours
    that the node no longer has and stay, ``others`` those that somebody else made. ``lacks`` are fields
    inside columns that only the table has: they stay, and new rows have NULL there. ``names`` maps a
    snapshot's column to the table's (they may differ in case). ``exact``: the snapshot's
    Parquet fits the table byte for byte.
    """

    adds: tuple[tuple[Path, IcebergType], ...] = ()
    updates: tuple[tuple[Path, IcebergType], ...] = ()
    drops: tuple[str, ...] = ()
    lacks: tuple[Path, ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    exact: bool = True
    retypes: tuple[tuple[str, IcebergType, str], ...] = ()
    left: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.adds or self.updates or self.drops or self.retypes)

    def describe(self) -> str:
        """Return the changes in words."""
        words = [f"column {'.'.join(path)!r} added" for path, _ in self.adds]
        words += [
            f"column {'.'.join(path)!r} is now {spelled(type)}" for path, type in self.updates
        ]
        words += [f"field {'.'.join(path)!r} is NULL in the new rows" for path in self.lacks]
        words += [
            f"column {name!r} becomes {spelled(type)}, was {old}"
            for name, type, old in self.retypes
        ]
        words += [f"column {name!r} left the node: it is dropped" for name in self.drops]
        return "; ".join(words)

    def kept(self, mode: WriteMode) -> list[str]:
        """Return what becomes of columns that the snapshot lacks and that stay."""
        ours = "is kept, and set to NULL" if mode.rule.replaces else "is kept, and NULL in new rows"
        lost = "its values do not survive in rows that are written again"
        theirs = "is kept" if mode.carries else f"is kept; {lost}"
        return [
            *(
                f"column {n!r} left the node: it {ours} (on_schema_change: evolve)"
                for n in self.left
            ),
            *(f"column {n!r} was not made by Seeknal: it {theirs}" for n in self.others),
        ]


def of_table(table: Table, columns: Sequence[Column], target: Target, mode: WriteMode) -> Changes:
    """Decide what a write of columns does to a table's schema.

    Raises:
        WriteRefused: by column.
    """
    schema = table.schema()
    # Also of former partitionings: pyiceberg writes no manifest of a spec whose column is gone.
    sources = {
        schema.find_column_name(field.source_id)
        for spec in table.specs().values()
        for field in spec.fields
    }
    return compare(
        schema,
        columns,
        target=str(target.name),
        policy=target.on_schema_change,
        mode=mode,
        keep=frozenset(name for name in sources if name),
        taken={field.name for spec in table.specs().values() for field in spec.fields},
        ours=ledger.columns(table.metadata),
    )


def compare(
    schema: Schema,
    columns: Sequence[Column],
    *,
    target: str,
    policy: SchemaChange,
    mode: WriteMode,
    keep: frozenset[str] = frozenset(),
    taken: Collection[str] = (),
    ours: Collection[str] = (),
) -> Changes:
    """Decide what has to change for a table to take a snapshot.

    Args:
        schema: the table's.
        policy: ``FAIL`` refuses every change; ``SYNC`` drops columns of ours that the
            snapshot lacks.
        mode: the mode in force.
        keep: the table's columns that can be neither dropped nor created again (a partitioning
            depends on them).
        taken: names of the table's partition fields, former ones too.
        ours: the table's columns that we made.

    Raises:
        WriteRefused: by column.
    """
    known = {field.name: field for field in schema.fields}
    names = _pair(columns, list(known))
    found = _Differences()
    for column, (_, name) in zip(columns, names, strict=True):
        found.add(column, name, known.get(name), mode, keep)
    problems = found.problems
    problems += [
        f"the table has no column {there!r}, by which mode {mode.mode.value} finds rows"
        for here, there in names
        if here in mode.finds_by and there not in known
    ]
    present = {there for _, there in names}
    missing = [field for name, field in known.items() if name not in present]
    dropped = [field for field in missing if policy is SchemaChange.SYNC and field.name in ours]
    kept = [field for field in missing if field not in dropped]
    problems += _drop_problems(schema, dropped, keep)
    problems += [
        f"column {path[0]!r} cannot be added: a partition field of the table has that name"
        for path, _ in found.adds
        if len(path) == 1 and path[0] in taken
    ]
    problems += _kept_problems(kept, mode)
    if problems:
        raise WriteRefused(
            f"{target}: {'; '.join(problems)}",
            "CAST or name the columns as the table has them, set on_schema_change: sync to drop "
            "what left the node, replace all rows with seeknal run --full-refresh, or write to "
            "another table",
            target=target,
        )
    changes = Changes(
        adds=tuple(found.adds),
        updates=tuple(found.updates),
        drops=tuple(field.name for field in dropped),
        lacks=tuple(found.lacks),
        names=names,
        exact=found.exact and not found.retypes,
        retypes=tuple(found.retypes),
        left=tuple(field.name for field in kept if field.name in ours),
        others=tuple(field.name for field in kept if field.name not in ours),
    )
    check_names(list(_paths_after(schema, changes)), target)
    if policy is SchemaChange.FAIL and (changes or changes.lacks or kept):
        differ = [changes.describe(), *changes.kept(mode)]
        raise refusals.columns_differ(target, [words for words in differ if words])
    return changes


@attrs.define(kw_only=True)
class _Differences:
    """What differs between a snapshot's columns and the table's, gathered by column.

    ``problems`` are differences that the table cannot take.
    """

    adds: list[tuple[Path, IcebergType]] = attrs.field(factory=list)
    updates: list[tuple[Path, IcebergType]] = attrs.field(factory=list)
    lacks: list[Path] = attrs.field(factory=list)
    retypes: list[tuple[str, IcebergType, str]] = attrs.field(factory=list)
    problems: list[str] = attrs.field(factory=list)
    exact: bool = True

    def add(
        self,
        column: Column,
        name: str,
        field: NestedField | None,
        mode: WriteMode,
        keep: Collection[str],
    ) -> None:
        """Compare a column of the snapshot with the table's.

        Args:
            name: what the table calls it, or will.
            field: the table's column, None if it is new.
        """
        self.exact = self.exact and column.exact
        if field is None:
            self.adds.append(((name,), column.type))
            return
        self.exact = self.exact and name == column.name and not field.required
        self.exact = self.exact and same(column.type, field.field_type)
        found = list(_differences((name,), column.type, field.field_type))
        clash = next(((path, type) for kind, path, type in found if kind == "clash"), None)
        if clash is None:
            self.adds += [(path, type) for kind, path, type in found if kind == "add"]
            self.updates += [(path, type) for kind, path, type in found if kind == "widen"]
            self.lacks += [path for kind, path, _ in found if kind == "lack"]
            return
        reason = _unchangeable(field, column, mode, keep=keep)
        if reason:
            shown, path = ".".join(clash[0]), clash[0]
            there = f"is {_at(field, path)} there and {spelled(clash[1])} here"
            self.problems.append(f"column {shown!r} {there}, and {reason}")
        self.retypes.append((name, column.type, spelled(field.field_type)))


def _drop_problems(
    schema: Schema, dropped: Sequence[NestedField], keep: Collection[str]
) -> list[str]:
    """Name the columns that the node no longer has, and that the table needs."""
    return [
        *(
            f"column {field.name!r} left the node, and partitions the table, or did"
            for field in dropped
            if field.name in keep
        ),
        *(
            f"column {field.name!r} left the node, and identifies the table's rows"
            for field in dropped
            if field.field_id in schema.identifier_field_ids
        ),
    ]


def _paths_after(schema: Schema, changes: Changes) -> Iterator[Path]:
    """Yield the paths of all columns and fields that a table will have."""
    gone = {*changes.drops, *(name for name, _, _ in changes.retypes)}
    for field in schema.fields:
        if field.name not in gone:
            yield from paths_of(field.field_type, (field.name,))
    for path, type in (*changes.adds, *(((n,), type) for n, type, _ in changes.retypes)):
        yield from paths_of(type, path)


def _unchangeable(
    field: NestedField,
    column: Column,
    mode: WriteMode,
    *,
    keep: Collection[str],
) -> str:
    """Return why a column cannot be created again with another type; empty if it can."""
    if field.name in keep:
        return "it partitions the table, or did"
    if field.required:
        return "it is required"
    if mode.rule.replaces:
        return ""
    if column.name in mode.finds_by:
        return f"mode {mode.mode.value} finds rows by it"
    return "" if has_cast(field.field_type, column.type) else "rows that stay cannot be cast"


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


def _kept_problems(kept: Sequence[NestedField], mode: WriteMode) -> list[str]:
    """Name the columns that the snapshot lacks and must not."""
    if mode.takes_every_column:
        return [f"the snapshot lacks the table's column {field.name!r}" for field in kept]
    return [
        f"column {field.name!r} is required in the table and not in the snapshot"
        for field in kept
        if field.required
    ]


def _at(field: NestedField, path: Path) -> str:
    return spelled(field.field_type) if len(path) == 1 else "of another type"


def spelled(type: IcebergType) -> str:
    """Return a type as people write it: the fields of structs without ids."""
    return _FIELD.sub(r"\1 ", str(type))


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
        if widens(here, there) or _holds(there, here):
            return
        yield "widen" if widens(there, here) else "clash", path, here
    else:
        yield "clash", path, here


def _holds(there: IcebergType, here: IcebergType) -> bool:
    """Return whether every decimal of one type is one of another, which needs a cast alone."""
    if not isinstance(there, DecimalType) or not isinstance(here, DecimalType):
        return False
    whole = here.precision - here.scale <= there.precision - there.scale
    return whole and here.scale <= there.scale


def apply(transaction: Transaction, changes: Changes) -> None:
    """Make the changes in a transaction; nothing is visible before its commit."""
    if not changes:
        return
    with transaction.update_schema(allow_incompatible_changes=False) as update:
        for name in (*changes.drops, *(name for name, _, _ in changes.retypes)):
            update.delete_column((name,))
        for path, type in changes.updates:
            assert isinstance(type, PrimitiveType)
            update.update_column(path, field_type=type)
        for path, type in (*(((n,), type) for n, type, _ in changes.retypes), *changes.adds):
            update.add_column(path, type)
