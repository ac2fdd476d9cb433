"""CSV files: every value is kept exactly, or refused with its place."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs
import pytest

from seeknal_core.contract.errors import ConfigError, EngineError
from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.engine.protocol import Output
from seeknal_core.project.formats import declared
from support.engines import Lab, file_source, open_lab, rows

_NUMBERS = itertools.count()
LATER = 25_000  # beyond what a guess looks at


@attrs.define
class Files:
    """Writes files and reads them as one source."""

    lab: Lab
    output: Output | None = None
    count: int = 0

    def __call__(
        self,
        files: str | bytes | Mapping[str, str | bytes],
        types: Mapping[str, str] | None = None,
        **params: object,
    ) -> list[tuple[object, ...]]:
        """Return the rows; the columns' types are in `types`."""
        if not isinstance(files, Mapping):
            files = {"a.csv": files}
        self.count += 1
        paths = []
        for name, content in files.items():
            path = self.lab.root / str(self.count) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            paths.append(path)
        dtypes = {name: declared.parse(kind).text for name, kind in (types or {}).items()}
        source = file_source("csv", dtypes, **params)
        resolved = ResolvedFiles(files=tuple(paths), labels=tuple(files))
        with self.lab.store.staging() as staging:
            self.output = self.lab.engine.read_files(source, resolved, staging)
            assert {path.name for path in staging.path.iterdir()} == {"data_0.parquet"}
            snapshot = self.lab.keep(staging, source.id)
        return [tuple(row.values()) for row in rows(snapshot)]

    @property
    def types(self) -> dict[str, str]:
        """Name and type of each column of what was read last."""
        assert self.output is not None
        return {field.name: str(field.type) for field in self.output.schema}

    @property
    def notes(self) -> str:
        """What is said of what was read last."""
        assert self.output is not None
        return "\n".join(self.output.notes)

    def refused(self, *args: object, **params: object) -> str:
        """Return the error's message and hint."""
        with pytest.raises((EngineError, ConfigError)) as caught:
            self(*args, **params)  # type: ignore[arg-type]
        return f"{caught.value.message}; {caught.value.hint}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("csv")) as opened:
        yield opened


@pytest.fixture
def read(lab: Lab) -> Files:
    return Files(lab, count=next(_NUMBERS) * 1000)


# --- values past the sample, and what a guess is


