"""A plan's file may have been changed by anybody: nothing of it is carried out unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from support.cli import Cli, write

SECRET = (
    "kind: transform\nname: secret\ntransform: SELECT 'hidden' AS customer, 1 AS total\n"
    "materialization: {type: folder, table: private.secret}\n"
)
MORE = "kind: transform\nname: more\ntransform: SELECT {{ var('what', 1) }} AS a\n"


@pytest.fixture
def plan_file(seeknal: Cli, project: Path) -> Path:
    """A plan of dev upon production, that changes one node."""
    write(project, {"seeknal/secret.yml": SECRET, "seeknal/more.yml": MORE})
    seeknal("run")
    big = "kind: transform\nname: big\ntransform: SELECT customer, total + 1 AS total FROM "
    big += "ref('transform.totals')\nmaterialization: {type: folder, table: sales.big}\n"
    write(project, {"seeknal/big.yml": big})
    seeknal("env", "plan", "dev")
    return project / "target" / "state" / "plans" / "dev.json"


Edit = Callable[[dict[str, Any]], None]


def edit(path: Path, change: Edit) -> None:
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), "utf-8")


def step(document: dict[str, Any], kind: str, id: str) -> dict[str, Any]:
    """Return a node's or a target's entry."""
    word = "id" if kind == "nodes" else "node"
    found: dict[str, Any] = next(one for one in document[kind] if one[word] == id)
    return found


def files(folder: Path) -> set[str]:
    """Return the tables of the store."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*.parquet")}


def _table(document: dict[str, Any]) -> None:
    step(document, "targets", "transform.big")["name"] = "private.secret"


def _mode(document: dict[str, Any]) -> None:
    step(document, "targets", "transform.big")["mode"] = "append"


def _other_node(document: dict[str, Any]) -> None:
    step(document, "targets", "transform.big")["node"] = "transform.secret"


def _key(document: dict[str, Any]) -> None:
    step(document, "targets", "transform.big")["key"] = "x"


def _connection(document: dict[str, Any]) -> None:
    step(document, "targets", "transform.big")["connection"] = "elsewhere"


def _fewer_targets(document: dict[str, Any]) -> None:
    document["targets"] = [t for t in document["targets"] if t["node"] != "transform.big"]


def _definition(document: dict[str, Any]) -> None:
    document["definitions"]["transform.big"] = document["definitions"]["transform.secret"]


def _bindings(document: dict[str, Any]) -> None:
    document["bindings"]["lake"] = "0" * 64


def _base(document: dict[str, Any]) -> None:
    document["base_state"] = "0" * 64


def _vars(document: dict[str, Any]) -> None:
    document["variables"] = {"what": "(SELECT max(customer) FROM ref('transform.secret'))"}


@pytest.mark.parametrize(
    "change",
    [
        _table, _mode, _other_node, _key, _connection, _fewer_targets, _definition, _bindings,
        _base, _vars,
    ],
)  # fmt: skip
def test_a_plan_that_differs_from_the_project_is_refused_before_any_write(
    seeknal: Cli, project: Path, plan_file: Path, change: Edit
) -> None:
    before = files(project / "lake")
    edit(plan_file, change)
    said = seeknal("env", "apply", "dev", code=3).err
    assert "seeknal env plan dev" in said and "--force" in said
    assert files(project / "lake") == before
    seeknal("env", "apply", "dev", "--force")
    assert files(project / "lake") - before == {
        f"dev_{name}.parquet" for name in ("private/secret", "sales/big", "sales/totals")
    }
    rows = pq.read_table(project / "lake" / "dev_sales" / "big.parquet").to_pylist()
    assert {row["customer"] for row in rows} == {"ada", "bela"}


def _swapped(document: dict[str, Any]) -> None:
    secret, big = (step(document, "nodes", f"transform.{id}") for id in ("secret", "big"))
    assert secret["action"] == "reuse"
    for word in ("action", "content_key", "held", "reused_from"):
        big[word] = secret[word]


def _shown_as_another(document: dict[str, Any]) -> None:
    secret = step(document, "nodes", "transform.secret")
    target = step(document, "targets", "transform.big")
    target |= {"writing": "copy of production's rows", "content_key": secret["content_key"]}


def _linked(document: dict[str, Any]) -> None:
    secret = step(document, "nodes", "transform.secret")
    target = step(document, "targets", "transform.big")
    target |= {"writing": "link to production's table", "content_key": secret["content_key"]}


def _no_node(document: dict[str, Any]) -> None:
    document["nodes"] = []


@pytest.mark.parametrize("change", [_swapped, _shown_as_another, _linked, _no_node])
def test_what_a_plan_says_of_rows_is_not_believed(
    seeknal: Cli, project: Path, plan_file: Path, change: Edit
) -> None:
    edit(plan_file, change)
    seeknal("env", "apply", "dev")
    rows = pq.read_table(project / "lake" / "dev_sales" / "big.parquet").to_pylist()
    assert {row["customer"] for row in rows} == {"ada", "bela"}


def test_a_plan_names_no_profile(
    seeknal: Cli, project: Path, plan_file: Path, tmp_path: Path
) -> None:
    evil = tmp_path / "evil.yml"
    evil.write_text(f"connections: {{lake: {{type: folder, path: {tmp_path}/evil}}}}\n", "utf-8")

    def named(document: dict[str, Any]) -> None:
        document |= {"given_profile": str(evil), "profile": str(evil)}

    edit(plan_file, named)
    said = seeknal("env", "apply", "dev").out
    assert "default profiles.yml" in said and not (tmp_path / "evil").exists()
    # Also where all of the plan is made for it.
    out = tmp_path / "plan.json"
    seeknal("env", "plan", "dev", "--profile", str(evil), "--out", str(out))
    said = seeknal("env", "apply", "dev", "--plan", str(out), code=3).err
    assert "connections lead elsewhere: lake" in said and "evil.yml" in said
    assert not (tmp_path / "evil").exists()


def test_the_next_command_repeats_the_profile_and_the_vars(
    seeknal: Cli, project: Path, tmp_path: Path
) -> None:
    other = tmp_path / "my profile.yml"
    profile = (project / "profiles.yml").read_text("utf-8")
    other.write_text(profile + "namespace: {prefix: alice_}\n", "utf-8")
    options = ("--profile", str(other), "--vars", '{"what": 2}')
    write(project, {"seeknal/more.yml": MORE})
    said = seeknal("env", "plan", "dev", *options).out
    assert f"Next: seeknal env apply dev --profile '{other}' --vars '{{\"what\": 2}}'" in said
    said = seeknal("env", "apply", "dev", "--profile", str(other), code=3).err
    assert '--vars changed: the plan was made with {"what": 2}' in said
    seeknal("env", "apply", "dev", *options)
