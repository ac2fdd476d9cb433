"""From mappings to attrs classes, with the path of every mistake.

The one strict converter of the project. The core structures its own documents
with it; a backend structures the mapping of a connection in ``resolve_profile``::

    options = structure(spec.options, StoreOptions)

attrs and cattrs do the conversion; this module adds what a person needs: all
mistakes at once, each with its path (``catalog.uri``), the nearest known name,
and strictness (a string is no list, a number no string, ``true`` no integer).
A message never holds a value, for it might be a secret. A null (``tags:`` with
nothing behind it) counts as not given.

Fields may be of type ``str``, ``int``, ``float``, ``bool``, `Secret` (written as
a string), ``timedelta`` (written ``24h``), an enum (by value), ``Literal``, an
attrs class, ``object``, unions of these, and tuples, lists and mappings of
them. A field's metadata may hold:

``"key"``
    the key in the mapping, where it isn't the attribute's name (``config-version``);
``"aliases"``
    other keys that mean the same;
``"rest"``
    True for one field of type ``Mapping[str, ...]`` that takes all unknown keys.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from seeknal_core.contract.errors import OptionError, Problem
from seeknal_core.contract.types import Secret

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = [
    "Filled",
    "Mistake",
    "duration",
    "join",
    "keys_of",
    "kind_of",
    "nearest",
    "quoted",
    "structure",
]

T = TypeVar("T")

_DURATION = re.compile(r"(\d+)\s*([smhdw])", re.ASCII)
#: Characters of a wrong word that a message shows.
_SHOWN = 40
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Filled(str):
    """Text in quotes that variables filled in: ``"${PGPORT}"``.

    Variables hold text only, and inside ``{ }`` a reference needs its quotes, so where
    a number or a truth value is meant such text may be one. It is text everywhere else.
    """

    __slots__ = ()


class Mistake(ValueError):
    """One value that does not fit; an attrs validator may raise it too.

    Args:
        message: what is wrong, without the value: ``is a string, not a list``.
        hint: what to write instead.
        path: below the value that is being structured, for a part of it.
        value: the text as written, shown only where it can't be a secret.
    """

    def __init__(self, message: str, hint: str = "", path: str = "", value: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.path = path
        self.value = value

    @property
    def quoted(self) -> str:
        """The message with the text that it is about: ``'fulll' is not one of full``."""
        return f"{quoted(self.value)} {self.message}" if self.value else self.message


class _Mistakes(Exception):
    """All mistakes of one value, with paths relative to it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = tuple(mistakes)


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return ``did you mean 'x'?`` for the nearest of `known`, or an empty string.

    Args:
        cutoff: how alike the two must be, from 0 to 1, as `difflib` measures it.
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {found[0]!r}?" if found else ""


def quoted(text: str) -> str:
    """Return a text in quotes, shortened where it is long."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def join(path: str, key: str | int) -> str:
    """Return the path of an entry of what stands at `path`: ``a.b``, ``a[0]``."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not path or key.startswith("["):
        return f"{path}{key}"
    return f"{path}.{key}"


def kind_of(value: object) -> str:
    """Return what a value is, as the writer of a YAML file would: ``a list``."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case date():
            return "a date"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def duration(text: str) -> timedelta:
    """Read a duration: a whole number and one of ``s m h d w``, as in ``24h``.

    Raises:
        Mistake: the text is no such duration, or longer than a `timedelta` holds.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        hint = "write a number and one of s, m, h, d, w, as in 24h"
        raise Mistake("is not a duration", hint, value=text)
    try:
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    except (OverflowError, ValueError):
        raise Mistake("is too long a duration", "write a shorter one, as in 365d") from None


def structure(
    mapping: Mapping[str, object], cls: type[T], *, path: str = "", public: bool = False
) -> T:
    """Make an instance of the attrs class `cls` from a mapping.

    Args:
        mapping: as it was parsed, keys as written.
        cls: an attrs class; see the module for what its fields may be.
        path: where the mapping stands in its document, put before every path.
        public: the mapping holds no secret, so messages may show a wrong word.

    Raises:
        OptionError: the mapping has mistakes; all of them are in ``problems``,
            each with its path.
    """
    try:
        return _converter().structure(mapping, cls)
    except (Mistake, _Mistakes) as error:
        mistakes = error.mistakes if isinstance(error, _Mistakes) else (error,)
    raise OptionError(
        [
            Problem(
                each.quoted if public else each.message,
                path=join(path, each.path) if each.path else path,
                hint=each.hint,
            )
            for each in mistakes
        ]
    )


def keys_of(cls: type) -> tuple[str, ...]:
    """Return the keys that a mapping for `cls` may hold, aliases included."""
    names: list[str] = []
    for field in attrs.fields(cls):
        if field.init and not field.metadata.get("rest"):
            names += _keys(field)
    return tuple(names)


def _keys(field: attrs.Attribute[Any]) -> list[str]:
    return [
        field.metadata.get("key", field.alias or field.name),
        *field.metadata.get("aliases", ()),
    ]


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter(detailed_validation=False)
    for cls, check in _SCALARS.items():
        converter.register_structure_hook(cls, check)
    factories: tuple[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]], ...] = (
        (lambda cls: cls is object or cls is Any, lambda cls, conv: lambda value, _: value),
        (lambda cls: isinstance(cls, type) and issubclass(cls, Enum), _enum_hook),
        (lambda cls: typing.get_origin(cls) is typing.Literal, _literal_hook),
        (_is_sequence, _sequence_hook),
        (_is_mapping, _mapping_hook),
        (_is_union, _union_hook),
        (lambda cls: isinstance(cls, type) and attrs.has(cls), _class_hook),
    )
    for predicate, factory in factories:
        converter.register_structure_hook_factory(predicate, factory)
    return converter


