"""Turns conditions of a query into a filter of a scan, if both certainly mean the same.

SQL casts literals to a column's type or the other way round; a scan compares values of one
type. So a condition is taken only where its literal is of the column's type as it stands.
Floating-point columns are left out: SQL orders NaN above all numbers, a scan drops it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    EqualTo,
    GreaterThan,
    GreaterThanOrEqual,
    In,
    IsNull,
    LessThan,
    LessThanOrEqual,
    NotEqualTo,
    NotNull,
)
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
)

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.schema import Schema

    from seeknal_core.contract.types import Condition

_PREDICATES: dict[str, Any] = {
    "=": EqualTo, "<>": NotEqualTo, "<": LessThan, "<=": LessThanOrEqual, ">": GreaterThan,
    ">=": GreaterThanOrEqual, "is null": IsNull, "is not null": NotNull, "in": In,
}  # fmt: skip
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?")


class _Unlike(Exception):
    """A literal is not of the column's type."""


def expression(where: Sequence[Condition], schema: Schema) -> BooleanExpression:
    """Return a filter that all rows pass of which the conditions are true."""
    found: BooleanExpression = AlwaysTrue()
    for condition in where:
        found = And(found, _one(condition, schema))
    return found


def _one(condition: Condition, schema: Schema) -> BooleanExpression:
    name, operator, value = condition.column, condition.operator, condition.value
    field = next((each for each in schema.fields if each.name == name), None)
    # A name with a dot would be looked for inside a struct.
    if field is None or "." in name or not isinstance(field.field_type, PrimitiveType):
        return AlwaysTrue()
    predicate = _PREDICATES.get(operator)
    if predicate is None:
        return AlwaysTrue()
    made: BooleanExpression
    try:
        if value is None:
            made = predicate(name)
        elif isinstance(value, tuple):
            made = predicate(name, {_literal(each, field.field_type) for each in value})
        else:
            made = predicate(name, _literal(value, field.field_type))
    except _Unlike:
        return AlwaysTrue()
    return made


def _literal(value: object, type: IcebergType) -> Any:
    """Return a value as pyiceberg's literals take it for a type.

    Raises:
        _Unlike: it is of another type, or would not be the same.
    """
    if isinstance(type, BooleanType) and isinstance(value, bool):
        return value
    if isinstance(type, IntegerType | LongType) and isinstance(value, int):
        bits = 31 if isinstance(type, IntegerType) else 63
        if not isinstance(value, bool) and -(2**bits) <= value < 2**bits:
            return value
    if isinstance(type, DecimalType) and isinstance(value, int | Decimal):
        return _decimal(value, type)
    if isinstance(type, StringType) and isinstance(value, str):
        return value
    if isinstance(type, DateType):
        return _day(value)
    if isinstance(type, TimestampType):
        return _moment(value)
    if isinstance(type, TimestamptzType):
        return _moment(value) + "+00:00"  # the engine's zone
    raise _Unlike


def _decimal(value: int | Decimal, type: DecimalType) -> Decimal:
    exact = Decimal(value)
    scaled = exact.scaleb(type.scale)
    if isinstance(value, bool) or scaled != scaled.to_integral_value():
        raise _Unlike
    if len(str(abs(int(scaled)))) > type.precision:
        raise _Unlike
    return Decimal((int(scaled) < 0, tuple(map(int, str(abs(int(scaled))))), -type.scale))


def _day(value: object) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and _DAY.fullmatch(value):
        return _valid(value, date.fromisoformat)
    raise _Unlike


def _moment(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.isoformat(timespec="microseconds")
    if isinstance(value, str) and _SECOND.fullmatch(value):
        return _moment(datetime.fromisoformat(_valid(value, datetime.fromisoformat)))
    if isinstance(value, str) and _DAY.fullmatch(value):
        return _moment(datetime.fromisoformat(_valid(value, date.fromisoformat)))
    raise _Unlike


def _valid(text: str, read: Any) -> str:
    try:
        read(text)
    except ValueError:
        raise _Unlike from None
    return text