def test_values_past_the_sample_are_kept(read: Files) -> None:
    above = "net,zip,at,flag,big\n" + "1,2,2024-01-01,true,3\n" * LATER
    found = read(above + "19.99,01067,2024-02-01 23:59:59,7,9223372036854775808\n")
    assert found[-1] == (
        19.99,
        "01067",
        datetime(2024, 2, 1, 23, 59, 59),  # noqa: DTZ001 - a column without zone
        "7",
        Decimal("9223372036854775808"),
    )
    assert found[0] == (1.0, "2", datetime(2024, 1, 1), "true", Decimal(3))  # noqa: DTZ001
    assert len(found) == LATER + 1


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        ("1 -5 9223372036854775807", "int64", [1, -5, 2**63 - 1]),
        ("1 9223372036854775808", "decimal128(38, 0)", [1, 2**63]),
        (f"1 {'9' * 39}", "string", ["1", "9" * 39]),
        ("1 2.50", "double", [1.0, 2.5]),
        ("0.30000000000000004 1.4142135623730951", "double", [0.1 + 0.2, 2**0.5]),
        (
            "12345678901234567890.12 1",
            "decimal128(38, 2)",
            [Decimal("12345678901234567890.12"), 1],
        ),
        ("9007199254740993 0.5", "decimal128(38, 1)", [2**53 + 1, Decimal("0.5")]),
        (f"0.{'1' * 38} 10", "string", [f"0.{'1' * 38}", "10"]),
        ("1e-05 1.5E+3 2e5", "double", [1e-5, 1500.0, 2e5]),
        ("1e5 2", "string", ["1e5", "2"]),
        ("nan 1.5", "double", None),
        ("inf nan", "string", ["inf", "nan"]),
        ("01067 10115", "string", ["01067", "10115"]),
        ("+49 1", "string", ["+49", "1"]),
        ("1_000 1", "string", ["1_000", "1"]),
        ("0x1F 1", "string", ["0x1F", "1"]),
        ("TRUE false", "bool", [True, False]),
        ("t yes", "string", ["t", "yes"]),
        ("2024-02-29 2024-03-01", "date32[day]", [date(2024, 2, 29), date(2024, 3, 1)]),
        ("2024-02-30 2024-03-01", "string", ["2024-02-30", "2024-03-01"]),
        ("0000-01-01 2024-03-01", "string", ["0000-01-01", "2024-03-01"]),
        ("2024-02-29T10:00Z 2024-02-29T10:00:00.5+05", "timestamp[us, tz=UTC]", None),
        ("2024-02-29T10:00 2024-02-29T10:00+05", "string", None),
        ("2024-02-29T10:00:00.1234567 2024-02-29T10:00:00", "string", None),
        ("10:00:00 23:59:59.5", "time64[us]", None),
        ("10:30 24:00:00", "string", None),
        ("30/12/2024 01/12/2024", "date32[day]", [date(2024, 12, 30), date(2024, 12, 1)]),
        ("12/30/2024 30/12/2024", "string", None),
        ("30/12/24 1.2.3", "string", None),
    ],
)
def test_a_guess_is_the_narrowest_type_that_keeps_every_value(
    read: Files, values: str, kind: str, found: list[object] | None
) -> None:
    result = [row[0] for row in read("v\n" + "\n".join(values.split()) + "\n")]
    assert read.types == {"v": kind}
    if found is not None:
        assert result == found


def test_spaces_around_a_number_do_not_make_it_text(read: Files) -> None:
    assert read("a,b\n 5 , x\n") == [(5, " x")]


# --- declared types


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            "integer",
            "1 +5 007 -0 1.0 9223372036854775807",
            "1.5 1e5 0x1F 1_000 9223372036854775808",
        ),
        ("float", "1.5 1e5 nan -inf .5 0.1234567890123456", "12345678901234567890.12 1e400 1,5"),
        ("decimal(6,2)", "1.5 1.50 1.500 -.5 9999.99", "1.005 10000 1e2 nan"),
        ("decimal", "0.123456789", "0.1234567891"),
        ("boolean", "true TRUE t yes 1 0 no", "2 wahr"),
        ("date", "2024-02-29", "2024-02-30 2024-02-29T10:00 24-02-29 infinity"),
        ("timestamp", "2024-02-29T10:00 2024-02-29", "2024-02-29T10:00+05 2024-02-29T24:00"),
        ("datetime", "2024-02-29T10:00:00.123456000", "2024-02-29T10:00:00.1234567"),
        ("timestamptz", "2024-02-29T10:00Z 2024-02-29T10:00-0330", "2024-02-29T10:00"),
        ("time", "10:00 10:00:00.5", "24:00:00 10:00+05"),
        ("uuid", "550E8400-E29B-41D4-A716-446655440000", "550e8400e29b41d4a716446655440000 x"),
        ("json", '{"a":[1]} 1', "{a:1} [1;] NaN"),
        ("integer[]", "[1;2;null] []", "[1.5] {} [1;]"),
        ("decimal(6,2)[]", '[1.25;"3.10"]', "[1.255] [1.00000000000000000001]"),
        ("struct(a integer, b varchar[])", '{"a":1;"b":["x"]} {"a":2}', '{"c":1} {"b":[1]}'),
    ],
)
def test_a_declared_type_is_a_promise_about_every_value(
    read: Files, kind: str, good: str, bad: str
) -> None:
    def form(value: str) -> str:
        return '"' + value.replace(";", ",").replace('"', '""') + '"'

    fitting = [form(value) for value in good.split()]
    assert len(read("v\n" + "\n".join(fitting), {"v": kind})) == len(fitting)
    assert all(value is not None for (value,) in read("v\n" + "\n".join(fitting), {"v": kind}))
    for value in bad.split():
        lines = "\n".join([*fitting, form(value)])
        message = read.refused(f"v\n{lines}\n", {"v": kind})
        assert f"a.csv, line {len(fitting) + 2}: column 'v': " in message
        assert repr(value.replace(";", ",")) in message


