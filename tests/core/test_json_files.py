"""JSON files: every key, every digit, every value as declared, or an error with its place."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import random
import string
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import attrs
import pyarrow as pa
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.files.opened import ResolvedFiles
from support.engines import Lab, file_source, open_lab, rows

#: DuckDB's sample, and one more.
PAST_SAMPLE = 20_481


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def write(lab: Lab, text: str | bytes, name: str = "a.jsonl") -> Path:
    path = lab.root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def read(lab: Lab, text: str | bytes, dtypes: dict[str, str] | None = None) -> list[object]:
    """Return the values of column ``a`` in JSON lines."""
    return [row["a"] for row in rows(lab.files(file_source("jsonl", dtypes), write(lab, text)))]


def lines(*values: str) -> str:
    return "".join(f'{{"a":{value}}}\n' for value in values)


def test_keys_and_values_past_the_sample_are_kept(lab: Lab) -> None:
    early = '{"a":1,"n":{"x":1}}\n' * PAST_SAMPLE
    late = '{"a":5.5,"n":{"x":7,"late":1},"late":9007199254740993}\n'
    made = lab.files(file_source("jsonl"), write(lab, early + late))
    assert made.row_count == PAST_SAMPLE + 1
    assert made.reader().read_all().slice(PAST_SAMPLE).to_pylist() == [
        {"a": 5.5, "n": {"x": 7, "late": 1}, "late": 9007199254740993}
    ]


def test_a_late_number_among_booleans_is_not_true(lab: Lab) -> None:
    found = read(lab, lines(*["true"] * PAST_SAMPLE, "7"))
    assert found[-1] == "7"
    assert found[0] == "true"


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        (["1", "9223372036854775807"], pa.int64(), [1, 2**63 - 1]),
        (["1.5", "-0.0"], pa.float64(), [1.5, -0.0]),
        (["0.30000000000000004", "1"], pa.float64(), [0.30000000000000004, 1.0]),
        (["9007199254740993", "0.5"], pa.decimal128(38, 1), [9007199254740993, Decimal("0.5")]),
        (["12345678901234567890.12"], pa.decimal128(38, 2), [Decimal("12345678901234567890.12")]),
        (["18446744073709551616", "-1"], pa.decimal128(38, 0), [2**64, -1]),
        (["1234567890123456789e-20"], pa.decimal128(38, 20), [Decimal("1234567890123456789e-20")]),
        (["1e400", "1"], pa.string(), ["1e400", "1"]),
        (["1" * 39], pa.string(), ["1" * 39]),
        (["null", "null"], pa.int32(), [None, None]),
        (['"2024-01-02"', "null"], pa.date32(), [date(2024, 1, 2), None]),
        (['"infinity"'], pa.string(), ["infinity"]),
        (['" 2024-01-02"'], pa.string(), [" 2024-01-02"]),
        (['"2024-01-01T00:00:00.1234567Z"'], pa.string(), ["2024-01-01T00:00:00.1234567Z"]),
        (['"1e400"', '"007"'], pa.string(), ["1e400", "007"]),
        ([r'"\u0000é😀"'], pa.string(), ["\0é😀"]),
    ],
)
def test_values_keep_all_there_is_to_them(
    lab: Lab, values: list[str], kind: pa.DataType, found: list[object]
) -> None:
    made = lab.files(file_source("jsonl"), write(lab, lines(*values)))
    assert made.schema.field("a").type == kind
    assert [row["a"] for row in rows(made)] == found


def test_values_of_several_types_are_one_json_column_with_every_digit(lab: Lab) -> None:
    values = ["1", '"x"', "12345678901234567890.12", '{"z":1e400,"q":"12345678901234567"}']
    assert read(lab, lines(*values)) == values


def test_numbers_in_lists_and_structs_keep_their_digits(lab: Lab) -> None:
    found = read(lab, lines('{"b":[{"c":12345678901234567890.12,"s":"5"},null]}', "null"))
    assert found == [{"b": [{"c": Decimal("12345678901234567890.12"), "s": "5"}, None]}, None]


def test_an_object_of_many_keys_is_no_map(lab: Lab) -> None:
    wide = {f"k{n}": 9007199254740993 if n else 1.5 for n in range(300)}
    assert read(lab, lines(json.dumps(wide))) == [wide]
    wider = {f"k{n}": 9007199254740993 for n in range(1001)}
    (found,) = read(lab, lines(json.dumps(wider)))
    assert isinstance(found, str)
    assert json.loads(found) == wider


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{"a":1}\n{"a":1,"a":2}\n', 2, "the key 'a' twice"),
        ('{"a":1}\n{"b":{"c":1,"c":12345678901234567890.5}}\n', 2, "the key 'c' twice"),
        ('{"a":1}\n{"A":2}\n', 2, "differ in letter case only"),
        ('{"b":{"a":1}}\n{"b":{"A":1}}\n', 2, "differ in letter case only"),
        ('{"a":1}\nnull\n', 2, "null is no object"),
        ('{"a":1}\n[1]\n', 2, "is no object"),
        ("5\n", 1, "5 is no object"),
        ('{"a":1}\n{"a":"\\ud800"}\n', 2, "half of a surrogate pair"),
        (b'{"a":"x"}\n{"a":"\xff"}\n', 2, "is not UTF-8"),
        ('{"a":1}\n{"a":}\n', 2, "is no JSON"),
    ],
)
def test_what_cannot_be_kept_is_an_error_with_its_line(
    lab: Lab, text: str | bytes, line: int, words: str
) -> None:
    with pytest.raises(EngineError, match=rf"source\.s: a\.jsonl, line {line}: .*{words}"):
        read(lab, text)


def test_an_error_in_an_array_names_the_line(lab: Lab) -> None:
    path = write(lab, '[{"a":1},\n{"a":2},\n{"a":"x"}]', "a.json")
    with pytest.raises(EngineError, match=r"a\.json, line 3: column 'a': 'x' is no integer"):
        lab.files(file_source("json", {"a": "integer"}), path)


@pytest.mark.parametrize(
    ("dtype", "value", "found"),
    [
        ("integer", "5.0", 5),
        ("integer", '"7"', 7),
        ("string", "1.50", "1.50"),
        ("string", "1e400", "1e400"),
        ("string", '{"x":1.50}', '{"x":1.50}'),
        ("float", "0.1", 0.1),
        ("decimal(20,2)", "12345678901234567.50", Decimal("12345678901234567.50")),
        ("json", '{"b":[1e400,1.50]}', '{"b":[1e400,1.50]}'),
        ("decimal(38,10)[]", "[1234567890.1234567891]", [Decimal("1234567890.1234567891")]),
        ("struct(x integer, y varchar)", '{"y":2.50}', {"x": None, "y": "2.50"}),
        ("date[]", '["2024-01-02",null]', [date(2024, 1, 2), None]),
    ],
)
def test_a_declared_type_holds_the_value_as_written(
    lab: Lab, dtype: str, value: str, found: object
) -> None:
    assert read(lab, lines(value, "null"), {"a": dtype}) == [found, None]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("integer", "1.5"),
        ("integer", "true"),
        ("integer", "9223372036854775808"),
        ("float", "9007199254740993"),
        ("float", "1e400"),
        ("decimal(5,2)", "1.125"),
        ("decimal(5,2)", "1234.5"),
        ("date", '"2024-01-01 10:00:00"'),
        ("timestamp", '"2024-01-01T10:00:00+05"'),
        ("timestamptz", '"2024-01-01T10:00:00"'),
        ("uuid", '"x"'),
        ("integer[]", "[1,2.5]"),
        ("integer[]", "5"),
        ("struct(x integer)", '{"x":1,"z":2}'),
        ("struct(x integer)[]", '[{"x":1},{"x":"b"}]'),
    ],
)
def test_a_value_that_does_not_fit_its_declared_type_is_an_error(
    lab: Lab, dtype: str, value: str
) -> None:
    with pytest.raises(EngineError, match=r"a\.jsonl, line 2: .*'a"):
        read(lab, lines("null", value), {"a": dtype})


def test_a_file_without_records_has_the_declared_columns(lab: Lab) -> None:
    assert read(lab, "", {"a": "integer"}) == []
    with pytest.raises(EngineError, match=r"a\.jsonl holds no record"):
        read(lab, "")


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_many_small_files_are_read_as_one_and_errors_name_the_file(lab: Lab, kind: str) -> None:
    def text(value: object) -> str:
        record = json.dumps({"a": value, "b": {"c": 1}})
        return f"[{record}]" if kind == "json" else record

    paths = [write(lab, text(n), f"{n:03}.{kind}") for n in range(100)]
    made = lab.files(file_source(kind), *paths)
    assert [row["a"] for row in rows(made)] == list(range(100))
    write(lab, text("late"), f"070.{kind}")
    with pytest.raises(EngineError, match=rf"070\.{kind}, line 1: column 'a': 'late'"):
        lab.files(file_source(kind, {"a": "integer"}), *paths)
    write(lab, '[{"a":1}' if kind == "json" else '{"a":', f"071.{kind}")
    with pytest.raises(EngineError, match=rf"071\.{kind}, line 1: is no JSON"):
        lab.files(file_source(kind), *paths)


# --- against Python's own parser


def value(random: random.Random, depth: int) -> object:
    kinds = ["integer", "long", "fraction", "longer", "text", "true", "null"]
    kind = random.choice([*kinds, "list", "object"] if depth < 2 else kinds)
    match kind:
        case "integer":
            return random.randint(-(10 ** random.randint(0, 20)), 10**10)
        case "long":
            return random.randint(10**18, 10 ** random.randint(18, 30))
        case "fraction":
            return Decimal(random.randint(-(10**6), 10**6)).scaleb(-random.randint(1, 5))
        case "longer":
            return Decimal(random.randint(10**17, 10**25)).scaleb(-random.randint(1, 15))
        case "text":
            return "".join(random.choices(string.printable + "é😀\0", k=random.randint(0, 6)))
        case "true":
            return random.random() < 0.5
        case "null":
            return None
        case "list":
            return [value(random, depth + 1) for _ in range(random.randint(0, 3))]
    return {key: value(random, depth + 1) for key in random.sample("abcd", random.randint(1, 3))}


def dumped(found: object) -> str:
    """Write a value as JSON, with a decimal's own digits."""
    match found:
        case Decimal():
            return str(found)
        case list():
            return "[" + ",".join(map(dumped, found)) + "]"
        case dict():
            return "{" + ",".join(f"{json.dumps(k)}:{dumped(v)}" for k, v in found.items()) + "}"
    return json.dumps(found)


