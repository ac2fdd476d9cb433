"""Nothing is stuck: every unfinished state ends while the store allows no more than reading.

The states are those of the table in ``docs/unfinished.md``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.catalog_proxy import CatalogProxy, Request, answer, changes_of, forward, path
from support.cli import Cli, Result, write
from support.rest_server import RestServer

_COMMAND = re.compile(r"seeknal env (?:promote|rollback|status)[^;()\n,]*")


class Lake:
    """A project with two tables in a catalog that is reached through a proxy."""

    def __init__(self, root: Path, server: RestServer, proxy: CatalogProxy) -> None:
        self.server, self.proxy = server, proxy
        self.root = root
        options = {**server.catalog_options(), "uri": proxy.uri}
        lake = {"type": "iceberg", "catalog": options}
        write(
            root,
            {
                "seeknal_project.yml": "name: shop\n",
                "profiles.yml": json.dumps({"connections": {"lake": lake}}),
                "data/orders.csv": "id\n1\n2\n",
                "seeknal/orders.yml": (
                    "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
                    "schema:\n  - {name: id, data_type: integer}\n"
                ),
            },
        )
        self.seeknal = Cli(cwd=root, environ={"HOME": str(root.parent / "home")}, warm=True)

    def become(self, number: int) -> None:
        """Give both tables other rows."""
        for name in ("a", "b"):
            head = f"materializations:\n  - {{type: iceberg, table: lake.sales.{name}}}\n"
            sql = f"SELECT id + {number} AS id FROM source.orders"
            write(self.root, {f"seeknal/{name}.sql": f"/* ---\n{head}--- */\n{sql}\n"})

    def ids(self) -> list[list[int]]:
        """Return the rows of production's tables, past the proxy."""
        tables = (self.server.catalog.load_table(("sales", name)) for name in ("a", "b"))
        return [sorted(table.scan().to_arrow()["id"].to_pylist()) for table in tables]

    def prepare(self) -> None:
        """Bring version 1 into production, and version 2 into dev."""
        self.become(1)
        self.seeknal("run")
        self.become(2)
        self.seeknal("run", "--env", "dev")

    def refuse(self, status: int) -> None:
        """Let the catalog refuse everything but reading."""
        self.proxy.rule(lambda request: request.method in ("POST", "DELETE"), answer(status))


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """The project with its catalog."""
    with RestServer(tmp_path / "rest") as server, CatalogProxy(server.uri) as proxy:
        yield Lake(tmp_path / "shop", server, proxy)


def _changes(table: str) -> Callable[[Request], bool]:
    """Return whether a request changes a table's rows."""
    return lambda request: (
        request.method == "POST"
        and request.path.endswith(f"/tables/{table}")
        and any("add-snapshot" in json.dumps(change) for change in changes_of(request))
    )


def half_published(lake: Lake, status: int) -> Result:
    """Stop a promotion between two tables, and let it be undone no more."""
    lake.proxy.rule(path("/transactions/commit"), answer(404))
    lake.proxy.rule(path("/tables/[ab]$", "POST"), forward, times=2)  # the tags
    lake.proxy.rule(_changes("a"), forward, times=1)
    lake.refuse(status)
    return lake.seeknal("env", "promote", "dev", code=5)


def rolling_back(lake: Lake, status: int) -> Result:
    """Begin a rollback that the catalog refuses."""
    lake.seeknal("env", "promote", "dev")
    lake.refuse(status)
    return lake.seeknal("env", "rollback", "prod", code=5)


STATES = {"half published": half_published, "rolling back": rolling_back}


def printed(said: str) -> list[list[str]]:
    """Return the commands that a message advises, those with --abort=keep last."""
    found: list[str] = []
    for match in _COMMAND.findall(said):
        command = match.strip().rstrip(".")
        found.append(command)
        if "(or --abort)" in said and command.endswith("--resume"):
            found.append(command.replace("--resume", "--abort"))
    listed = sorted(dict.fromkeys(found), key=lambda one: "keep" in one)
    return [shlex.split(one)[1:] for one in listed]


def walk(lake: Lake, stopped: Result) -> list[list[str]]:
    """Do what each message advises; return the commands that were tried."""
    tried: list[list[str]] = []
    waiting = printed(stopped.said)
    while waiting:
        command = waiting.pop(0)
        if command in tried:
            continue
        tried.append(command)
        ended: Any = lake.seeknal(*command, code=None)
        assert ended.code in (0, 3, 5), (command, ended.said)
        waiting = sorted(waiting + printed(ended.said), key=lambda one: "--abort=keep" in one)
        if ended.code == 0 and "--abort=keep" in command:
            return tried
    raise AssertionError(f"no command ended it: {tried}")


@pytest.mark.parametrize("state", STATES)
def test_an_unfinished_state_ends_though_the_store_refuses_every_change(
    lake: Lake, state: str
) -> None:
    lake.prepare()
    stopped = STATES[state](lake, 403)
    assert "--abort=keep" in stopped.said
    refused = lake.seeknal("run", code=5)
    assert "--abort=keep" in refused.said
    tried = walk(lake, stopped)
    assert len(tried) >= 2, tried
    lake.proxy.heal()
    lake.seeknal("env", "status", "prod")
    lake.become(3)
    lake.seeknal("run")
    assert lake.ids() == [[4, 5], [4, 5]]


def test_what_was_refused_is_done_once_the_store_allows_it(lake: Lake) -> None:
    lake.prepare()
    rolling_back(lake, 403)
    lake.proxy.heal()
    lake.seeknal("env", "rollback", "prod")
    assert lake.ids() == [[2, 3], [2, 3]]
    lake.become(1)
    lake.seeknal("run")
    assert lake.ids() == [[2, 3], [2, 3]]


def test_a_rollback_that_was_left_is_taken_up_again(lake: Lake) -> None:
    lake.prepare()
    rolling_back(lake, 403)
    lake.seeknal("env", "rollback", "prod", "--abort=keep")
    lake.proxy.heal()
    assert lake.ids() == [[3, 4], [3, 4]]
    lake.seeknal("env", "rollback", "prod", "--abort=keep", code=2)
    lake.seeknal("env", "rollback", "prod")
    assert lake.ids() == [[2, 3], [2, 3]]
