"""Random Arrow tables from a seed, and the form in which rows of two readers are compared.

`random_table` draws columns from `KINDS`: every Arrow type that DuckDB makes, up to two
levels of lists, structs and maps, with NULLs, extreme values and odd names. Equal
arguments give equal tables. `plain` turns rows into Python values that do not depend on
the reader: an int32 and an int64 of one value are equal, and so are a text and a
dictionary-encoded text.
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Context, Decimal
from random import Random
from typing import Any

import attrs
import pyarrow as pa

#: Names that some tool somewhere gets wrong. No two are equal without case.
NAMES = (
    "id", "Host", "content-type", "x id", "1st", "select", "order", "UPPER", "mixedCase", "naïve",
    "größe", "日本", "🦆", 'quo"te', "apo'strophe", "per%cent", "a.b", "a/b", "back\\slash", "_x2D",
    "$dollar", "semi;colon", "col,on", "tab\tname", "trailing ", "element", "key", "value", "list",
    "key_value", "#hash", "q?mark", "{brace}", "null", "true", "l" * 60,
)  # fmt: skip

_WORDS = (
    "", " ", "a", "A", "é", "e\u0301", "🦆🦆", "日本語", "'", '"', "\\", "\n", "\t", "NULL", "null",
    "NaN", "%s", "0", "1e5", "x" * 300, "\u200b", "trailing ", "{}", "[1]", "2024-01-01",
)  # fmt: skip

_DAYS = (-719162, -1, 0, 1, 11016, 19782, 2932896)  # 0001-01-01 … 9999-12-31
_MICROS = 86_400_000_000

Draw = Callable[[Random], Any]


@attrs.frozen(kw_only=True)
class Drawn:
    """A type that was drawn, and what draws its values (never a NULL)."""

    type: pa.DataType
    value: Draw


@attrs.frozen(kw_only=True)
class RandomTable:
    """A random table.

    ``kinds`` gives each column's kind, a key of `KINDS`; a nested column has the kind
    ``list``, ``struct`` or ``map``. ``inner`` gives the kinds of everything in it.
    """

    seed: int
    table: pa.Table
    kinds: Mapping[str, str]
    inner: Mapping[str, frozenset[str]]

    def describe(self) -> str:
        """Return the seed and the columns, for a failing test's message."""
        return f"seed {self.seed}: {self.table.schema.to_string(show_field_metadata=False)}"


def _integer(bits: int, signed: bool) -> Callable[[Random], Drawn]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    type = getattr(pa, f"{'' if signed else 'u'}int{bits}")()

    def value(random: Random) -> int:
        edges = (low, low + 1, -1, 0, 1, 2**53 + 1, high - 1, high)
        inside = [edge for edge in edges if low <= edge <= high]
        return random.choice(inside) if random.random() < 0.4 else random.randint(low, high)

    return lambda random: Drawn(type=type, value=value)


def _float(bits: int) -> Callable[[Random], Drawn]:
    edges = [
        0.0,
        -0.0,
        1.5,
        -1.0,
        0.1,
        math.nan,
        math.inf,
        -math.inf,
        5e-324,
        1.7976931348623157e308,
    ]

    def value(random: Random) -> float:
        drawn = random.choice(edges) if random.random() < 0.4 else random.gauss(0, 1e6)
        if bits == 64:
            return drawn
        try:
            return float(struct.unpack("f", struct.pack("f", drawn))[0])
        except OverflowError:
            return 3.4028234663852886e38

    return lambda random: Drawn(type=pa.float32() if bits == 32 else pa.float64(), value=value)