def same(written: object, stored: object) -> bool:
    """Whether a stored value is the one that was written, in whatever type holds it."""
    match written, stored:
        case (None, None):
            return True
        case (None, _):
            return stored == "null"
        case (bool(), _):
            return stored is written or stored == json.dumps(written)
        case (int() | Decimal(), str()):
            return Decimal(stored) == written
        case (int() | Decimal(), int() | float() | Decimal()) if not isinstance(stored, bool):
            return Decimal(str(stored)) == written
        case (str(), str()):
            return stored == written or json.loads(stored) == written
        case (list(), list()):
            return len(written) == len(stored) and all(map(same, written, stored))
        case (dict(), dict()):
            keys = written.keys() <= stored.keys()
            return keys and all(same(written.get(key), stored[key]) for key in stored)
        case (list() | dict(), str()):
            return same(written, json.loads(stored, parse_float=Decimal))
    return False


@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEKNAL_RANDOM_FILES", "10"))))
def test_random_records_are_what_python_reads(lab: Lab, seed: int) -> None:
    drawn = random.Random(seed)
    shapes = [value(drawn, 0) for _ in range(3)]
    records: list[dict[str, object]] = []
    for _ in range(drawn.randint(1, 12)):
        like = drawn.choice(shapes)
        other = value(drawn, 0) if drawn.random() < 0.3 else like
        records.append({"id": len(records), "a": like, "b": other})
    text = "".join(dumped(record) + "\n" for record in records)
    assert [json.loads(line, parse_float=Decimal) for line in text.splitlines()] == records
    made = lab.files(file_source("jsonl"), write(lab, text))
    for written, stored in zip(records, rows(made), strict=True):
        assert same(written, stored), (written, stored)


