"""Settling the guess of a column over several files, and what to say where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from seeknal_core.engine.sources.exact import Forms, has_offset
from seeknal_core.engine.sources.guess import NUMERIC, Class, Seen, combine, decide
from seeknal_core.project.formats.declared import DeclaredType, plain


class Looked(Protocol):
    """A file that was looked at."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def label(self) -> str:
        """Its name in messages."""
        ...


@attrs.frozen(kw_only=True)
class SeenIn:
    """What was seen of a column in one file.

    ``fits`` says of ``date`` and ``timestamp`` whether all values fit the format that the
    params give for it.
    """

    look: Looked
    seen: Seen
    fits: Mapping[str, bool]


@attrs.frozen(kw_only=True)
class Guessed:
    """A column's type, how its values are written, and what is to be said of it.

    ``problem`` is a file, a message and a hint where the files leave no type.
    """

    kind: DeclaredType
    forms: Forms
    note: str = ""
    problem: tuple[Path, str, str] | None = None


def settle(column: str, forms: Forms, by_file: Sequence[SeenIn]) -> Guessed:
    """Decide a column's type from what is in its files, in their order.

    Numbers widen to longer ones, dates to timestamps, digits to text; a file whose values are
    of another kind than the first's is a problem that names both.
    """
    files = [each for each in by_file if each.seen.classes]
    plain_forms = attrs.evolve(forms, date_format=None, timestamp_format=None)
    if not files:
        return Guessed(kind=plain("string"), forms=plain_forms)
    total = combine(each.seen for each in files)
    given = _by_format(forms, files, total)
    if given is not None:
        return given
    kind = decide(total)
    if total.classes == Class.OTHER_DATE and kind.name == "date":
        return _dates(column, plain_forms, files, total)
    first = decide(files[0].seen)
    if len(files) == 1 or kind == first:
        return Guessed(kind=kind, forms=plain_forms)
    later = _deciding(files, kind)
    if kind.name == "string" and first.name != "string":
        widens = not total.classes & ~NUMERIC
        if not widens:
            return Guessed(
                kind=kind,
                forms=plain_forms,
                problem=_disagreement(column, files[0], later),
            )
    note = f"column {column!r} is {kind.text}: {first.text} in {files[0].look.label}"
    note += f", {decide(later.seen).text} in {later.look.label}"
    return Guessed(kind=kind, forms=plain_forms, note=note if first.name != "string" else "")


def _by_format(forms: Forms, files: Sequence[SeenIn], total: Seen) -> Guessed | None:
    """Take the format that the params give for all columns, where all values fit it.

    It makes no date of a number: that is for who declares the column.
    """
    if total.classes & NUMERIC:
        return None
    if all(each.fits["timestamp"] for each in files):
        zoned = has_offset(forms.timestamp_format or "")
        only = attrs.evolve(forms, date_format=None)
        return Guessed(kind=plain("timestamptz" if zoned else "timestamp"), forms=only)
    if all(each.fits["date"] for each in files):
        return Guessed(kind=plain("date"), forms=attrs.evolve(forms, timestamp_format=None))
    return None


def _dates(column: str, forms: Forms, files: Sequence[SeenIn], total: Seen) -> Guessed:
    found = total.date_formats
    guessed = Guessed(kind=plain("date"), forms=attrs.evolve(forms, date_format=found[0]))
    unsure = next((each for each in files if len(each.seen.date_formats) > 1), None)
    if unsure is None:
        return guessed
    two = " and ".join(map(repr, unsure.seen.date_formats[:2]))
    message = f"column {column!r}: its dates fit {two}"
    sure = next((each for each in files if len(each.seen.date_formats) == 1), None)
    if sure is not None:
        message += f", and those of {sure.look.label} {sure.seen.date_formats[0]!r}"
    hint = (
        f"write params.date_format: {{{column}: {(sure or unsure).seen.date_formats[0]!r}}},"
        " or declare the column as varchar"
    )
    return attrs.evolve(guessed, problem=(unsure.look.path, message, hint))


def _deciding(files: Sequence[SeenIn], kind: DeclaredType) -> SeenIn:
    """Return the file that makes the column what it is, of those after the first."""
    so_far = files[0].seen
    for each in files[1:]:
        so_far |= each.seen
        if decide(so_far) == kind:
            return each
    return files[-1]


def _disagreement(column: str, first: SeenIn, later: SeenIn) -> tuple[Path, str, str]:
    kinds = [_said(each.seen) for each in (first, later)]
    message = f"column {column!r} holds {kinds[1]}, and {kinds[0]} in {first.look.label}"
    hint = "fix the file, or declare the column (as varchar, it takes every value)"
    if (first.seen.classes | later.seen.classes) & Class.OTHER_DATE:
        hint = "fix the file, or read it by a source of its own with params.date_format"
    return later.look.path, message, hint


def _said(seen: Seen) -> str:
    if seen.classes == Class.OTHER_DATE and seen.formats:
        return f"dates as {' or '.join(map(repr, seen.date_formats[:2]))}"
    kind = decide(seen)
    if kind.name == "string":
        return "text"
    return {"integer": "whole numbers", "float": "numbers", "decimal": "numbers"}.get(
        kind.name, f"values of type {kind.text}"
    )
