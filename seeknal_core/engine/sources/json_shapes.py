"""What the records of JSON files look like, found by looking at every record.

DuckDB's own discovery is used with all its limits off. What it finds is a tree of
objects, lists and scalars. `Leaf` trees say how each scalar is read and converted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import attrs
import duckdb
from duckdb.sqltypes import DuckDBPyType

from seeknal_core.engine.quoting import text

#: An object of more keys is one ``json`` value: its keys are data, not names.
MOST_KEYS = 1_000
#: Objects and lists nested deeper are one ``json`` value.
MOST_DEEP = 32

#: Discovery over all records, without guesses at maps and without a limit of depth.
DISCOVERY = (
    "sample_size = -1, maximum_depth = -1, map_inference_threshold = -1,"
    " field_appearance_threshold = 0, maximum_sample_files = 9223372036854775807,"
    " records = false"
)


@attrs.frozen
class Scalar:
    """A value without members. ``kind`` is DuckDB's type, ``JSON`` for mixed ones."""

    kind: str


@attrs.frozen
class Items:
    """A list."""

    item: Shape


@attrs.frozen
class Members:
    """An object."""

    members: tuple[tuple[str, Shape], ...]


Shape = Scalar | Items | Members

#: The place of a value in a record: keys, and ``[]`` for any item of a list.
Path = tuple[str, ...]


def shape_of(kind: DuckDBPyType, depth: int = 0) -> Shape:
    """Return the shape that DuckDB's discovery found."""
    if kind.id == "list":
        return Items(shape_of(_child(kind), depth + 1)) if depth < MOST_DEEP else Scalar("JSON")
    if kind.id == "struct":
        members = _members(kind)
        if depth and (len(members) > MOST_KEYS or depth >= MOST_DEEP):
            return Scalar("JSON")
        return Members(tuple((name, shape_of(child, depth + 1)) for name, child in members))
    return Scalar("NULL" if kind.id == "null" else str(kind))


def _members(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, child) for name, child in kind.children if isinstance(child, DuckDBPyType)]


def _child(kind: DuckDBPyType) -> DuckDBPyType:
    return _members(kind)[0][1]


def scalars(shape: Shape, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Yield the scalars of a shape and their places."""
    match shape:
        case Scalar():
            yield path, shape
        case Items():
            yield from scalars(shape.item, (*path, "[]"))
        case Members():
            for name, member in shape.members:
                yield from scalars(member, (*path, name))


@attrs.frozen(kw_only=True)
class Leaf:
    """How a scalar is read (DuckDB's type), and how what was read becomes the value."""

    read: str
    convert: Callable[[str], str] | None = None


#: Chooses how a scalar at a place is read.
Chooser = Callable[[Path, Scalar], Leaf]


def type_of(shape: Shape, choose: Chooser, path: Path = ()) -> str:
    """Write the DuckDB type that values of a shape are read as."""
    match shape:
        case Scalar():
            return choose(path, shape).read
        case Items():
            return f"{type_of(shape.item, choose, (*path, '[]'))}[]"
        case Members():
            inside = ", ".join(
                f"{_quoted(name)} {type_of(member, choose, (*path, name))}"
                for name, member in shape.members
            )
            return f"STRUCT({inside})"


def structure_of(shape: Shape, choose: Chooser, path: Path = ()) -> str:
    """Write the structure that ``json_transform`` reads values of a shape by."""

    def plain(shape: Shape, path: Path) -> object:
        match shape:
            case Scalar():
                return choose(path, shape).read
            case Items():
                return [plain(shape.item, (*path, "[]"))]
            case Members():
                return {name: plain(member, (*path, name)) for name, member in shape.members}

    return json.dumps(plain(shape, path), ensure_ascii=False)


def converted(value: str, shape: Shape, choose: Chooser, path: Path = ()) -> str | None:
    """Write the expression that converts what was read; None where nothing is to do."""
    match shape:
        case Scalar():
            convert = choose(path, shape).convert
            return None if convert is None else convert(value)
        case Items():
            name = f"_x{path.count('[]')}"
            inner = converted(name, shape.item, choose, (*path, "[]"))
            return None if inner is None else f"list_transform({value}, lambda {name}: {inner})"
        case Members():
            parts = [
                (name, converted(_member(value, name), member, choose, (*path, name)))
                for name, member in shape.members
            ]
            if all(part is None for _, part in parts):
                return None
            inside = ", ".join(
                f"{text(name)}: {part or _member(value, name)}" for name, part in parts
            )
            return f"CASE WHEN {value} IS NULL THEN NULL ELSE {{{inside}}} END"


def converted_members(shape: Members, choose: Chooser, value: Callable[[str], str]) -> str:
    """Write the SELECT list of a record's keys.

    Args:
        value: writes the expression for what was read of a key.
    """
    parts = []
    for name, member in shape.members:
        read = value(name)
        parts.append(f"{converted(read, member, choose, (name,)) or read} AS {_quoted(name)}")
    return ", ".join(parts)


def listed(value: str, shape: Shape, path: Path) -> str:
    """Write the expression for the list of all values at a place."""
    if not path:
        return f"[{value}]"
    if path[0] == "[]" and isinstance(shape, Items):
        name = f"_y{len(path)}"
        inner = listed(name, shape.item, path[1:])
        return f"flatten(list_transform({value}, lambda {name}: {inner}))"
    assert isinstance(shape, Members)
    return listed(_member(value, path[0]), dict(shape.members)[path[0]], path[1:])


def discover(cursor: duckdb.DuckDBPyConnection, scan: Callable[[str], str]) -> Shape:
    """Return the shape of all records.

    Args:
        scan: writes a query over the files, given further options of ``read_json``.
    """
    return shape_of(cursor.sql(scan(DISCOVERY)).types[0])


def place(path: Path) -> str:
    """Write a place as messages name it: ``customer.tags[].name``."""
    return "".join("[]" if part == "[]" else f".{part}" for part in path).lstrip(".")


def _member(value: str, name: str) -> str:
    return f"struct_extract({value}, {text(name)})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