def test_a_source_with_max_rows_is_still_held_to_them(lab: Lab) -> None:
    source = attrs.evolve(file_source("jsonl"), max_rows=1)
    with pytest.raises(EngineError, match="max_rows"):
        lab.files(source, write(lab, lines("1", "2")))


BAD = '{"n":1,"l":["2024-01-02"]}\n{"n":1.5,"l":[]}\n{"n":"x","l":["02/01/2024"]}\n{"l":["z"]}\n'


@pytest.mark.parametrize("long", ["", ',"x":0.12345678901234567890'])
def test_bad_rows_are_left_out_or_made_null_and_named(lab: Lab, long: str) -> None:
    """With long numbers in the file, too: those are read in another way."""
    text = BAD.replace('"l":[]', f'"l":[]{long}')
    types = {"n": "integer", "l": "date[]"}
    with pytest.raises(EngineError) as caught:
        lab.files(file_source("jsonl", types), write(lab, text))
    assert "line 2: column 'n': '1.5' is no integer" in str(caught.value)
    assert "params.on_bad_rows: skip or null" in caught.value.hint
    found: dict[str, list[object]] = {}
    for mode in ("skip", "null"):
        with lab.store.staging() as staging:
            path = write(lab, text)
            files = ResolvedFiles(files=(path,), labels=("a.jsonl",))
            output = lab.engine.read_files(
                file_source("jsonl", types, on_bad_rows=mode), files, staging
            )
            made = rows(lab.keep(staging, "source.s"))
        found[mode] = [(row["n"], row["l"]) for row in made]
        [note] = output.notes
        what = "left out" if mode == "skip" else "with values made NULL"
        assert note.startswith(f"3 rows {what} (on_bad_rows: {mode}): a.jsonl, line 2, column 'n'")
        assert "line 3, column 'n': 'x' is no integer" in note
        assert "line 4, column 'l[]': 'z' is no date" in note
    assert found["skip"] == [(1, [date(2024, 1, 2)])]
    assert found["null"] == [(1, [date(2024, 1, 2)]), (None, []), (None, [None]), (None, [None])]


