"""Which types of Parquet columns agree, and which ones would not survive the reading."""

from __future__ import annotations

import pyarrow as pa

_MOST_DIGITS = 38
#: The widest integers whose values a float of so many bits keeps.
_INTEGERS_IN = {32: 16, 64: 32}


def lost(kind: pa.DataType) -> tuple[str, str] | None:
    """Return why a type can't be read as what it is, and the way out; None where it can."""
    types = pa.types
    if types.is_decimal(kind) and kind.precision > _MOST_DIGITS:
        return (
            f"and no more than {_MOST_DIGITS} digits can be kept",
            f"write the file with decimals of at most {_MOST_DIGITS} digits, or as text",
        )
    if types.is_duration(kind):
        return "and a duration has no type here", "write it as a number, or as text"
    for child in _children(kind):
        found = lost(child)
        if found is not None:
            return found
    return None


def agree(one: pa.DataType, other: pa.DataType, *, loose: bool) -> bool:
    """Return whether values of two types can be one column, with nothing lost.

    Args:
        loose: whether a struct may have members that the other has not.
    """
    one, other = _class(one), _class(other)
    if one.equals(other):
        return True
    types = pa.types
    if types.is_null(one) or types.is_null(other):
        return True
    if types.is_integer(one) and types.is_integer(other):
        return True
    if types.is_floating(one) and types.is_floating(other):
        return True
    if types.is_integer(one) and types.is_floating(other):
        return bool(one.bit_width <= _INTEGERS_IN.get(other.bit_width, 0))
    if types.is_floating(one) and types.is_integer(other):
        return agree(other, one, loose=loose)
    if types.is_decimal(one) and types.is_decimal(other):
        whole = max(one.precision - one.scale, other.precision - other.scale)
        return bool(whole + max(one.scale, other.scale) <= _MOST_DIGITS)
    if types.is_timestamp(one) and types.is_timestamp(other):
        return (one.tz is None) == (other.tz is None)
    if {types.is_date(one), types.is_date(other)} == {True, False}:
        stamp = other if types.is_date(one) else one
        return bool(types.is_timestamp(stamp) and stamp.tz is None)
    if types.is_time(one) and types.is_time(other):
        return True
    return _agree_nested(one, other, loose)


def _agree_nested(one: pa.DataType, other: pa.DataType, loose: bool) -> bool:
    types = pa.types
    if types.is_list(one) and types.is_list(other):
        return agree(one.value_type, other.value_type, loose=loose)
    if types.is_map(one) and types.is_map(other):
        keys = agree(one.key_type, other.key_type, loose=loose)
        return keys and agree(one.item_type, other.item_type, loose=loose)
    if types.is_struct(one) and types.is_struct(other):
        here = {field.name.casefold(): field.type for field in one}
        there = {field.name.casefold(): field.type for field in other}
        if here.keys() != there.keys() and not loose:
            return False
        return all(agree(here[k], there[k], loose=loose) for k in here.keys() & there.keys())
    return False


def _class(kind: pa.DataType) -> pa.DataType:
    """Return one type for all that are read alike."""
    types = pa.types
    if types.is_dictionary(kind):
        return _class(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type)
    return kind


def _children(kind: pa.DataType) -> list[pa.DataType]:
    return [kind.field(index).type for index in range(kind.num_fields)]
