"""The one wording of each refusal that backends share.

A function takes the target's name, as the store prints it, and numbers or words, and returns
the exception to raise. So the same mistake reads the same in every store, and the conformance
suite can compare a backend's message with these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from seeknal_core.contract.errors import BackendError, StaleStage, WriteRefused
from seeknal_core.contract.modes import Field, Mode
from seeknal_core.contract.options import nearest
from seeknal_core.contract.shown import first_few
from seeknal_core.contract.types import Interval, Ownership

#: What to do where something was staged and is not there any more.
STAGE_AGAIN = "promote again: its rows have to be staged anew"
#: Things that a message lists before it counts the rest.
_LISTED = 5


def listed(words: Sequence[object], most: int = _LISTED) -> str:
    """Join words by commas: the first few, and how many more there are."""
    return first_few(words, at_most=most)


# Ownership


def whose(owner: Ownership | None) -> str:
    """Return the words for who a table belongs to; they follow its name.

    Args:
        owner: None where the store's ledger knows of none.
    """
    if owner is None:
        return "exists and was not made by this project and environment"
    return f"belongs to project {owner.project!r}, environment {owner.environment!r}"


def not_ours(name: object, owner: Ownership | None) -> WriteRefused:
    """Return the refusal to write a table that is somebody else's."""
    return WriteRefused(
        f"{name} {whose(owner)}",
        "take it over with: seeknal run --adopt, or write to another table",
        target=str(name),
    )


def stays(
    name: object, why: str = "is not this environment's any more", *, kind: str = ""
) -> WriteRefused:
    """Return the refusal to drop something.

    Args:
        why: words that follow the name.
        kind: a word before the name, as ``schema``.
    """
    return WriteRefused(
        f"{kind} {name} {why}: it stays".lstrip(),
        "drop it yourself if it has to go",
        target=str(name),
    )


# What a mode needs


def needs_option(name: object, mode: Mode, option: Field, example: str) -> WriteRefused:
    """Return the refusal of a target whose mode needs an option that it does not have.

    Args:
        example: the option's value in an example, as YAML.
    """
    return WriteRefused(
        f"{name}: mode {mode.value} needs {option.value}",
        f"add it to the target: {option.value}: {example}",
        target=str(name),
    )


def no_such_column(name: object, option: str, column: str, known: Sequence[str]) -> WriteRefused:
    """Return the refusal of an option that names a column that the rows do not have.

    Args:
        known: the columns of the rows.
    """
    return WriteRefused(
        f"{name}: {option} names {column!r}, which the node does not select",
        nearest(column, known) or f"select it; the columns are {', '.join(known)}",
        target=str(name),
    )


def no_partitions(name: object, mode: Mode) -> WriteRefused:
    """Return the refusal of a mode that replaces partitions in a store without them."""
    return WriteRefused(
        f"{name}: mode {mode.value} replaces partitions, which this store does not have",
        "mode: incremental_by_time, or another store",
        target=str(name),
    )


# Keys


def null_keys(name: object, count: int, columns: Sequence[str]) -> WriteRefused:
    """Return the refusal of rows without a key."""
    return WriteRefused(
        f"{name}: {count} rows of the snapshot have NULL in the key ({', '.join(columns)})",
        "filter them out in the node's SQL, or choose other unique_keys",
        target=str(name),
    )


def duplicated_keys(
    name: object, count: int, columns: Sequence[str], example: str = ""
) -> WriteRefused:
    """Return the refusal of keys that more than one row has.

    Args:
        count: how many keys they are.
        example: one of them, as text; empty where none is known.
    """
    keys = ", ".join(columns)
    shown = f", as {example}" if example else ""
    return WriteRefused(
        f"{name}: {count} keys ({keys}) are duplicated in the snapshot{shown}",
        f"keep one row of each: QUALIFY row_number() OVER (PARTITION BY {keys}) = 1, or choose "
        "other unique_keys",
        target=str(name),
    )


def no_key(name: object, columns: Sequence[str], why: str) -> WriteRefused:
    """Return the refusal of columns whose values the store cannot compare.

    Args:
        why: what is wrong with them.
    """
    return WriteRefused(
        f"{name}: ({', '.join(columns)}) cannot be a key: {why}",
        "cast it in the node's SQL to a type that has an equality: CAST(… AS VARCHAR)",
        target=str(name),
    )


# Times


def not_a_time(name: object, column: str, kind: object) -> WriteRefused:
    """Return the refusal of a time column of another type."""
    return WriteRefused(
        f"{name}: time_column {column!r} is {kind}, not a date or timestamp",
        f"cast it in the node's SQL: CAST({column} AS TIMESTAMP)",
        target=str(name),
    )