def test_declared_types_are_what_they_say(read: Files) -> None:
    text = 'a,u,l,s\n1.50,550e8400-e29b-41d4-a716-446655440000,"[1]","{""a"":1}"\n'
    kinds = {"a": "numeric(12, 2)", "u": "uuid", "l": "bigint[]", "s": "struct(a integer)"}
    assert read(text, kinds) == [
        (Decimal("1.50"), UUID("550e8400-e29b-41d4-a716-446655440000"), [1], {"a": 1})
    ]
    assert read.types["a"] == "decimal128(12, 2)"
    assert read.types["l"] == "list<element: int64>"


def test_a_bad_value_far_below_is_named_by_its_line(read: Files) -> None:
    lines = ["1,x", '2,"two\nlines"'] * LATER
    lines[40_000] = "1.5,x"
    message = read.refused("a,b\n" + "\n".join(lines) + "\n", {"a": "integer"})
    assert "a.csv, line 60002: column 'a': '1.5' is no integer" in message


def test_empty_lines_are_no_rows_of_several_columns(read: Files) -> None:
    text = "\n\na,b\n\n1,2\n\n\nx,3\n\n"
    assert "line 8: column 'a': 'x'" in read.refused(text, {"a": "integer"})
    assert read(text.encode("utf-16")) == read(text) == [("1", 2), ("x", 3)]
    assert read("a\n1\n\n2\n") == [(1,), (None,), (2,)]


def test_bad_rows_are_left_out_or_made_null_where_the_user_asks(read: Files) -> None:
    text = 'a,b\n1,x\n1.5,"y\nz"\n2,w\nq,v\n'
    assert "on_bad_rows" in read.refused(text, {"a": "integer"})
    assert read(text, {"a": "integer"}, on_bad_rows="skip") == [(1, "x"), (2, "w")]
    assert read.notes == (
        "2 rows left out (on_bad_rows: skip): a.csv, line 3, column 'a': '1.5' is no integer;"
        " a.csv, line 6, column 'a': 'q' is no integer"
    )
    found = read(text, {"a": "integer"}, on_bad_rows=None)  # what YAML makes of `null`
    assert [row[0] for row in found] == [1, None, 2, None]
    assert read.notes.startswith("2 rows with values made NULL")
    assert read("a\n1\n", {"a": "integer"}, on_bad_rows="skip") == [(1,)]
    assert read.notes == ""


def test_lines_with_other_columns_are_left_out_where_the_user_asks(read: Files) -> None:
    text = "a,b\n1,2\n3\n4,5,6\n7,8\n"
    assert "a.csv, line 3: 1 column, where the header has 2" in read.refused(text)
    assert read(text, on_bad_rows="skip") == [(1, 2), (7, 8)]
    assert read.notes.startswith("2 rows left out (on_bad_rows: skip): a.csv, line 3: another")
    assert "line 3: 1 column" in read.refused(text, on_bad_rows="null")
    assert "line 3: a quote is not closed" in read.refused(
        'a,b\n1,2\n3,"x\n4,5,6\n', on_bad_rows="skip"
    )


# --- several files


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("id;net\n3;4\n", "b.csv: is delimited by ';', and a.csv by ','"),
        ("3,4\n5,6\n", "b.csv, line 1: begins with 3, 4, and a.csv has the columns id, net"),
        ("id,net,vat\n3,4,5\n", "b.csv: has the column vat, which a.csv has not"),
        ("id\n3\n", "b.csv: has no column net, which a.csv has"),
        ("id,net\n3,n/a\n", "b.csv: column 'net' holds text, and whole numbers in a.csv"),
        ("id,net\n3,true\n", "b.csv: column 'net' holds values of type boolean"),
    ],
)
def test_a_file_of_another_form_is_refused_with_both_names(
    read: Files, second: str, said: str
) -> None:
    assert said in read.refused({"a.csv": "id,net\n1,2\n", "b.csv": second})


