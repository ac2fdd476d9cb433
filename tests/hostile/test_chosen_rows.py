"""Rows chosen so that the former digest stays as it is: a change like any other."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from support.cli import Cli, write

#: Two pairs of numbers whose hashes have the same sum, and so have their second hashes.
#: Found in a second: DuckDB's hash can be inverted, and the two sums are nearly linear.
ONE = (-236789280463325354, 3318390530747014767)
OTHER = (-4185407945267059516, 8294927919167980328)

_SOURCE = """\
from pathlib import Path

import pyarrow as pa

from seeknal_core.pipeline import source


@source(name="chosen")
def chosen(ctx):
    numbers = Path(__file__).parents[1].joinpath("data/numbers").read_text().split()
    return pa.table({"x": [int(number) for number in numbers]})
"""


def test_rows_that_have_the_former_digest_of_others_are_others(project: Path, seeknal: Cli) -> None:
    files = {
        "seeknal/chosen.py": _SOURCE,
        "seeknal/shown.sql": (
            "/* ---\nmaterialization: {type: folder, table: sales.shown}\n--- */\n"
            "SELECT x FROM source.chosen\n"
        ),
    }
    for numbers in (ONE, OTHER, ONE):
        write(project, {**files, "data/numbers": "\n".join(map(str, numbers))})
        seeknal("run", "--select", "+transform.shown")
        shown = pq.read_table(project / "lake/sales/shown.parquet").column("x").to_pylist()
        assert sorted(shown) == sorted(numbers)
