"""Reports about JSON, Parquet and paths in other tools, tried here as their users met them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from seeknal_core.engine.files.find import resolve_files
from support.engines import Lab, file_source, open_lab, rows

PAST_SAMPLE = 20_481


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    root = tmp_path / "day=2024-01-01" / "project"
    root.mkdir(parents=True)
    with open_lab(root) as opened:
        yield opened


def last(lab: Lab, lines: list[str]) -> dict[str, object]:
    path = lab.root / "a.jsonl"
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return rows(lab.files(file_source("jsonl"), path))[-1]


@pytest.mark.parametrize("early", [PAST_SAMPLE - 2, PAST_SAMPLE - 1, PAST_SAMPLE])
def test_a_key_first_seen_past_the_sample_keeps_its_values(lab: Lab, early: int) -> None:
    """duckdb/duckdb#25826: a key, or a member of one, that comes late is dropped."""
    lines = ['{"a":1,"n":{"x":1}}'] * early + ['{"a":1,"n":{"x":1,"y":2},"b":9007199254740993}']
    assert last(lab, lines) == {"a": 1, "n": {"x": 1, "y": 2}, "b": 9007199254740993}


@pytest.mark.parametrize(
    ("early", "late", "found"),
    [
        ("1.5", "true", "true"),
        ("7", "true", "true"),
        ("7", "1.5", 1.5),
        ("true", "7", "7"),
        ("true", "1.5", "1.5"),
    ],
)
def test_a_late_value_of_another_type_is_not_cast(
    lab: Lab, early: str, late: str, found: object
) -> None:
    """duckdb/duckdb#25786: booleans and numbers past the sample are cast in silence."""
    assert last(lab, [f'{{"a":{early}}}'] * PAST_SAMPLE + [f'{{"a":{late}}}']) == {"a": found}


def test_an_object_of_two_hundred_keys_keeps_every_digit(lab: Lab) -> None:
    """duckdb/duckdb#25828: an object of many keys becomes a map of doubles."""
    wide: dict[str, object] = {f"k{n}": 9007199254740993 for n in range(250)}
    wide["k0"] = 1.5
    assert last(lab, [json.dumps({"m": wide})]) == {"m": wide}


def test_a_folder_above_the_project_is_no_column(lab: Lab) -> None:
    """duckdb/duckdb#12325: names of folders anywhere in a path become columns."""
    path = lab.root / "a.jsonl"
    path.write_text('{"day":"mine"}\n')
    os.utime(path, (1_600_000_000, 1_600_000_000))
    node = attrs.evolve(file_source("jsonl"), table="*.jsonl")
    files = resolve_files(node, lab.root, lab.root / "scratch")
    with lab.store.staging() as staging:
        lab.engine.read_files(node, files, staging)
        assert rows(lab.keep(staging, node.id)) == [{"day": "mine"}]
