"""The decorators of Python nodes.

::

    from seeknal_core.pipeline import materialize, transform

    @transform(name="clean", inputs=["source.users"], tags=["silver"])
    @materialize(type="warehouse_type", connection="warehouse", table="analytics.clean")
    def clean(ctx):
        return ctx.sql("SELECT * FROM users WHERE active")

A decorator only notes what it is given; the function stays what it was. Mistakes
are found when the project is loaded, all of them, at the decorator's line.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack, overload

import attrs

F = TypeVar("F", bound=Callable[..., object])

_MARK = "__seeknal_node__"


class NodeOptions(TypedDict, total=False):
    """What ``@source`` takes; the same words and values as in YAML.

    ``name`` defaults to the function's name.
    """

    name: str
    description: str
    owner: str
    tags: Sequence[str]
    columns: Mapping[str, object]
    schema: Sequence[Mapping[str, object]]
    contract: bool
    audits: Sequence[Mapping[str, object]]


class TransformOptions(NodeOptions, total=False):
    """What ``@transform`` takes.

    ``inputs`` are node ids (``source.users``); ``covers`` is ``{"from": ..., "to": ...}``.
    """

    inputs: Sequence[str]
    covers: Mapping[str, object]


class Use(NamedTuple):
    """One use of a decorator: its options and its line."""

    options: Mapping[str, object]
    line: int


@attrs.define(kw_only=True)
class Declaration:
    """What the decorators of one function said."""

    function: Callable[..., object]
    kinds: list[tuple[str, Use]] = attrs.field(factory=list)
    targets: list[Use] = attrs.field(factory=list)


class _Loading(threading.local):
    """What the thread is loading: its file's declarations. Outside of it nothing is noted."""

    declarations: list[Declaration] | None = None


_loading = _Loading()


@contextmanager
def gather() -> Iterator[list[Declaration]]:
    """Note what decorators say while a file is imported; for the loader."""
    outer, found = _loading.declarations, list[Declaration]()
    _loading.declarations = found
    try:
        yield found
    finally:
        _loading.declarations = outer


def _declare(function: F) -> Declaration:
    found = getattr(function, _MARK, None)
    if not isinstance(found, Declaration):
        if isinstance(function, type) or not hasattr(function, "__code__"):
            raise TypeError("a node is made of a function")
        found = Declaration(function=function)
        setattr(function, _MARK, found)
        if _loading.declarations is not None:
            _loading.declarations.append(found)
    found.function = function
    return found


def _node_decorator(kind: str, function: F | None, options: Mapping[str, object]) -> Any:
    line = sys._getframe(2).f_lineno

    def decorate(decorated: F) -> F:
        _declare(decorated).kinds.append((kind, Use(options, line)))
        return decorated

    return decorate if function is None else decorate(function)


@overload
def source(function: F, /) -> F: ...
@overload
def source(**options: Unpack[NodeOptions]) -> Callable[[F], F]: ...
def source(function: Any = None, /, **options: Unpack[NodeOptions]) -> Any:
    """Make a function a source: it is called with the context and returns the rows."""
    return _node_decorator("source", function, options)


@overload
def transform(function: F, /) -> F: ...
@overload
def transform(**options: Unpack[TransformOptions]) -> Callable[[F], F]: ...
def transform(function: Any = None, /, **options: Unpack[TransformOptions]) -> Any:
    """Make a function a transform: it is called with the context and returns the rows."""
    return _node_decorator("transform", function, options)


def materialize(**options: object) -> Callable[[F], F]:
    """Return a Python node a target; once for each target, above or below ``@transform``.

    Args:
        options: the fields of a target as in YAML (``type``, ``connection``, ``table``,
            ``mode``, ``unique_keys``, ``time_column``, ``lookback``, ``partition_by``,
            ``on_schema_change``, ``enabled``) and those of its backend.
    """
    line = sys._getframe(1).f_lineno

    def decorate(function: F) -> F:
        _declare(function).targets.append(Use(options, line))
        return function

    return decorate


__all__ = ["materialize", "source", "transform"]