def test_the_file_is_named_that_leaves_no_type(read: Files) -> None:
    files = {"a.csv": "v\n1\n", "b.csv": "v\n1.5\n", "c.csv": "v\n2.5\n", "d.csv": "v\nx\n"}
    message = read.refused(files)
    assert "d.csv: column 'v' holds text, and whole numbers in a.csv" in message
    files["d.csv"] = "v\n007\n"
    assert [row for (row,) in read(files)] == ["1", "1.5", "2.5", "007"]
    assert read.output is not None
    assert read.output.notes == ("column 'v' is string: integer in a.csv, string in d.csv",)


def test_files_may_differ_where_nothing_is_lost(read: Files) -> None:
    files = {"a.csv": "id,net\n1,2\n", "b.csv": "", "c.csv": "NET,id\n2.5,1\n", "d.csv": "id,net\n"}
    assert read(files) == [(1, 2.0), (1, 2.5)]
    assert read.notes == (
        "1 empty file skipped: b.csv\ncolumn 'net' is float: integer in a.csv, float in c.csv"
    )
    assert read({"a.csv": "z\n10115\n", "b.csv": "z\n01067\n"}) == [("10115",), ("01067",)]
    assert "z" in read.notes
    wide = {"a.csv": "a\n1\n", "b.csv": "b,a\nx,2\n"}
    assert read(wide, union_by_name=True) == [(1, None), (2, "x")]
    assert "a.csv is empty" in read.refused({"a.csv": "", "b.csv": " \n"})


@pytest.mark.parametrize("count", [1, 3, 9, 33])
def test_a_quote_that_is_not_closed_is_refused_among_any_number_of_files(
    read: Files, count: int
) -> None:
    files = {f"{n:02}.csv": "a,b\n1,2\n" for n in range(count)}
    bad = 'a,b\n1,2\n3,"x\n4,5\n'
    assert "zz.csv, line 3: a quote is not closed" in read.refused({**files, "zz.csv": bad})


def test_many_small_files_are_each_known(read: Files) -> None:
    files: dict[str, str | bytes] = {
        f"{n:03}.csv": f'a,b\n{n},"x,""{n}\n"\n\n{n},\n' for n in range(120)
    }
    found = read(files, filename=True)
    assert found[6] == (3, 'x,"3\n', "003.csv")
    assert [row[0] for row in found] == [n for n in range(120) for _ in range(2)]
    bad = {**files, "070.csv": "a,b\n1,2\n1.5,2\n"}
    assert "070.csv, line 3: column 'a'" in read.refused(bad, {"a": "integer"})
    for text, said in (("1,2\n3\n", "line 3: 1 column"), ('3,"x\n', "line 2: a quote is not")):
        assert f"070.csv, {said}" in read.refused({**files, "070.csv": f"a,b\n{text}"})
    assert len(read({**files, "070.csv": "a,b\n1\n"}, on_bad_rows="skip")) == 238
    assert "left out" in read.notes


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("03/04/2024", "12/30/2024", "a.csv: column 'd': its dates fit '%d/%m/%Y' and '%m/%d/%Y'"),
        ("30/04/2024", "12/30/2024", "b.csv: column 'd' holds dates as '%m/%d/%Y'"),
        ("2024-04-30", "12/30/2024", "b.csv: column 'd' holds dates as '%m/%d/%Y'"),
    ],
)
def test_dates_of_two_forms_are_refused(read: Files, first: str, second: str, said: str) -> None:
    files = {"a.csv": f"d\n{first}\n", "b.csv": f"d\n{second}\n"}
    message = read.refused(files)
    assert said in message
    assert "date_format" in message
    assert "b.csv" in message