def test_dates_and_times_are_read_by_their_formats(lab: Lab) -> None:
    text = '{"a":"03/04/2024","b":["01/02/2024"],"t":"03.04.2024 10:30","c":"03/04/2024 x"}\n'

    def made(**params: object) -> dict[str, object]:
        source = attrs.evolve(file_source("jsonl"), params=params)
        return rows(lab.files(source, write(lab, text)))[0]

    for format in ("%d/%m/%Y", {"A": "%d/%m/%Y", "b": "%d/%m/%Y"}):
        row = made(date_format=format, timestamp_format={"t": "%d.%m.%Y %H:%M"})
        assert (row["a"], row["b"]) == (date(2024, 4, 3), [date(2024, 2, 1)])
        assert str(row["t"]) == "2024-04-03 10:30:00"
        assert row["c"] == "03/04/2024 x"
    with pytest.raises(EngineError, match=r"date_format names 'aa', and there is no such column"):
        made(date_format={"aa": "%d/%m/%Y"})
    with pytest.raises(EngineError, match=r"line 1: column 'c': '03/04/2024 x' is no date"):
        made(date_format={"c": "%d/%m/%Y"})


@pytest.mark.parametrize("value", ['{"d":"01/02/2024"}', '[{"d":"01/02/2024"}]'])
def test_a_format_of_a_column_of_objects_asks_for_their_types(lab: Lab, value: str) -> None:
    """They stayed text, without a word."""
    params = {"date_format": {"s": "%d/%m/%Y"}}
    path = write(lab, f'{{"s":{value}}}\n')
    with pytest.raises(EngineError, match=r"date_format names 's', which holds objects"):
        lab.files(attrs.evolve(file_source("jsonl"), params=params), path)
    kind = "struct(d date)[]" if value.startswith("[") else "struct(d date)"
    found = rows(lab.files(attrs.evolve(file_source("jsonl", {"s": kind}), params=params), path))
    assert found in ([{"s": {"d": date(2024, 2, 1)}}], [{"s": [{"d": date(2024, 2, 1)}]}])


@pytest.mark.parametrize("text", ['[{"a":1},\n{"":2,"a":3}]', '{"a":1}\n{"":2}'])
def test_a_key_without_characters_is_refused_with_its_line(lab: Lab, text: str) -> None:
    with pytest.raises(EngineError, match=r"a\.json, line 2: has the key ''"):
        lab.files(file_source("json"), write(lab, text, "a.json"))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
def test_a_byte_order_mark_is_no_part_of_the_text(lab: Lab, name: str) -> None:
    text = b'{"a":1}\n' if "jsonl" in name else b'[{"a":1}]'
    marked = codecs.BOM_UTF8 + text
    content = gzip.compress(marked) if name.endswith(".gz") else marked
    kind = "jsonl" if "jsonl" in name else "json"
    assert rows(lab.files(file_source(kind), write(lab, content, name))) == [{"a": 1}]


@pytest.mark.parametrize("type", ["json", "jsonl"])
@pytest.mark.parametrize("at", [-1, -6, None])
def test_a_damaged_gzip_file_is_refused(lab: Lab, type: str, at: int | None) -> None:
    packed = bytearray(gzip.compress(b'{"a":1}\n' * 9))
    if at is None:
        del packed[-12:]
    else:
        packed[at] ^= 1
    with pytest.raises(EngineError, match=rf"a\.{type}\.gz: is no whole gzip file"):
        lab.files(file_source(type), write(lab, bytes(packed), f"a.{type}.gz"))