def _decimal(random: Random) -> Drawn:
    precision = random.choice((1, 4, 9, 10, 18, 19, 30, 38))
    scale = random.choice((0, 1, 2, precision // 2, precision))
    scale = min(scale, precision)
    context = Context(prec=80)

    def value(random: Random) -> Decimal:
        top = 10**precision - 1
        number = random.choice((top, -top, 0, 1, -1, random.randint(-top, top)))
        return Decimal(number).scaleb(-scale, context)

    return Drawn(type=pa.decimal128(precision, scale), value=value)


def _text(random: Random) -> Drawn:
    def value(random: Random) -> str:
        if random.random() < 0.5:
            return random.choice(_WORDS)
        return "".join(random.choice("abcé日🦆 '\"\\") for _ in range(random.randint(0, 12)))

    return Drawn(type=pa.string(), value=value)


def _enum(random: Random) -> Drawn:
    words = random.sample(_WORDS, 4)
    type = pa.dictionary(pa.uint8(), pa.string())
    return Drawn(type=type, value=lambda random: random.choice(words))


def _blob(random: Random) -> Drawn:
    def value(random: Random) -> bytes:
        return random.choice((b"", b"\x00", b"\xff\x00'\\", random.randbytes(20)))

    return Drawn(type=pa.binary(), value=value)


def _moment(random: Random, unit: int) -> int:
    """Draw a time between the years 1 and 9999, in units of so many microseconds."""
    edges = [day * _MICROS for day in _DAYS] + [2932897 * _MICROS - 1, -1]
    if random.random() < 0.4:
        return random.choice(edges) // unit
    return random.randint(-719162 * _MICROS, 2932896 * _MICROS) // unit


def _timestamp(unit: str, zone: str | None = None) -> Callable[[Random], Drawn]:
    micros = {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    type = pa.timestamp(unit, zone)
    return lambda random: Drawn(type=type, value=lambda random: _moment(random, micros))


def _nanos(finest: int) -> Callable[[Random], Drawn]:
    """Draw times in nanoseconds, multiples of `finest`, of the years that DuckDB has for them."""

    def value(random: Random) -> int:
        return random.randint(-9 * 10**18 // finest, 9 * 10**18 // finest) * finest

    return lambda random: Drawn(type=pa.timestamp("ns"), value=value)


def _simple(type: pa.DataType, value: Draw) -> Callable[[Random], Drawn]:
    return lambda random: Drawn(type=type, value=value)


#: What draws a type, by the kind's name. Nested kinds are drawn by `random_table` itself.
KINDS: Mapping[str, Callable[[Random], Drawn]] = {
    "bool": _simple(pa.bool_(), lambda random: random.random() < 0.5),
    **{f"int{bits}": _integer(bits, True) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": _integer(bits, False) for bits in (8, 16, 32, 64)},
    "float32": _float(32),
    "float64": _float(64),
    "decimal": _decimal,
    "text": _text,
    "enum": _enum,
    "json": _simple(
        pa.json_(), lambda random: random.choice(('{"a": 1}', "[]", "null", '"é"', "1.50"))
    ),
    "blob": _blob,
    "uuid": _simple(pa.uuid(), lambda random: uuid.UUID(int=random.getrandbits(128)).bytes),
    "date": _simple(
        pa.date32(),
        lambda random: random.choice((*_DAYS, random.randint(_DAYS[0], _DAYS[-1]))),
    ),
    "time": _simple(
        pa.time64("us"),
        lambda random: random.choice((0, 1, _MICROS - 1, random.randrange(_MICROS))),
    ),
    "timestamp": _timestamp("us"),
    "timestamp_s": _timestamp("s"),
    "timestamp_ms": _timestamp("ms"),
    "timestamp_ns": _nanos(1000),
    "timestamp_ns_fine": _nanos(1),
    "timestamptz": _timestamp("us", "UTC"),
}
#: Kinds that stand inside others; Arrow makes no extension arrays from nested values.
INNER = frozenset(KINDS) - {"json", "uuid", "enum"}
NESTED = ("list", "struct", "map", "array")
_KEYS = ("text", "int32", "int64", "date")


def random_table(
    seed: int,
    *,
    kinds: Collection[str] = tuple(KINDS),
    names: Sequence[str] = NAMES,
    nested: Collection[str] = NESTED,
    depth: int = 2,
    max_columns: int = 8,
    max_rows: int = 40,
    variant: int = 0,
) -> RandomTable:
    """Draw a table: at least one column, perhaps no row.

    Args:
        kinds: those that may be drawn, keys of `KINDS`.
        names: those that columns and fields may have.
        nested: of ``list``, ``struct``, ``map`` and ``array`` (a list of fixed size).
        depth: how deep nested types may stand in one another; 0 for none.
        variant: gives other rows for the same columns.
    """
    random, drawing = Random(seed), Random(f"{seed}/{variant}")
    rows = drawing.choice((0, 1, 2, drawing.randint(3, max_rows)))
    chosen = random.sample(list(names), random.randint(1, min(max_columns, len(names))))
    arrays: list[pa.Array] = []
    found: dict[str, str] = {}
    inner: dict[str, frozenset[str]] = {}
    for name in chosen:
        used: set[str] = set()
        if depth and nested and random.random() < 0.4:
            kind = random.choice(sorted(nested))
            drawn = _nested(random, kind, sorted(set(kinds) & INNER), names, nested, depth, used)
        else:
            kind = random.choice(sorted(kinds))
            drawn = KINDS[kind](random)
        holes = random.choice((0.0, 0.2, 0.6, 1.0 if random.random() < 0.2 else 0.1))
        values = [None if drawing.random() < holes else drawn.value(drawing) for _ in range(rows)]
        arrays.append(_array(values, drawn.type))
        found[name], inner[name] = kind, frozenset(used)
    table = pa.Table.from_arrays(arrays, names=chosen)
    return RandomTable(seed=seed, table=table, kinds=found, inner=inner)


def _array(values: list[Any], type: pa.DataType) -> pa.Array:
    if isinstance(type, pa.BaseExtensionType):
        storage = pa.array(values, type.storage_type)
        return pa.ExtensionArray.from_storage(type, storage)
    if pa.types.is_dictionary(type):
        return pa.array(values, type.value_type).dictionary_encode().cast(type)
    return pa.array(values, type)


def _nested(
    random: Random,
    kind: str,
    kinds: Sequence[str],
    names: Sequence[str],
    nested: Collection[str],
    depth: int,
    used: set[str],
) -> Drawn:
    def inside() -> Drawn:
        if depth > 1 and random.random() < 0.4:
            inner = random.choice(sorted(nested))
            used.add(inner)
            return _nested(random, inner, kinds, names, nested, depth - 1, used)
        plain_kind = random.choice(list(kinds))
        used.add(plain_kind)
        return KINDS[plain_kind](random)

    def or_null(random: Random, drawn: Drawn) -> Any:
        return None if random.random() < 0.25 else drawn.value(random)

    if kind == "struct":
        fields = random.sample(list(names), random.randint(1, 4))
        children = {field: inside() for field in fields}
        return Drawn(
            type=pa.struct([(field, child.type) for field, child in children.items()]),
            value=lambda random: {
                field: or_null(random, child) for field, child in children.items()
            },
        )
    if kind == "map":
        key, item = KINDS[random.choice(_KEYS)](random), inside()

        def pairs(random: Random) -> list[tuple[Any, Any]]:
            keys = dict.fromkeys(key.value(random) for _ in range(random.randint(0, 3)))
            return [(name, or_null(random, item)) for name in keys]

        return Drawn(type=pa.map_(key.type, item.type), value=pairs)
    element = inside()
    size = random.randint(1, 3) if kind == "array" else -1
    return Drawn(
        type=pa.list_(element.type, size),
        value=lambda random: [
            or_null(random, element) for _ in range(size if size > 0 else random.randint(0, 4))
        ],
    )


def plain(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return an array's values in a form that two readers can agree on.

    Integers and decimals are `Decimal` without trailing zeros, floats their text (so that
    NaN equals NaN, and -0.0 is not 0.0), times nanoseconds, dates days, UUIDs bytes,
    structs a list of pairs in order, maps a list of pairs.
    """
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in plain(chunk)]
    type = array.type
    if isinstance(type, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_dictionary(type):
        return plain(array.dictionary_decode())
    if pa.types.is_struct(type):
        columns = [plain(column) for column in array.flatten()]
        rows = zip(*columns, strict=True) if columns else ([] for _ in range(len(array)))
        fields = [field.name for field in type]
        return [
            list(zip(fields, row, strict=True)) if valid else None
            for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_map(type):
        return [_pairs(array, index) for index in range(len(array))]
    if pa.types.is_nested(type):
        return [
            plain(array[index].values) if array[index].is_valid else None
            for index in range(len(array))
        ]
    return _leaf(array)


def _pairs(array: pa.MapArray, index: int) -> list[tuple[Any, Any]] | None:
    if not array[index].is_valid:
        return None
    keys, items = array[index].values.flatten()
    return list(zip(plain(keys), plain(items), strict=True))


def _leaf(array: pa.Array) -> list[Any]:
    type = array.type
    if pa.types.is_timestamp(type) or pa.types.is_time(type):
        factor = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}[type.unit]
        integers = array.cast(pa.int32() if pa.types.is_time32(type) else pa.int64())
        return [None if value is None else value * factor for value in integers.to_pylist()]
    if pa.types.is_date(type):
        return list(array.cast(pa.date32()).cast(pa.int32()).to_pylist())
    values = array.to_pylist()
    if pa.types.is_floating(type):
        return [None if value is None else repr(float(value)) for value in values]
    if pa.types.is_integer(type) or pa.types.is_decimal(type):
        return [None if value is None else _number(value) for value in values]
    return list(values)


def _number(value: int | Decimal) -> str:
    text = f"{Decimal(value):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def sorted_rows(table: pa.Table, names: Sequence[str] | None = None) -> list[tuple[Any, ...]]:
    """Return a table's rows in `plain` form, in an order that depends on the values alone."""
    columns = [plain(table.column(name)) for name in names or table.column_names]
    return sorted(zip(*columns, strict=True), key=repr) if columns else []