def test_ambiguous_dates_ask_for_a_format(read: Files) -> None:
    text = "d\n03/04/2024\n"
    for kinds in ({}, {"d": "date"}):
        assert "params.date_format" in read.refused(text, kinds)
    assert read(text, {"d": "varchar"}) == [("03/04/2024",)]
    assert read(text, date_format="%d/%m/%Y") == [(date(2024, 4, 3),)]
    assert read(text, {"d": "date"}, date_format={"d": "%m/%d/%Y"}) == [(date(2024, 3, 4),)]
    late = "d\n" + "03/04/2024\n" * LATER + "30/04/2024\n"
    assert read(late)[-1] == (date(2024, 4, 30),)


def test_formats_hold_for_every_value(read: Files) -> None:
    message = read.refused("d\n01/02/24\n", date_format={"d": "%d/%m/%Y"})
    assert "a.csv, line 2: column 'd': '01/02/24' is no date" in message
    moment = {"t": "%d.%m.%Y %H:%M %z"}
    assert read("t\n01.02.2024 10:00 +0530\n", timestamp_format=moment) == [
        (datetime(2024, 2, 1, 4, 30, tzinfo=UTC),)
    ]
    assert read("t\n01.02.2024 10:00\n", timestamp_format="%d.%m.%Y %H:%M") == [
        (datetime(2024, 2, 1, 10),)  # noqa: DTZ001 - a column without zone
    ]
    # A format for all columns makes no date of a number.
    assert read("n\n20240105\n", date_format="%Y%m%d") == [(20240105,)]
    assert read("n\n20240105\n", date_format={"n": "%Y%m%d"}) == [(date(2024, 1, 5),)]


# --- params


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8"])
def test_a_file_is_read_in_its_encoding(read: Files, encoding: str) -> None:
    text = 'a,b\r\n1,é\r\n2,"ü\r\nö"\r\n'
    assert read(text.encode(encoding), encoding=encoding) == [(1, "é"), (2, "ü\r\nö")]


def test_byte_order_marks_tell_the_encoding(read: Files) -> None:
    assert read("a\nž\n".encode("utf-16")) == [("ž",)]
    assert read("a\nž\n".encode("utf-8-sig")) == [("ž",)]
    assert read("ž\n".encode("utf-8-sig"), columns=["a"]) == [("ž",)]
    message = read.refused("a,b\n1,x\n2,é\n".encode("latin-1"))
    assert "a.csv, line 3: is not UTF-8; write params.encoding" in message
    assert "is not ascii" in read.refused("a\né\n", encoding="ascii")


def test_numbers_are_read_with_the_marks_of_the_country(read: Files) -> None:
    text = "a;b;c\n1.234,50;7;1.000\n0,5;8;12\n"
    marks: dict[str, Any] = {"decimal": ",", "thousands": "."}
    assert read(text, **marks) == [(1234.5, 7, 1000), (0.5, 8, 12)]
    exact = {"a": "decimal(12,2)", "b": "float", "c": "integer"}
    assert read(text, exact, **marks)[0] == (Decimal("1234.50"), 7.0, 1000)
    message = read.refused("a;b\n12.34,5;1\n", {"a": "float"}, **marks)
    assert "'12.34,5' is no float" in message
    assert read("a;b\n12.34,5;1\n", **marks) == [("12.34,5", 1)]


def test_texts_for_null_replace_the_empty_one(read: Files) -> None:
    text = 'a,b\n1,NA\n,"NA"\n"",-\n'
    assert read(text) == [("1", "NA"), (None, "NA"), ("", "-")]
    assert read(text, null=["NA", "-"]) == [("1", None), ("", "NA"), ("", None)]
    assert read(text, null=[]) == [("1", "NA"), ("", "NA"), ("", "-")]
    quoted = 'a\n"1"\n""\n'
    assert "line 3: column 'a': '' is no integer" in read.refused(quoted, {"a": "integer"})
    assert read(quoted, {"a": "integer"}, null=[""]) == [(1,), (None,)]


