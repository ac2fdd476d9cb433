"""``covers: {from, to}``: the time that a node's rows are complete for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import attrs

from seeknal_core.contract.options import Mistake, join, kind_of
from seeknal_core.contract.types import Interval, TargetSpec
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.yaml import Document

_USAGE = "write covers: {from: 2024-01-01, to: 2024-02-01}; the end is not part of it"


def read_covers(
    document: Document, node: Mapping[str, object], collector: Collector
) -> tuple[str, str] | None:
    """Read ``covers`` of a node; None where it is not given, or holds a mistake.

    Texts with templates are looked at when they are expanded.
    """
    value = node.get("covers")
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"from", "to"}:
        collector.add(document, "covers", f"is {_shape(value)}, not from and to", _USAGE)
        return None
    start, end = (_text(value[key]) for key in ("from", "to"))
    for key, text in (("from", start), ("to", end)):
        if text is None:
            collector.add(document, join("covers", key), "is no date and no time", _USAGE)
    if start is None or end is None:
        return None
    if "{{" not in start + end:
        try:
            interval_of(start, end)
        except Mistake as error:
            collector.add(document, "covers", error.message, error.hint)
            return None
    return start, end


def with_covers(covers: tuple[str, str] | None, targets: Sequence[TargetSpec]) -> dict[str, Any]:
    """Return a node's fields ``covers`` and ``targets``, whose targets know what it covers."""
    known = tuple(attrs.evolve(target, covers=covers) for target in targets)
    return {"covers": covers, "targets": known}


def _shape(value: object) -> str:
    return ", ".join(map(str, value)) or "empty" if isinstance(value, Mapping) else kind_of(value)


def _text(value: object) -> str | None:
    """Return a date or time as text; YAML makes values of its own of those without quotes."""
    if isinstance(value, str):
        return value.strip() or None
    return value.isoformat() if isinstance(value, date) else None


def interval_of(start: str, end: str) -> Interval:
    """Return the interval that two expanded texts mean: dates, or times in ISO 8601.

    Raises:
        Mistake: one of them is neither, or the end is not after the start.
    """
    first, last = _moment(start), _moment(end)
    if first >= last:
        raise Mistake(f"ends ({end}) before it begins ({start}), or at once", _USAGE)
    return Interval(start=first, end=last)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Mistake(f"{text!r} is no date and no time in ISO 8601", _USAGE) from None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo is not None else found
