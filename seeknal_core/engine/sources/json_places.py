"""Where in a JSON file something is wrong. Read by Python's own parser, after an error only."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.sources import exact
from seeknal_core.engine.sources.common import Reading
from seeknal_core.engine.sources.json_shapes import Path as Place
from seeknal_core.engine.sources.json_shapes import place as written
from seeknal_core.project.formats.declared import DeclaredType

#: A file that is larger is not searched for the line of an error.
_LARGEST = 500_000_000
_SHOWN = 60
_BLANK = re.compile(r"[ \t\r\n,]*")
_FIX = "fix the file, or leave it out"


class _Wrong(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def unreadable(reading: Reading, error: duckdb.Error) -> EngineError:
    """Return the error for files that DuckDB could not read, with file and line."""
    for path in _suspects(reading, error):
        try:
            for _ in _records(reading, path):
                pass
        except _Wrong as wrong:
            return reading.error(path, wrong.message, _FIX, line=wrong.line)
    found = str(error)
    if "recursion depth" in found:
        return EngineError(
            f"{reading.source.id}: a record is nested deeper than 128 levels",
            "write the inner part as a text, or leave it out",
        )
    return reading.unreadable(error, _FIX)


def twins(reading: Reading, error: duckdb.Error) -> EngineError:
    """Return the error for keys that differ in letter case only."""
    for path in reading.paths:
        seen: dict[Place, dict[str, str]] = {}
        try:
            for line, value in _records(reading, path):
                pair = _twin(value, (), seen)
                if pair is not None:
                    one, other = pair
                    return reading.error(
                        path,
                        f"keys {one!r} and {other!r} differ in letter case only",
                        "give them names of their own: columns are not told apart by case",
                        line=line,
                    )
        except _Wrong as wrong:
            return reading.error(path, wrong.message, _FIX, line=wrong.line)
    return reading.unreadable(error, _FIX)


def not_an_object(reading: Reading) -> EngineError:
    """Return the error for a record that is no object."""
    for path in reading.paths:
        try:
            for line, value in _records(reading, path):
                if not isinstance(value, dict):
                    return reading.error(
                        path,
                        f"{_shown(value)} is no object",
                        "write each record as an object: its keys name the columns",
                        line=line,
                    )
        except _Wrong as wrong:
            return reading.error(path, wrong.message, _FIX, line=wrong.line)
    return EngineError(f"{reading.source.id}: a record is no object", "write each as an object")


def unfit(
    reading: Reading, place: Place, kind: DeclaredType, value: str, forms: exact.Forms
) -> EngineError:
    """Return the error for a value that does not fit its declared type."""
    why, hint = exact.reason(kind, value, forms)
    hint += ", or write params.on_bad_rows: skip or null"
    message = f"column {written(place)!r}: {why}"
    for path, line in _standing(reading, place, value):
        return reading.error(path, message, hint, line=line)
    return EngineError(f"{reading.source.id}: {message}", hint)


def bad_rows(
    reading: Reading,
    found: Sequence[tuple[Place, str]],
    kinds: Mapping[Place, DeclaredType],
    forms: Callable[[Place], exact.Forms],
) -> list[str]:
    """Return where some values are in the file, and why each does not fit.

    Args:
        found: the place of each value, and its text.
    """
    said, seen = [], Counter(found)
    for (place, value), count in seen.items():
        why, _ = exact.reason(kinds[place], value, forms(place))
        where = list(itertools.islice(_standing(reading, place, value), count))
        said += [
            f"{reading.label(path)}, line {line}, column {written(place)!r}: {why}"
            for path, line in where
        ] or [f"column {written(place)!r}: {why}"]
    return said


def nameless(reading: Reading) -> EngineError:
    """Return the error for a record that has a key without characters."""
    message, hint = "has the key '', which names no column", "give the key a name"
    for path in reading.paths:
        try:
            for line, record in _records(reading, path):
                if isinstance(record, dict) and "" in record:
                    return reading.error(path, message, hint, line=line)
        except _Wrong:
            continue
    return EngineError(f"{reading.source.id}: a record {message}", hint)


def _standing(reading: Reading, place: Place, value: str) -> Iterator[tuple[Path, int]]:
    """Yield the files and lines of the records that have a value at a place."""
    for path in reading.paths:
        try:
            for line, record in _records(reading, path):
                if isinstance(record, dict) and value in _at(record, place):
                    yield path, line
        except _Wrong:
            continue


def undeclared(reading: Reading, place: Place, kind: DeclaredType) -> EngineError:
    """Return the error for a key that a declared struct does not have."""
    message = f"key {written(place)!r} is not declared: its object is declared {kind.text}"
    hint = "declare the key too, or declare the column as json"
    for path in reading.paths:
        try:
            for line, record in _records(reading, path):
                if isinstance(record, dict) and _at(record, place):
                    return reading.error(path, message, hint, line=line)
        except _Wrong:
            continue
    return EngineError(f"{reading.source.id}: {message}", hint)


def _suspects(reading: Reading, error: duckdb.Error) -> list[Path]:
    found = str(error)
    return [path for path in reading.paths if str(path) in found] or list(reading.paths)


def _records(reading: Reading, path: Path) -> Iterator[tuple[int, object]]:
    """Yield line and value of each record.

    Raises:
        _Wrong: what no JSON is, or a key that an object has twice.
    """
    if path.stat().st_size > _LARGEST or path.suffix == ".zst":
        return
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            content = file.read()
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise _Wrong(0, "is no whole gzip file") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Wrong(line, "is not UTF-8") from None
    decoder = json.JSONDecoder(
        object_pairs_hook=_object, parse_int=_Number, parse_float=_Number, parse_constant=_Number
    )
    position, line = 0, 1
    inside = reading.source.type == "json" and text.lstrip().startswith("[")
    if inside:
        position = text.index("[") + 1
        line += text.count("\n", 0, position)
    while True:
        blank = _BLANK.match(text, position)
        start = blank.end() if blank else position
        line += text.count("\n", position, start)
        if inside and text[start : start + 1] == "]":
            if text[start + 1 :].strip():
                raise _Wrong(line, "goes on after its array")
            return
        if start >= len(text):
            if inside:
                raise _Wrong(line, "is no JSON: its array is not closed")
            return
        try:
            value, position = decoder.raw_decode(text, start)
            _check_text(value)
        except json.JSONDecodeError as error:
            message = f"is no JSON: {error.msg[:1].lower()}{error.msg[1:]}"
            raise _Wrong(error.lineno, f"{message} (column {error.colno})") from None
        except (_Twice, UnicodeEncodeError) as error:
            what = str(error) if isinstance(error, _Twice) else "half of a surrogate pair"
            raise _Wrong(line, f"holds {what}") from None
        yield line, value
        line += text.count("\n", start, position)


class _Twice(ValueError):
    pass


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Twice(f"the key {twice!r} twice in one object")
    return found


def _check_text(value: object) -> None:
    json.dumps(value, ensure_ascii=False).encode()


def _twin(value: object, place: Place, seen: dict[Place, dict[str, str]]) -> tuple[str, str] | None:
    if isinstance(value, list):
        found = (_twin(item, (*place, "[]"), seen) for item in value)
        return next((pair for pair in found if pair is not None), None)
    if not isinstance(value, dict):
        return None
    names = seen.setdefault(place, {})
    for key, member in value.items():
        other = names.setdefault(key.casefold(), key)
        if other != key:
            return other, key
        pair = _twin(member, (*place, key), seen)
        if pair is not None:
            return pair
    return None


def _at(value: object, place: Place) -> list[str]:
    """Return the texts of all values at a place."""
    if not place:
        return [_text(value)]
    if place[0] == "[]":
        items = value if isinstance(value, list) else []
        return [text for item in items for text in _at(item, place[1:])]
    return _at(value[place[0]], place[1:]) if isinstance(value, dict) and place[0] in value else []


def _text(value: object) -> str:
    if isinstance(value, str):
        return str(value)
    return _plain(value)


def _plain(value: object) -> str:
    """Write a value as DuckDB does: without blanks, numbers as they were."""
    match value:
        case _Number():
            return str(value)
        case list():
            return "[" + ",".join(map(_plain, value)) + "]"
        case dict():
            inside = (
                f"{json.dumps(key, ensure_ascii=False)}:{_plain(v)}" for key, v in value.items()
            )
            return "{" + ",".join(inside) + "}"
    return json.dumps(value, ensure_ascii=False)


def _shown(value: object) -> str:
    text = _plain(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