def test_quotes_comments_and_lines_above_are_as_the_params_say(read: Files) -> None:
    assert read("a,b\n'x,y','it\\'s'\n", quote="'", escape="\\") == [("x,y", "it's")]
    assert read('a,b\n5" x,"y\n', quote="") == [('5" x', '"y')]
    text = 'report "of\n\n# made\na,b\n1,x#y\n#z\n2,"p\n#q"\n'
    assert read(text, skip=1, comment="#") == [(1, "x#y"), (2, "p\n#q")]
    assert read('a,"b\nc"\n1,2\n') == [(1, 2)]
    assert read.types.keys() == {"a", "b\nc"}


def test_columns_are_named_where_no_header_names_them(read: Files) -> None:
    assert read("1,x\n", columns=["id", "name"]) == [(1, "x")]
    assert list(read.types) == ["id", "name"]
    assert read("a,a\n1,2\n", header=True, columns=["x", "y"]) == [(1, 2)]
    assert read("1,2\n", header=False) == [(1, 2)]
    assert list(read.types) == ["column0", "column1"]
    assert "has 2 columns, and params.columns names 1" in read.refused("1,2\n", columns=["a"])
    assert "line 1: names more than one column 'a', 'A'" in read.refused("a,b,A\n1,2,3\n")
    read(",b,\n1,2,3\n")
    assert list(read.types) == ["column0", "b", "column2"]


def test_a_column_says_which_file_a_row_is_from(read: Files) -> None:
    files: dict[str, str | bytes] = {
        "x/a.csv": "a\n1\n",
        "x/b.csv": b"\xff\xfe" + "a\n2\n".encode("utf-16-le"),
    }
    assert read(files, filename=True) == [(1, "x/a.csv"), (2, "x/b.csv")]
    assert "have a column 'filename'" in read.refused("Filename\n1\n", filename=True)


def test_compressed_files_are_known_by_their_content(read: Files) -> None:
    packed = gzip.compress(b"a,b\n1,2\n")
    assert read({"a.csv.gz": packed}) == read({"b.csv": packed}) == [(1, 2)]
    assert read({"a.csv.gz": "a,b\n1,2\n"}) == [(1, 2)]
    assert "no whole gzip file" in read.refused({"a.csv.gz": packed[:20]})
    rows = gzip.compress(b"a,b\n" + b"1,2\n" * 500_000)
    wrong = bytes([*rows[:-8], rows[-8] ^ 1, *rows[-7:]])
    assert "no whole gzip file" in read.refused({"a.csv.gz": wrong})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_may_be_mixed(read: Files, end: str) -> None:
    assert read(f"a,b{end}1,2{end}3,4\n5,6\r\n7,8") == [(1, 2), (3, 4), (5, 6), (7, 8)]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("mode", ["fail", "skip", "null"])
def test_rows_may_be_of_any_length(read: Files, encoding: str, mode: str) -> None:
    long = "é" * 1_500_000
    bad = "" if mode == "fail" else "x,short\n"
    text = f'id,text\n1,{long}\n{bad}2,"a\n{long}"\n3,last\n'
    found = read(text.encode(encoding), {"id": "integer"}, encoding=encoding, on_bad_rows=mode)
    kept = [(None, "short")] if mode == "null" else []
    assert found == [(1, long), *kept, (2, f"a\n{long}"), (3, "last")]


def test_a_long_row_hides_no_mistake(read: Files) -> None:
    long = "x" * 2_100_000
    with pytest.raises(EngineError, match=r"a\.csv, line 3: a quote is not closed"):
        read(f'id,text\n1,a\n2,"{long}\n3,b\n')
    with pytest.raises(EngineError, match=r"a\.csv, line 3: 1 column, where the header has 2"):
        read(f"id,text\n1,{long}\n2\n")
    with pytest.raises(EngineError, match=r"a\.csv, line 3: column 'id': 'x' is no integer"):
        read(f"id,text\n1,{long}\nx,b\n", {"id": "integer"})
    assert read({"a.csv": f"id,text\n1,{long}\n", "b.csv": "id,text\n2.5,b\n"}) == [
        (1, long),
        (2.5, "b"),
    ]


