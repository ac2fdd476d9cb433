"""Nodes in JSON and back, for the cache of parsed files.

What a file's text says is the same for any environment and profile, so its nodes may be
kept under the text's digest. Fields that hold their default are left out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.contract.types import Location, Mode, SchemaChange, TargetSpec
from seeknal_core.files.cache import Cache
from seeknal_core.project.specs import (
    Audit,
    ChangePolicy,
    ColumnSpec,
    Freshness,
    Severity,
    SourceNode,
    SqlNode,
)

#: Changed when the meaning of anything cached changes: a field of these classes, or how a
#: text is read.
VERSION = 2

#: By place: entries name a class by its number.
_CLASSES: tuple[type[Any], ...] = (
    SourceNode, SqlNode, Location, TargetSpec, ColumnSpec, Audit, Freshness,
)  # fmt: skip
_ENUMS: tuple[type[enum.Enum], ...] = (Mode, SchemaChange, ChangePolicy, Severity)
_PLAIN = frozenset({type(None), bool, int, float, str})
_TUPLE, _LIST, _TIME, _ENUM, _CLASS = range(5)


class Unpackable(ValueError):
    """A value that JSON has no counterpart of, as a date that somebody wrote without quotes."""


def open_parsed(path: Path) -> Cache:
    """Open the cache of parsed files."""
    cache = Cache()
    cache.open(path, [str(VERSION)])
    return cache


def pack(nodes: Sequence[SourceNode | SqlNode]) -> list[Any]:
    """Return nodes as values of JSON.

    Raises:
        Unpackable: one of them holds something that `unpack` could not give back.
    """
    return [_packed(node) for node in nodes]


def unpack(entry: Any) -> list[SourceNode | SqlNode]:
    """Return the nodes that `pack` was given.

    Raises:
        ValueError: they are not what `pack` gives.
    """
    try:
        nodes = [_unpacked(packed) for packed in entry]
    except (
        *(TypeError, ValueError, IndexError, KeyError, AttributeError),
        *(OverflowError, RecursionError),
    ) as error:
        raise ValueError(f"a damaged entry: {error}") from None
    if not all(isinstance(node, SourceNode | SqlNode) for node in nodes):
        raise ValueError("a damaged entry: something else than nodes")
    return nodes


def _packed(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        if not all(type(key) is str for key in value):
            raise Unpackable("a key that is no text")
        return {key: _packed(item) for key, item in value.items()}
    if kind is tuple:
        return [_TUPLE, *map(_packed, value)]
    if kind is list:
        return [_LIST, *map(_packed, value)]
    if kind is timedelta:
        return [_TIME, value.days, value.seconds, value.microseconds]
    if kind in _ENUMS:
        return [_ENUM, _ENUMS.index(kind), value.value]
    if kind in _CLASSES:
        return [_CLASS, _CLASSES.index(kind), _fields(value)]
    raise Unpackable(f"a {kind.__name__}")


def _fields(value: Any) -> dict[str, Any]:
    found = {}
    for field in attrs.fields(type(value)):
        held = getattr(value, field.name)
        default: Any = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # a function to mypy
            default = default.factory()
        if type(held) is not type(default) or held != default:
            found[field.name] = _packed(held)
    return found


def _unpacked(value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return _MAKE[value[0]](value)
    if kind is dict:
        return {key: _unpacked(item) for key, item in value.items()}
    return value


def _tuple(value: list[Any]) -> tuple[Any, ...]:
    return tuple([_unpacked(item) for item in value[1:]])


def _list(value: list[Any]) -> list[Any]:
    return [_unpacked(item) for item in value[1:]]


def _time(value: list[Any]) -> timedelta:
    return timedelta(*value[1:])


def _member(value: list[Any]) -> enum.Enum:
    member: enum.Enum = _ENUMS[value[1]](value[2])
    return member


def _instance(value: list[Any]) -> Any:
    return _CLASSES[value[1]](**{name: _unpacked(item) for name, item in value[2].items()})


_MAKE: tuple[Callable[[list[Any]], Any], ...] = (_tuple, _list, _time, _member, _instance)
