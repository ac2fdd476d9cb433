"""What a hook returned, held to the types of its fields.

A plugin is not type-checked, and a wrong value would be found far from its author: in the
state, which cannot be read again, or not at all. So every value that crosses the line from
a backend is looked at, field by field.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, cast

import attrs

from seeknal_core.contract.types import Scan, SourceStream, Staged

#: Values of these have no fields that could be wrong.
_SIMPLE = frozenset({type(None), bool, int, float, str})
#: Fields that count, and so are not negative.
_COUNTS = frozenset({"rows", "rows_written", "rows_after", "generation", "removed"})


def wrong(result: object) -> str:
    """Return what is wrong with a hook's result, as in "version is None, not str"; else nothing."""
    if type(result) is int and result < 0:
        return f"{result}, which is no count"
    return next(_wrong(result, ""), "")


def _wrong(value: object, path: str) -> Iterator[str]:
    if isinstance(value, SourceStream):
        yield from _unlike(value.identity, str, f"{path}identity")
        yield from _unlike(value.version, str | None, f"{path}version")
        yield from _unlike(value.scan, Scan | None, f"{path}scan")
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _wrong(item, f"{path.removesuffix('.')}[{number}].")
    elif _has_fields(cast(Any, type(value))):
        for name, hint in _hints(cast(Any, type(value))):
            yield from _field(value, name, hint, path)
        if isinstance(value, Staged):
            yield from _not_json(value.data, f"{path}data")


def _field(value: object, name: str, hint: object, path: str) -> Iterator[str]:
    found = getattr(value, name)
    bad = next(_unlike(found, hint, f"{path}{name}"), "")
    if bad:
        yield bad
    elif name in _COUNTS and type(found) is int and found < 0:
        yield f"{path}{name} is {found}, which is no count"
    elif type(found) not in _SIMPLE:
        yield from _wrong(found, f"{path}{name}.")


@functools.cache
def _has_fields(cls: type) -> bool:
    """Whether a class is one of the contract's values."""
    return attrs.has(cls) and cls.__module__.startswith("seeknal_core.")


@functools.cache
def _hints(cls: type) -> tuple[tuple[str, object], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in attrs.fields(cls))


def _unlike(value: object, hint: object, path: str) -> Iterator[str]:
    """Return where a value is not of a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (object, Any) or isinstance(hint, typing.TypeVar):
        return
    if origin in (typing.Union, types.UnionType):
        if all(next(_unlike(value, each, path), "") for each in arguments):
            yield f"{path} is {_shown(value)}, not {_named(hint)}"
        return
    if origin is tuple and isinstance(value, tuple):
        for number, item in enumerate(value):
            each = arguments[0] if arguments[-1] is Ellipsis else arguments[number]
            yield from _unlike(item, each, f"{path}[{number}]")
        return
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unlike(key, arguments[0], f"a key of {path}")
            yield from _unlike(item, arguments[1], f"{path}[{key!r}]")
        return
    expected = origin or hint
    if expected is None:
        expected = type(None)
    if not isinstance(expected, type):
        return
    is_bool = isinstance(value, bool) and expected is int
    if not isinstance(value, expected) or is_bool:
        yield f"{path} is {_shown(value)}, not {_named(hint)}"


def _not_json(value: object, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"a key of {path} is {_shown(key)}, not str"
            yield from _not_json(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _not_json(item, f"{path}[{number}]")
    elif value is not None and not isinstance(value, str | int | float | bool):
        yield f"{path} is {_shown(value)}, which JSON does not have"


def _shown(value: object) -> str:
    """Name a value by its type: the value itself might be a secret."""
    return "None" if value is None else f"of type {type(value).__name__}"


def _named(hint: object) -> str:
    return (
        getattr(hint, "__name__", "")
        if isinstance(hint, type)
        else re.sub(r"seeknal_core\.contract\.types\.(\w+\.)?|collections\.abc\.", "", str(hint))
    )