def test_mistakes_in_params_are_named(read: Files) -> None:
    message = read.refused(
        "a\n1\n",
        delimiter="|||||",
        quote="ab",
        encoding="utf-99",
        date_format="%Q",
        thousands=".",
        columns=["a", "A"],
    )
    for path in ("delimiter", "quote", "encoding", "date_format", "thousands", "columns[1]"):
        assert f"source.s.params.{path}: " in message


def test_rows_stay_in_their_order(read: Files) -> None:
    lines = "".join(f"{n},{'x' * (n % 90)}\n" for n in range(200_000))
    found = read("n,t\n" + lines)
    assert [row[0] for row in found] == list(range(200_000))


def test_a_number_among_the_nulls_is_not_the_number_of_a_file(read: Files) -> None:
    many = {f"{number:03}.csv": f"a\n{number + 1}\n" for number in range(70)}
    found = read(many, null=["", "1", "5"], filename=True)
    assert found[0] == (None, "000.csv")
    assert found[1:4] == [(2, "001.csv"), (3, "002.csv"), (4, "003.csv")]
    assert found[4] == (None, "004.csv")


def test_a_format_does_not_round_nanoseconds_or_drop_an_offset(read: Files) -> None:
    nanoseconds: dict[str, Any] = {"timestamp_format": "%Y-%m-%d %H:%M:%S.%n"}
    digits = "d\n2024-01-01 12:00:01.123456789\n"
    assert read(digits, **nanoseconds) == [("2024-01-01 12:00:01.123456789",)]
    assert "would be lost" in read.refused(digits, {"d": "timestamp"}, **nanoseconds)
    offset: dict[str, Any] = {"timestamp_format": "%Y-%m-%d %H:%M:%S%z"}
    said = read.refused("d\n2024-01-01 12:00:01+05\n", {"d": "timestamp"}, **offset)
    assert "it has an offset" in said
    zone: dict[str, Any] = {"timestamp_format": "%Y-%m-%d %H:%M:%S %Z"}
    found = read("d\n2024-01-01 12:00:01 Europe/Berlin\n", **zone)
    assert found == [(datetime(2024, 1, 1, 11, 0, 1, tzinfo=UTC),)]


def test_a_tab_may_be_written_with_a_backslash(read: Files) -> None:
    assert read("a\tb\n1\t2\n", delimiter="\\t") == [(1, 2)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "UTF_16LE"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_byte_order_mark_is_no_part_of_the_first_name(
    read: Files, encoding: str, marked: bool
) -> None:
    text = ("\ufeff" if marked else "") + "id,n\n1,é\n"
    assert read(text.encode(encoding), encoding=encoding) == [(1, "é")]
    assert read.output is not None and read.output.schema.names == ["id", "n"]
    if marked and encoding != "utf-32-le":
        assert read(text.encode(encoding)) == [(1, "é")]


@pytest.mark.parametrize("mark", ["", '"'])
def test_a_header_that_is_too_wide_or_holds_nul_is_refused_at_once(read: Files, mark: str) -> None:
    header = ",".join(f"{mark}c{number}{mark}" for number in range(20_001))
    with pytest.raises(EngineError, match=r"has 20,001 columns, more than 4,000"):
        read(f"{header}\n")
    with pytest.raises(EngineError, match=r"line 1: the header holds a NUL character"):
        read(f"{mark}a\0b{mark},c\n1,2\n")


@pytest.mark.parametrize("param", ["date_format", "timestamp_format"])
def test_a_format_for_a_column_that_no_file_has_is_refused(read: Files, param: str) -> None:
    with pytest.raises(EngineError, match=f"params.{param} names 'dya'") as caught:
        read("day\n2024-01-01\n", **{param: {"dya": "%Y-%m-%d"}})
    assert caught.value.hint == "did you mean 'day'?"
