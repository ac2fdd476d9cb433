"""Reports of other tools about CSV files, tried on this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.files.opened import ResolvedFiles
from support.engines import Lab, file_source, open_lab, rows


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def read(
    lab: Lab, files: Mapping[str, str], types: Mapping[str, str] | None = None, **params: object
) -> list[dict[str, object]]:
    """Read files as one source."""
    paths = []
    for name, text in files.items():
        (lab.root / name).write_text(text)
        paths.append(lab.root / name)
    source = file_source("csv", types, **params)
    with lab.store.staging() as staging:
        resolved = ResolvedFiles(files=tuple(paths), labels=tuple(files))
        lab.engine.read_files(source, resolved, staging)
        return rows(lab.keep(staging, source.id))


@pytest.mark.parametrize(
    ("usual", "late"),
    [
        ("7", "19.99"),
        ("7", "01067"),
        ("7", "1_000"),
        ("7", "0x1F"),
        ("7", "1e3"),
        ("7", "true"),
        ("7.5", "1_000.5"),
        ("7.5", "12345678901234567890.12"),
        ("2024-01-01", "2024-02-01 23:59:59"),
        ("2024-01-01", "2024-02-01T23:59:59+05"),
        ("2024-01-01 10:00:00", "2024-02-01 23:59:59+05"),
        ("2024-01-01 10:00:00", "2024-02-01 23:59:59.123456789"),
        ("true", "1"),
        ("10:00:00", "24:00:00"),
    ],
)
def test_a_value_past_the_sample_is_not_rounded_or_cut(lab: Lab, usual: str, late: str) -> None:
    """duckdb/duckdb#25824: values past `sample_size` are rounded or cut without an error."""
    found = read(lab, {"a.csv": "v\n" + f"{usual}\n" * 20_481 + f"{late}\n"})
    value = found[-1]["v"]
    if isinstance(value, str):
        assert value == late
        assert found[0]["v"] == usual
    elif isinstance(value, datetime):
        assert value == datetime.fromisoformat(late)
    else:
        assert str(value) == late


def test_a_declared_type_does_not_round_past_the_sample(lab: Lab) -> None:
    """duckdb/duckdb#25824: a type given by the user is cast as loosely."""
    text = "v\n" + "7\n" * 20_481 + "1.5\n"
    with pytest.raises(EngineError, match=r"a\.csv, line 20483: column 'v': '1\.5' is no integer"):
        read(lab, {"a.csv": text}, {"v": "integer"})


def test_a_file_without_rows_does_not_change_the_types_of_the_others(lab: Lab) -> None:
    """duckdb/duckdb#18579: one file with a header alone makes all columns boolean."""
    files = {"a.csv": "name,net,at\n", "b.csv": "name,net,at\nx,1.5,2024-01-01\n", "c.csv": ""}
    assert read(lab, files) == [{"name": "x", "net": 1.5, "at": date(2024, 1, 1)}]


@pytest.mark.parametrize("second", ["id;net\n3;4\n", "3,4\n", "id,net\n12/30/2024,1\n"])
def test_files_of_a_list_do_not_take_the_form_of_the_first(lab: Lab, second: str) -> None:
    """duckdb/duckdb#13703: names and types depend on the file that is looked at."""
    with pytest.raises(EngineError) as caught:
        read(lab, {"a.csv": "id,net\n1,2\n", "b.csv": second})
    assert "a.csv" in caught.value.message
    assert "b.csv" in caught.value.message


def test_an_offset_is_not_dropped(lab: Lab) -> None:
    """duckdb/duckdb#22103: a text with an offset, read as a timestamp, loses it."""
    text = "at\n2026-04-29T14:38:00+02:00\n"
    assert read(lab, {"a.csv": text}) == [{"at": datetime(2026, 4, 29, 12, 38, tzinfo=UTC)}]
    with pytest.raises(EngineError, match="it has an offset"):
        read(lab, {"a.csv": text}, {"at": "timestamp"})


def test_times_with_am_and_pm_are_no_zones(lab: Lab) -> None:
    """duckdb/duckdb#17705: a time with PM is taken for one with a zone named PM."""
    text = "at\n2022/01/27 11:04:57 PM\n"
    assert read(lab, {"a.csv": text}) == [{"at": "2022/01/27 11:04:57 PM"}]
    assert read(lab, {"a.csv": text}, timestamp_format="%Y/%m/%d %I:%M:%S %p") == [
        {"at": datetime(2022, 1, 27, 23, 4, 57)}  # noqa: DTZ001 - a column without zone
    ]
