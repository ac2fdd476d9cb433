"""The options of a source of type ``iceberg``."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import attrs

from seeknal_core.contract.options import Mistake

#: A time as messages show how to write one.
_TIME = "'2026-01-31T18:00:00Z'"


def _moment(value: object) -> str | None:
    """Return a moment as text in UTC; a time without an offset, and a day, are UTC's."""
    if value is None:
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        try:
            value = datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise Mistake("is not a time", f"write as_of: {_TIME}", "as_of") from None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC).isoformat()
    except OverflowError:
        raise Mistake("is no time in UTC", f"write as_of: {_TIME}", "as_of") from None


def _number(value: int | str | None) -> int | None:
    """Return the number that a template may have given as text."""
    if value is None or isinstance(value, int):
        return value
    if value.strip().isdecimal():
        return int(value)
    raise Mistake("is not a whole number", "write snapshot_id: 1234567890", "snapshot_id")


@attrs.frozen(kw_only=True)
class IcebergSourceOptions:
    """What a source of type ``iceberg`` may say under ``params``."""

    filter: str | None = attrs.field(
        default=None,
        metadata={
            "doc": "rows to read, in pyiceberg's expression syntax: \"qty > 3 and day = '2024-01-01'\""
        },
    )
    snapshot_id: int | str | None = attrs.field(
        default=None,
        converter=_number,
        metadata={"doc": "an iceberg_snapshot_id to read instead of the newest"},
    )
    as_of: object = attrs.field(
        default=None,
        converter=_moment,
        metadata={
            "doc": f"a time: what was the table's current snapshot then, as in {_TIME}",
            "later": True,
        },
    )
    tag: str | None = attrs.field(
        default=None, metadata={"doc": "a tag, whose snapshot is read", "later": True}
    )
    branch: str | None = attrs.field(
        default=None,
        metadata={"doc": "a branch, whose newest snapshot is read", "later": True},
    )

    def __attrs_post_init__(self) -> None:
        names = ("snapshot_id", "as_of", "tag", "branch")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise Mistake(
                f"stands beside {given[0]}, and each names what is read", "keep one", given[1]
            )
