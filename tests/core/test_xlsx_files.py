"""Sheets of Excel workbooks: a cell's own type counts, and no cell is passed over."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import attrs
import openpyxl
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.sources import xlsx
from support.engines import Lab, file_source, open_lab, rows


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def write(
    lab: Lab,
    *lines: Sequence[object],
    name: str = "a.xlsx",
    merged: str = "",
    sheets: Sequence[str] = ("Sheet",),
) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = sheets[0]
    for other in sheets[1:]:
        book.create_sheet(other)
    for line in lines:
        sheet.append(line)
    if merged:
        sheet.merge_cells(merged)
    path = lab.root / name
    book.save(path)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def read(lab: Lab, path: Path, dtypes: dict[str, str] | None = None, **params: object) -> object:
    return rows(lab.files(file_source("xlsx", dtypes, **params), path))


@pytest.mark.parametrize(
    ("cells", "kind", "found"),
    [
        ([1, 2**53], "int64", [1, 2**53]),
        ([0.1, 3], "double", [0.1, 3.0]),
        (["007", "1e5"], "string", ["007", "1e5"]),
        ([" x ", "2024-01-01"], "string", [" x ", "2024-01-01"]),
        ([True, None], "bool", [True, None]),
        (
            [date(2024, 2, 29), date(1900, 3, 1)],
            "date32[day]",
            [date(2024, 2, 29), date(1900, 3, 1)],
        ),
        (
            [datetime(2024, 1, 1, 8), date(2024, 1, 2)],  # noqa: DTZ001 - sheets have no zones
            "timestamp[us]",
            [datetime(2024, 1, 1, 8), datetime(2024, 1, 2)],  # noqa: DTZ001 - the same
        ),
        ([time(12, 30)], "time64[us]", [time(12, 30)]),
    ],
)
def test_a_column_has_the_type_of_its_cells(
    lab: Lab, cells: list[object], kind: str, found: list[object]
) -> None:
    made = lab.files(file_source("xlsx"), write(lab, ["id", "a"], *enumerate(cells)))
    assert str(made.schema.field("a").type) == kind
    assert [row["a"] for row in rows(made)] == found


def test_cells_of_two_types_are_an_error_or_text_as_declared(lab: Lab) -> None:
    path = write(lab, ["a"], [7], [date(2024, 1, 2)], ["007"], [0.5], [True])
    with pytest.raises(EngineError, match=r"a\.xlsx A2 is a number, a\.xlsx A3 is a date"):
        read(lab, path)
    found = read(lab, path, {"a": "string"})
    assert found == [{"a": value} for value in ("7", "2024-01-02", "007", "0.5", "true")]


@pytest.mark.parametrize(
    ("dtype", "cell", "found"),
    [
        ("decimal(10,2)", 12.5, Decimal("12.50")),
        ("integer", 5.0, 5),
        ("integer", "5", 5),
        ("date", datetime(2024, 1, 2), date(2024, 1, 2)),  # noqa: DTZ001 - no zone in a sheet
        ("timestamp", date(2024, 1, 2), datetime(2024, 1, 2)),  # noqa: DTZ001 - the same
    ],
)
def test_a_declared_type_is_exact(lab: Lab, dtype: str, cell: object, found: object) -> None:
    assert read(lab, write(lab, ["a"], [cell]), {"a": dtype}) == [{"a": found}]


@pytest.mark.parametrize(
    ("dtype", "cell"),
    [("integer", 1.5), ("decimal(5,1)", 0.25), ("date", datetime(2024, 1, 2, 5)), ("date", "x")],  # noqa: DTZ001 - no zone
)
def test_a_cell_that_does_not_fit_is_named(lab: Lab, dtype: str, cell: object) -> None:
    with pytest.raises(EngineError, match=r"a\.xlsx: A3, column 'a': "):
        read(lab, write(lab, ["a", "b"], [None, 1], [cell, 2]), {"a": dtype})


def test_empty_rows_and_columns_are_passed_over_and_ranges_are_exact(lab: Lab) -> None:
    path = write(
        lab,
        ["a title", None, None],
        [],
        ["id", None, "net"],
        [1, None, 2.5],
        [],
        [2, None, None],
        ["sum", None, 2.5],
    )
    assert read(lab, path, range="A3:C6") == [{"id": 1, "net": 2.5}, {"id": 2, "net": None}]
    assert read(lab, path, range="A4:C6", columns=["n", "nothing", "net"]) == [
        {"n": 1, "nothing": None, "net": 2.5},
        {"n": 2, "nothing": None, "net": None},
    ]
    with pytest.raises(EngineError, match="C3 has a value, and its column has no name"):
        read(lab, path)


def test_a_sheet_is_chosen_by_name(lab: Lab) -> None:
    path = write(lab, ["a"], [1], sheets=("Orders", "Notes"))
    with pytest.raises(EngineError, match="has 2 sheets: Orders, Notes") as caught:
        read(lab, path)
    assert caught.value.hint == "write params.sheet"
    assert read(lab, path, sheet="Orders") == [{"a": 1}]
    with pytest.raises(EngineError, match="has no sheet 'Ordres'") as caught:
        read(lab, path, sheet="Ordres")
    assert caught.value.hint == "did you mean 'Orders'?"
    with pytest.raises(EngineError, match="has no row"):
        read(lab, path, sheet="Notes")


def test_what_would_arrive_as_null_is_an_error(lab: Lab) -> None:
    with pytest.raises(EngineError, match="A3 is an error, #N/A"):
        read(lab, write(lab, ["a"], [1], ["#N/A"]))
    with pytest.raises(EngineError, match="Sheet!A3 holds a formula that was never computed"):
        read(lab, write(lab, ["a"], [1], ["=A2*2"]))
    with pytest.raises(EngineError, match="Sheet!A2:A3 is one merged cell"):
        read(lab, write(lab, ["a", "b"], ["x", 1], [None, 2], merged="A2:A3"))
    title = write(lab, ["a title", None], ["a", "b"], [1, 2], merged="A1:B1")
    assert read(lab, title, range="A2:B3") == [{"a": 1, "b": 2}]


def test_a_duration_needs_a_declared_type(lab: Lab) -> None:
    with pytest.raises(EngineError, match="holds a duration that no type keeps"):
        read(lab, write(lab, ["a"], [timedelta(hours=30)]))


def test_several_files_agree_or_both_are_named(lab: Lab) -> None:
    one = write(lab, ["a", "b"], [1, "x"], name="1.xlsx")
    two = write(lab, ["B", "A"], ["y", 2.5], name="2.xlsx")
    source = file_source("xlsx", filename=True)
    assert rows(lab.files(source, one, two)) == [
        {"a": 1.0, "b": "x", "filename": "1.xlsx"},
        {"a": 2.5, "b": "y", "filename": "2.xlsx"},
    ]
    three = write(lab, ["a"], [3], name="3.xlsx")
    with pytest.raises(EngineError, match=r"3\.xlsx has no column 'b', which 1\.xlsx has"):
        lab.files(source, one, three)
    made = lab.files(file_source("xlsx", union_by_name=True), one, three)
    assert rows(made) == [{"a": 1, "b": "x"}, {"a": 3, "b": None}]


def test_a_wrong_size_of_the_sheet_cuts_nothing_off(lab: Lab) -> None:
    path = write(lab, ["a"], [1], [2])
    changed = lab.root / "b.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'ref="A1:A3"', b'ref="A1"'))
    os.utime(changed, (1_600_000_000, 1_600_000_000))
    assert read(lab, changed) == [{"a": 1}, {"a": 2}]


def test_a_missing_reader_and_a_broken_file_are_a_sentence(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = lab.root / "b.xlsx"
    broken.write_text("no workbook")
    os.utime(broken, (1_600_000_000, 1_600_000_000))
    with pytest.raises(EngineError, match=r"b\.xlsx: is no Excel workbook"):
        read(lab, broken)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(EngineError, match="needs openpyxl") as caught:
        read(lab, broken)
    assert caught.value.hint == 'pip install "seeknal-core[xlsx]"'


def test_a_workbook_that_unpacks_to_too_much_is_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(lab, ["a"], *([1] for _ in range(2_000)))
    monkeypatch.setattr(xlsx, "MOST_UNPACKED", 20_000)
    with pytest.raises(EngineError, match=r"unpacked, the limit is 20,000 \(max_bytes\)") as caught:
        lab.files(file_source("xlsx"), path)
    assert "write max_bytes: beside params" in caught.value.hint
    wide = attrs.evolve(file_source("xlsx"), max_bytes=10_000_000)
    assert lab.files(wide, path).row_count == 2_000


def test_rows_that_go_through_a_file_in_pieces_stay_what_they_are(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlsx, "_BATCH", 3)
    values = [1.5, 0.1, 1e300, 2**53, -7, 123456789.123456, 1e-7, 3]
    first = write(lab, ["a", "b"], *([value, f"x{value}"] for value in values))
    second = write(lab, ["b", "c"], ["y", True], name="b.xlsx")
    source = file_source("xlsx", union_by_name=True)
    found = rows(lab.files(source, first, second))
    wanted = [{"a": v, "b": f"x{v}", "c": None} for v in values]
    assert found == [*wanted, {"a": None, "b": "y", "c": True}]
