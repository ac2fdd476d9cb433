"""A bit that flips in a stored output: noticed before a row of it is read or written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from support.cli import Cli, write

BIG = "seeknal/big.yml"
_BIG = (
    "kind: transform\nname: big\n"
    "transform: SELECT * FROM ref('transform.totals') WHERE total > {least}\n"
    "materialization: {{type: folder, table: sales.big}}\n"
)


def flip(project: Path, node: str, environment: str = "prod") -> None:
    """Flip one bit of the first data page of a node's stored output."""
    state = project / "target" / "state" / "environments" / f"{environment}.json"
    key = json.loads(state.read_text())["nodes"][node]["content_key"]
    path = project / "target" / "snapshots" / key[:2] / key / "data_0.parquet"
    content = bytearray(path.read_bytes())
    content[4 + (len(content) - 4) // 8] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def big(project: Path, least: int) -> None:
    """Change ``transform.big``, which reads ``transform.totals``."""
    write(project, {BIG: _BIG.format(least=least)})


def totals(project: Path, lake: str = "lake") -> dict[str, int]:
    """Return what readers of a table see."""
    rows = pq.read_table(project / lake / "sales" / "big.parquet").to_pylist()
    return {row["customer"]: int(row["total"]) for row in rows}


def test_an_input_that_was_damaged_is_computed_again(project: Path, seeknal: Cli) -> None:
    seeknal("run")
    flip(project, "transform.totals")
    big(project, 1)
    done = seeknal("run")
    assert totals(project) == {"ada": 9007199254741003, "bela": 20}
    assert "transform.totals: its stored output was damaged" in done.said
    assert "damaged" not in seeknal("run").said


def test_damage_further_up_is_computed_again_too(project: Path, seeknal: Cli) -> None:
    seeknal("run")
    flip(project, "source.orders")
    flip(project, "transform.totals")
    big(project, 1)
    seeknal("run")
    assert totals(project) == {"ada": 9007199254741003, "bela": 20}


def test_a_target_is_written_from_sound_bytes_alone(project: Path, seeknal: Cli) -> None:
    seeknal("run")
    flip(project, "transform.big")
    seeknal("run", "--full-refresh")
    before = totals(project)
    flip(project, "transform.big")
    seeknal("run", "--full-refresh")
    assert totals(project) == before


def test_what_is_not_selected_is_computed_again(project: Path, seeknal: Cli) -> None:
    seeknal("run")
    flip(project, "transform.totals")
    big(project, 1)
    seeknal("run", "--select", "transform.big")
    assert totals(project) == {"ada": 9007199254741003, "bela": 20}


def test_an_unselected_source_that_was_damaged_ends_with_4_and_the_command(
    project: Path, seeknal: Cli
) -> None:
    seeknal("run")
    flip(project, "source.orders")
    path = project / "seeknal" / "totals.sql"
    path.write_text(path.read_text().replace("sum(amount)", "sum(amount) + 1"))
    before = totals(project)
    ended = seeknal("run", "--select", "transform.totals", code=4)
    assert "source.orders were damaged" in ended.said
    assert "seeknal run --select source.orders" in ended.said
    assert totals(project) == before
    seeknal("run", "--select", "source.orders")
    seeknal("run", "--select", "transform.totals")


def test_a_target_that_only_a_damaged_source_could_bring_back_ends_with_4(
    project: Path, seeknal: Cli
) -> None:
    big(project, 1)
    seeknal("run")
    before = totals(project)
    for node in ("transform.big", "transform.totals", "source.orders"):
        flip(project, node)
    again = ("run", "--select", "transform.big", "--full-refresh", "--yes")
    ended = seeknal(*again, code=4)
    assert "source.orders were damaged" in ended.said
    assert totals(project) == before
    seeknal("run", "--select", "source.orders")
    seeknal(*again)
    assert totals(project) == before


def test_an_environment_takes_no_damaged_source_of_its_base(project: Path, seeknal: Cli) -> None:
    seeknal("run")
    big(project, 1)
    path = project / "seeknal" / "totals.sql"
    path.write_text(path.read_text().replace("sum(amount)", "sum(amount) + 1"))
    seeknal("env", "plan", "dev")
    flip(project, "source.orders")
    ended = seeknal("env", "apply", "dev", code=4)
    assert "seeknal run --env dev --select source.orders" in ended.said
    seeknal("run", "--env", "dev", "--select", "source.orders")
    seeknal("env", "plan", "dev")
    seeknal("env", "apply", "dev")


@pytest.mark.parametrize("verify", ["counts", "checksum"])
def test_a_damaged_output_is_not_promoted(project: Path, seeknal: Cli, verify: str) -> None:
    seeknal("run")
    before = totals(project)
    big(project, 1)
    seeknal("env", "plan", "dev")
    seeknal("env", "apply", "dev")
    flip(project, "transform.big", "dev")
    ended = seeknal("env", "promote", "dev", "--verify", verify, code=4)
    assert "the stored output of transform.big was damaged" in ended.said
    assert "seeknal env apply dev --force" in ended.said
    assert totals(project) == before
    seeknal("env", "apply", "dev", "--force")
    seeknal("env", "promote", "dev")
    assert totals(project) == {"ada": 9007199254741003, "bela": 20}


@pytest.mark.parametrize("command", ["query", "diff"])
def test_no_command_shows_damaged_rows(project: Path, seeknal: Cli, command: str) -> None:
    seeknal("run")
    big(project, 1)
    seeknal("run", "--env", "dev")
    flip(project, "transform.big", "dev")
    if command == "query":
        ended = seeknal("query", "SELECT * FROM big", "--env", "dev", code=None)
    else:
        ended = seeknal("env", "diff", "dev", code=None)
    assert ended.code in (1, 4)
    assert "transform.big" in ended.said and "seeknal run --env dev" in ended.said
    seeknal("run", "--env", "dev")
    seeknal("query", "SELECT * FROM big", "--env", "dev")


@pytest.mark.parametrize("select", [(), ("--select", "transform.big")])
def test_an_input_whose_rows_were_proved_to_stay_is_computed_again_under_its_key(
    project: Path, seeknal: Cli, select: tuple[str, ...]
) -> None:
    head = (project / "seeknal/totals.sql").read_text("utf-8").partition("SELECT")[0]
    sql = "SELECT customer, sum(amount) AS total FROM transform.kept GROUP BY customer\n"
    write(project, {"seeknal/totals.sql": head + sql})
    kept = "SELECT id, customer, amount{} FROM source.orders\n"
    write(project, {"seeknal/kept.sql": kept.format("")})
    seeknal("run")
    write(project, {"seeknal/kept.sql": kept.format(", amount + 1 AS more")})
    assert "transform.totals: computed" not in seeknal("run").out
    flip(project, "transform.totals")
    big(project, 1)
    seeknal("run", *select)
    assert totals(project) == {"ada": 9007199254741003, "bela": 20}
    report = seeknal("run", "--json").json()
    assert {node["status"] for node in report["nodes"]} == {"reused"}
