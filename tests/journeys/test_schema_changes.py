"""Columns that leave, types that change, and times that are covered, by the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli, write
from support.promotions import Place

SQL = """\
/* ---
materializations:
  - {{type: postgresql, connection: warehouse, table: shop.t{more}}}
  - {{type: iceberg, connection: lake, table: lake.shop.t{more}}}
--- */
SELECT {columns} FROM source.orders
"""


@pytest.fixture
def places(tmp_path: Path, postgres_dsn: Mapping[str, Any]) -> tuple[Place, Place]:
    return Place(name="warehouse", dsn=postgres_dsn), Place(name="lake", warehouse=tmp_path / "w")


@pytest.fixture
def seeknal(tmp_path: Path, places: tuple[Place, Place]) -> Cli:
    root = tmp_path / "changes"
    write(
        root,
        {
            "seeknal_project.yml": "name: shop\n",
            "profiles.yml": json.dumps(
                {"connections": {place.name: place.connection for place in places}}
            ),
            "data/orders.csv": "id,amount,note,day\n1,10,a,2024-01-01\n2,20,b,2024-01-03\n",
            "seeknal/orders.yml": (
                "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
            ),
        },
    )
    return Cli(cwd=root, environ={"HOME": str(tmp_path / "home")}, warm=True)


def node(seeknal: Cli, columns: str, more: str = "") -> None:
    write(seeknal.cwd, {"seeknal/t.sql": SQL.format(columns=columns, more=more)})


def targets_of(said: str, words: str) -> set[str]:
    """Return the targets of which a command said some words, in one line or in several."""
    lines = [line for line in said.splitlines() if words in line]
    return {name for line in lines for name in re.findall(r"(?:lake\.)?(?:dev_)?shop\.t\b", line)}


def test_a_plan_says_what_becomes_of_columns(seeknal: Cli, places: tuple[Place, Place]) -> None:
    database, _ = places
    node(seeknal, "id, amount, note")
    seeknal("run")
    seeknal("run", "--env", "dev", "--all-targets")
    node(seeknal, "id, CAST(amount AS VARCHAR) || ' EUR' AS amount")
    words = ("column 'amount' becomes", "column 'note' left the node: it is kept, and set to NULL")
    planned = seeknal("env", "plan", "dev").out
    ran = seeknal("env", "apply", "dev").said
    for said in (planned, ran):
        assert all(len(targets_of(said, word)) == 2 for word in words), said
    foreseen = seeknal("env", "promote", "dev", "--dry-run").said
    promoted = seeknal("env", "promote", "dev").said
    for said in (foreseen, promoted):
        assert all(len(targets_of(said, word)) == 2 for word in words), said
    expected = [(("amount", "10 EUR"), ("id", 1), ("note", None))]
    for place in places:
        found = [tuple(sorted(row)) for row in place.seen()["shop.t"]]
        assert sorted(found)[:1] == expected
    seeknal("env", "rollback", "prod")
    assert dict(places[1].seen()["shop.t"][0]) == {"id": 1, "amount": 10, "note": "a"}
    database.execute("DROP TABLE shop.t")


def test_a_plan_says_what_will_be_refused(seeknal: Cli, places: tuple[Place, Place]) -> None:
    database, _ = places
    node(seeknal, "id, amount, note")
    seeknal("run", "--env", "dev")
    database.execute("CREATE VIEW dev_shop.report AS SELECT amount FROM dev_shop.t")
    node(seeknal, "id, CAST(amount AS VARCHAR) AS amount")
    reason = "column 'amount' cannot change its type: view dev_shop.report uses it"
    assert f"will be refused: dev_shop.t: {reason}" in seeknal("env", "plan", "dev").out
    assert reason in seeknal("env", "apply", "dev", code=1).said
    assert database.query("SELECT sum(amount) FROM dev_shop.t") == [(30,)]
    database.execute("DROP VIEW dev_shop.report")
    seeknal("run", "--env", "dev")
    # What is advised is meant for dev, and for this node; a promotion has its own option.
    keyed = ", mode: upsert_by_key, unique_keys: [id]"
    for columns, code in (("id", 0), ("id, DATE '2024-01-01' AS id2", 0), ("id, 1 AS id2", 1)):
        node(seeknal, columns, keyed)
        planned = seeknal("env", "plan", "dev", "--json").out
        done = seeknal("run", "--env", "dev", code=code)
    advice = "seeknal run --env dev --full-refresh --select transform.t"
    assert done.said.count(advice) == 2 and advice in planned


def test_a_node_says_what_it_covers(seeknal: Cli, places: tuple[Place, Place]) -> None:
    """Late rows, a day that would lose rows, and the way out that the message names."""
    more = ", mode: incremental_by_time, time_column: day"
    node(seeknal, "id, day", more)
    seeknal("run")
    write(seeknal.cwd, {"data/orders.csv": "id,amount,note,day\n3,1,c,2024-01-02\n"})
    seeknal("run")
    assert [len(place.seen()["shop.t"]) for place in places] == [3, 3]
    write(
        seeknal.cwd,
        {
            "data/orders.csv": (
                "id,amount,note,day\n4,1,c,2024-01-02\n5,1,c,2024-01-02\n6,1,c,2024-01-04\n"
            )
        },
    )
    said = seeknal("run").said
    assert said.count("rows of days that the snapshot does not have are kept: 2024-01-03") == 2
    write(seeknal.cwd, {"data/orders.csv": "id,amount,note,day\n7,1,c,2024-01-02\n"})
    refused = seeknal("run", code=1).said
    assert refused.count("2024-01-02 has 2 rows there and 1 here") == 2
    assert "covers: {from: 2024-01-02, to: 2024-01-03}" in refused
    assert refused.count("seeknal run --full-refresh --select transform.t") == 2
    node(seeknal, "id, day", more)
    text = (seeknal.cwd / "seeknal/t.sql").read_text("utf-8")
    covered = text.replace("--- */", "covers: {from: 2024-01-02, to: '{{ var(\"end\") }}'}\n--- */")
    write(seeknal.cwd, {"seeknal/t.sql": covered})
    seeknal("run", "--vars", '{"end": "2024-01-04"}')
    for place in places:
        assert sorted(dict(row)["id"] for row in place.seen()["shop.t"]) == [1, 6, 7]


def test_a_promotion_on_another_day_covers_what_was_computed(
    seeknal: Cli, places: tuple[Place, Place]
) -> None:
    """The end is a template: rows of later days, which dev did not compute, stay."""

    def covered(columns: str) -> None:
        node(seeknal, columns, ", mode: incremental_by_time, time_column: day")
        text = (seeknal.cwd / "seeknal/t.sql").read_text("utf-8")
        upto = '{{ env_var("UPTO") }}'
        text = text.replace("--- */", f"covers: {{from: 2024-01-01, to: '{upto}'}}\n--- */")
        where = f"FROM source.orders WHERE day < DATE '{upto}'"
        write(seeknal.cwd, {"seeknal/t.sql": text.replace("FROM source.orders", where)})

    settings = (seeknal.cwd / "seeknal_project.yml").read_text("utf-8")
    write(seeknal.cwd, {"seeknal_project.yml": f"{settings}env_vars: [UPTO]\n"})
    covered("id, day")
    seeknal("run", UPTO="2024-01-04")
    covered("id + 10 AS id, day")
    seeknal("run", "--env", "dev", UPTO="2024-01-02")
    seeknal("env", "promote", "dev", "--ship", "--yes", UPTO="2024-01-04")
    for place in places:
        # What dev computed ends before 2024-01-02: production's row of the 3rd stays.
        assert sorted(dict(row)["id"] for row in place.seen()["shop.t"]) == [2, 11]


def test_a_dry_run_says_what_the_promotion_says(seeknal: Cli, places: tuple[Place, Place]) -> None:
    """Also of a node that is rebuilt, and of what stands at the table."""
    database, _ = places
    sync = ", on_schema_change: sync"
    node(seeknal, "id, amount, note", sync)
    seeknal("run")
    seeknal("run", "--env", "dev", "--all-targets")
    database.execute(
        "CREATE FUNCTION shop.mark() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.amount := 0; RETURN NEW; END $$"
    )
    database.execute(
        "CREATE TRIGGER marked BEFORE INSERT ON shop.t FOR EACH ROW EXECUTE FUNCTION shop.mark()"
    )
    node(seeknal, "id, amount", sync)
    seeknal("run", "--env", "dev")
    foreseen = seeknal("env", "promote", "dev", "--rebuild", "--dry-run", "--json").json()["notes"]
    later = "set to NULL, and dropped when the promotion cannot be undone any more"
    assert f"shop.t: column 'note' left the node: it is {later}" in foreseen
    assert any("marked" in note for note in foreseen), foreseen
    database.execute("DROP TRIGGER marked ON shop.t")
    said = seeknal("env", "promote", "dev", "--rebuild", "--json").json()["notes"]
    assert said and set(said) <= set(foreseen)