def _scalar(cls: type, name: str, *also: type) -> Callable[[object, object], Any]:
    def check(value: object, _: object) -> Any:
        if isinstance(value, Filled) and cls is not str:
            value = _meant(value, cls)
        if isinstance(value, bool) is (cls is bool) and isinstance(value, (cls, *also)):
            return cls(value)
        if cls is str and isinstance(value, (bool, int, float, date)):
            raise Mistake(f"is {kind_of(value)}, not a string", "put quotes around it")
        raise Mistake("is empty" if value is None else f"is {kind_of(value)}, not {name}")

    return check


def _meant(text: Filled, cls: type) -> object:
    """Return the number or truth value that a text stands for, or the text."""
    if cls is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text) if text.isascii() and "_" not in text else text
    return text


def _secret(value: object, _: object) -> Secret:
    if isinstance(value, Secret):
        return value
    return Secret(_SCALARS[str](value, str))


def _timedelta(value: object, _: object) -> timedelta:
    if not isinstance(value, str):
        raise Mistake(f"is {kind_of(value)}, not a duration", "write a number and a unit: 24h, 7d")
    return duration(value)


_SCALARS: dict[type, Callable[[object, object], Any]] = {
    str: _scalar(str, "a string"),
    int: _scalar(int, "a whole number"),
    float: _scalar(float, "a number", int),
    bool: _scalar(bool, "true or false"),
    Secret: _secret,
    timedelta: _timedelta,
}


def _one_of(value: object, known: Mapping[object, Any]) -> Any:
    # By type too: True would pass for 1.
    value = str(value) if isinstance(value, Filled) else value
    for word, result in known.items():
        if type(word) is type(value) and word == value:
            return result
    words = [str(word) for word in known]
    hint = nearest(value, words) if isinstance(value, str) else ""
    written = value if isinstance(value, str) else ""
    raise Mistake(f"is not one of {', '.join(words)}", hint, value=written)


def _enum_hook(cls: Any, converter: Converter) -> Callable[[object, object], Any]:
    known = {member.value: member for member in cls}
    return lambda value, _: _one_of(value, known)


def _literal_hook(cls: Any, converter: Converter) -> Callable[[object, object], Any]:
    known = {word: word for word in typing.get_args(cls)}
    return lambda value, _: _one_of(value, known)


def _is_sequence(cls: Any) -> bool:
    return typing.get_origin(cls) in (tuple, list, Sequence, frozenset)


def _is_mapping(cls: Any) -> bool:
    return typing.get_origin(cls) in (dict, Mapping)


def _is_union(cls: Any) -> bool:
    return typing.get_origin(cls) in (typing.Union, types.UnionType)


def _collect(
    entries: Iterable[tuple[str, object]], convert: Callable[[object], Any]
) -> list[tuple[str, Any]]:
    """Convert every entry; raise all mistakes together, with the entries' paths."""
    results: list[tuple[str, Any]] = []
    mistakes: list[Mistake] = []
    for key, value in entries:
        try:
            results.append((key, convert(value)))
        except (Mistake, _Mistakes) as error:
            mistakes += _below(key, error)
    if mistakes:
        raise _Mistakes(mistakes)
    return results


def _below(key: str, error: Mistake | _Mistakes) -> list[Mistake]:
    found = error.mistakes if isinstance(error, _Mistakes) else (error,)
    return [
        Mistake(each.message, each.hint, join(key, each.path) if each.path else key, each.value)
        for each in found
    ]