def null_times(name: object, count: int, column: str) -> WriteRefused:
    """Return the refusal of rows without a time."""
    return WriteRefused(
        f"{name}: {count} rows of the snapshot have NULL in the time column ({column})",
        "filter them out in the node's SQL, or fill the column",
        target=str(name),
    )


def outside_calendar(name: object, column: str | None) -> WriteRefused:
    """Return the refusal of times that no calendar of ours has."""
    return WriteRefused(
        f"{name}: column {column!r} holds a time outside of the years 1 to 9999",
        "filter it out in the node's SQL",
        target=str(name),
    )


def outside_covers(
    name: object, count: int, column: str | None, covers: Interval, node: str
) -> WriteRefused:
    """Return the refusal of rows whose time is not in what the node ``covers``."""
    return WriteRefused(
        f"{name}: {count} rows of the snapshot have a {column} outside of {covers}, which "
        f"{node} covers",
        "select only what is covered, or correct 'covers' of the node",
        target=str(name),
    )


def losing_days(name: object, losing: Mapping[date, tuple[int, int]], node: str) -> WriteRefused:
    """Return the refusal to replace days by fewer rows than they have.

    Args:
        losing: per day, how many rows are in the table and how many arrive.
    """
    days = sorted(losing)
    shown = [f"{day} has {losing[day][0]} rows there and {losing[day][1]} here" for day in days]
    last = days[-1] + timedelta(days=1) if days[-1] < date.max else days[-1]
    return WriteRefused(
        f"{name}: days would lose rows: {listed(shown)}",
        "read whole days; or say what the rows are complete for: covers: {from: "
        f"{days[0]}, to: {last}}} on {node}; "
        "or replace the table: seeknal run --full-refresh",
        target=str(name),
    )


# Columns


def no_columns(name: object) -> WriteRefused:
    """Return the refusal of rows without columns."""
    return WriteRefused(
        f"{name}: the snapshot has no columns", "select at least one column", target=str(name)
    )


def columns_differ(name: object, differences: Sequence[str]) -> WriteRefused:
    """Return the refusal of other columns where ``on_schema_change`` is ``fail``.

    Args:
        differences: what differs, in words; or the columns' names.
    """
    return WriteRefused(
        f"{name}: on_schema_change is fail, and the columns differ: {'; '.join(differences)}",
        "set on_schema_change: evolve, or change the node",
        target=str(name),
    )


# Staleness


def moved(name: object, when: str, then: str | None, now: str | None) -> StaleStage:
    """Return the refusal to write over what somebody wrote meanwhile.

    Args:
        when: ``staged`` or ``published``: since when nobody else may have written.
        then: the version at that time, None where there was no table.
        now: the version that is there.
    """
    return StaleStage(
        f"{name} was changed by somebody else since it was {when}: "
        f"version {then or '(no table)'} then, {now or '(no table)'} now",
        "look at who writes it, then promote again",
        target=str(name),
    )


def another_promotion(found: int, wanted: int, place: str = "") -> StaleStage:
    """Return the refusal of a batch that was staged before another promotion was published.

    Args:
        found: the generation that is there.
        wanted: the one that the batch was to make.
        place: the store, where it is known.
    """
    where = f"{place}: " if place else ""
    return StaleStage(
        f"{where}another promotion was published meanwhile: generation {found} is there, and "
        f"{wanted} was to come",
        "look at what it brought, then promote again",
        target=place,
    )


def nothing_staged(name: object, promotion: str) -> BackendError:
    """Return the refusal to publish what is not staged."""
    return BackendError(
        f"nothing is staged for {name} in promotion {promotion}", STAGE_AGAIN, target=str(name)
    )


def stage_is_gone(name: object, promotion: str, where: str = "") -> StaleStage:
    """Return the refusal to publish what was staged, and is not there any more.

    Args:
        where: where it was, empty where nobody can say.
    """
    place = f" from {where}" if where else ""
    return StaleStage(
        f"{name}: what promotion {promotion} staged is gone{place}", STAGE_AGAIN, target=str(name)
    )


def undone(name: object, promotion: str) -> StaleStage:
    """Return the refusal to publish a promotion that was undone."""
    return StaleStage(
        f"promotion {promotion} was undone, so nothing is staged for {name} any more",
        STAGE_AGAIN,
        target=str(name),
    )


def past_undoing(name: object, promotion: str) -> WriteRefused:
    """Return the refusal to undo a promotion after what undoes it was dropped."""
    return WriteRefused(
        f"{name}: what undoes promotion {promotion} was thrown away",
        "it cannot be undone any more: promote an earlier state instead",
        target=str(name),
    )