def _sequence_hook(cls: Any, converter: Converter) -> Callable[[object, object], Any]:
    element = typing.get_args(cls)[0]
    make = list if typing.get_origin(cls) is list else tuple
    if typing.get_origin(cls) is frozenset:
        make = frozenset  # type: ignore[assignment]

    def hook(value: object, _: object) -> Any:
        if not isinstance(value, (list, tuple)):
            hint = "write [...], or one '- ...' a line" if isinstance(value, str) else ""
            raise Mistake(f"is {kind_of(value)}, not a list", hint)
        entries = ((f"[{index}]", item) for index, item in enumerate(value))
        return make(item for _, item in _collect(entries, _convert(element)))

    return hook


def _mapping_hook(cls: Any, converter: Converter) -> Callable[[object, object], Any]:
    element = typing.get_args(cls)[1]

    def hook(value: object, _: object) -> Any:
        if not isinstance(value, Mapping):
            raise Mistake(f"is {kind_of(value)}, not a mapping")
        return dict(_collect(((str(key), item) for key, item in value.items()), _convert(element)))

    return hook


def _convert(element: Any) -> Callable[[object], Any]:
    return lambda value: _converter().structure(value, element)


def _union_hook(cls: Any, converter: Converter) -> Callable[[object, object], Any]:
    members = [member for member in typing.get_args(cls) if member is not type(None)]
    # In an order of our own: `int | str` and `str | int` are equal, and cached as one.
    members.sort(key=lambda member: _ORDER.index(member) if member in _ORDER else len(_ORDER))
    optional = len(members) < len(typing.get_args(cls))

    def hook(value: object, _: object) -> Any:
        if value is None and optional:
            return None
        if isinstance(value, Filled) and str in members:
            return str(value)
        tries: list[Mistake | _Mistakes] = []
        for member in members:
            try:
                return _converter().structure(value, member)
            except (Mistake, _Mistakes) as error:
                tries.append(error)
        # A mistake deeper inside means that the value is of this member's shape.
        # So does one that is not about the type.
        what = f"is {kind_of(value)}, not "
        near = [
            each
            for each in tries
            if isinstance(each, _Mistakes) or not each.message.startswith(what)
        ]
        if len(tries) == 1 or near:
            raise (near or tries)[0]
        wanted = dict.fromkeys(_name_of(member) for member in members)
        raise Mistake(f"is {kind_of(value)}, not {' or '.join(wanted)}")

    return hook


_ORDER: list[Any] = [bool, int, float, str, Secret, timedelta]


def _name_of(cls: Any) -> str:
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    names |= {Secret: "a string", timedelta: "a duration"}
    if cls in names:
        return names[cls]
    return "a list" if _is_sequence(cls) else "a mapping"


def _class_hook(cls: Any, converter: Converter) -> Callable[[object, object], Any]:
    attrs.resolve_types(cls)
    fields = [field for field in attrs.fields(cls) if field.init]
    rest = next((field for field in fields if field.metadata.get("rest")), None)
    by_key = {key: field for field in fields if field is not rest for key in _keys(field)}

    def hook(value: object, _: object) -> Any:
        if not isinstance(value, Mapping):
            raise Mistake(f"is {kind_of(value)}, not a mapping")
        mistakes: list[Mistake] = []
        given: dict[str, object] = {}
        unknown: dict[str, object] = {}
        written: dict[str, str] = {}
        for key, item in value.items():
            field = by_key.get(key)
            if field is None:
                unknown[str(key)] = item
            elif field.name in written:
                mistakes.append(Mistake(f"means the same as {written[field.name]!r}", "", str(key)))
            elif item is not None:
                written[field.name] = str(key)
                try:
                    given[field.alias or field.name] = converter.structure(item, field.type)
                except (Mistake, _Mistakes) as error:
                    mistakes += _below(str(key), error)
        if rest is not None:
            try:
                given[rest.alias or rest.name] = converter.structure(unknown, rest.type)
            except (Mistake, _Mistakes) as error:
                found = error.mistakes if isinstance(error, _Mistakes) else [error]
                mistakes += found
        else:
            mistakes += [Mistake("unknown field", nearest(key, by_key), key) for key in unknown]
        mistakes += [
            Mistake("is missing", "", _keys(field)[0])
            for field in fields
            if field is not rest and field.name not in written and field.default is attrs.NOTHING
        ]
        if mistakes:
            raise _Mistakes(mistakes)
        try:
            return cls(**given)
        except ValueError as error:
            raise error if isinstance(error, Mistake) else Mistake(str(error)) from None

    return hook
