"""Day by day with a graph: 300 models in 10 layers, each with one small PostgreSQL table.

Seeknal, SQLMesh and dbt take the same steps with the same project, each in a folder and a
database of its own on one server, every command a whole process. `bench/README.md` says what
stands for a step in each tool.

    python -m bench graph [--rounds 3] [--models 300] [--no-peers] [--json FILE] [--check]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from bench import peers, stores
from bench.graph_peers import (
    write_dbt,
    write_dbt_model,
    write_sqlmesh,
    write_sqlmesh_model,
)
from bench.graph_project import model_names, parents_of, write_model, write_project
from bench.measure import (
    Figures,
    Measured,
    Missing,
    Outcome,
    Wanted,
    attempt,
    compile_code,
    parser,
    run,
    seeknal,
    tell,
    told,
    turns,
)

VERSION = "`--version`"
FULL = "full run into production"
PLAN = "plan, no change"
NOTHING = "run, nothing to do"
LEAF = "one leaf changed: plan and apply in a new dev"
LEAF_PROMOTED = "promote that leaf"
MANY = "60 models changed: plan and apply in dev"
MANY_PROMOTED = "promote those 60"

#: For 300 models, on two cores.
WANTED = {
    VERSION: Wanted(seconds=0.2, peak_mb=40),
    FULL: Wanted(seconds=5, peak_mb=200),
    PLAN: Wanted(seconds=0.7, peak_mb=80),
    NOTHING: Wanted(seconds=0.7, peak_mb=80),
    LEAF: Wanted(seconds=1.5),
    LEAF_PROMOTED: Wanted(seconds=1.5),
    MANY: Wanted(seconds=3),
    MANY_PROMOTED: Wanted(seconds=3),
}


class Tool(ABC):
    """One tool with a project and a database of its own."""

    name: str

    def __init__(self, root: Path, connection: dict[str, Any], models: int) -> None:
        self.root = root
        self.connection = connection
        self.parents = parents_of(models)
        self.prepare(models)

    @abstractmethod
    def prepare(self, models: int) -> None:
        """Write the project."""

    @abstractmethod
    def change(self, names: Collection[str], constant: int) -> None:
        """Give models another constant."""

    @abstractmethod
    def step(self, name: str) -> Measured:
        """Take a step."""


class Seeknal(Tool):
    """This project."""

    name = "seeknal"

    def prepare(self, models: int) -> None:
        """Write the project."""
        write_project(self.root, models, self.connection)

    def change(self, names: Collection[str], constant: int) -> None:
        """Give models another constant."""
        for name in names:
            write_model(self.root, name, self.parents[name], constant)

    def step(self, name: str) -> Measured:
        """Take a step."""
        if name == VERSION:
            return seeknal(self.root, "--version")
        if name in (FULL, NOTHING):
            return seeknal(self.root, "run")
        if name == PLAN:
            return seeknal(self.root, "env", "plan", "prod")
        if name in (LEAF, MANY):
            return seeknal(self.root, "env", "plan", "dev") + seeknal(
                self.root, "env", "apply", "dev"
            )
        return seeknal(self.root, "env", "promote", "dev", "--yes")


class Peer(Tool):
    """Another tool in its environment."""

    installed: peers.Installed


class SqlMesh(Peer):
    """SQLMesh: a plan of ``dev`` makes views and the changed tables; one of ``prod`` promotes."""

    name = "SQLMesh"

    def prepare(self, models: int) -> None:
        """Write the project."""
        write_sqlmesh(self.root, models, self.connection)

    def change(self, names: Collection[str], constant: int) -> None:
        """Give models another constant."""
        for name in names:
            write_sqlmesh_model(self.root, name, self.parents[name], constant)

    def step(self, name: str) -> Measured:
        """Take a step."""
        go = ("--auto-apply", "--no-prompts")
        if name == VERSION:
            return self._run("--version")
        if name == NOTHING:
            return self._run("run")
        if name == PLAN:
            return self._run("plan", "--no-prompts")
        if name in (LEAF, MANY):
            return self._run("plan", "dev", *go)
        return self._run("plan", *go)

    def _run(self, *arguments: str) -> Measured:
        command = [self.installed.program("sqlmesh"), *arguments]
        env = {"HOME": str(self.root), "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "true"}
        return run(command, cwd=self.root, env=env)


class Dbt(Peer):
    """dbt: production's manifest is kept beside, as `state:modified` and `--defer` want it."""

    name = "dbt"

    def prepare(self, models: int) -> None:
        """Write the project."""
        write_dbt(self.root, models, self.connection)

    def change(self, names: Collection[str], constant: int) -> None:
        """Give models another constant."""
        for name in names:
            write_dbt_model(self.root, name, self.parents[name], constant)

    def step(self, name: str) -> Measured:
        """Take a step."""
        changed = ("--select", "state:modified+", "--state", "state")
        if name == VERSION:
            return self._run("--version")
        if name == FULL:
            return self._kept(self._run("build", "--target", "prod"))
        if name == PLAN:
            return self._run("ls", *changed, "--target", "prod")
        if name == NOTHING:
            return self._run("run", *changed, "--target", "prod")
        if name in (LEAF, MANY):
            planned = self._run("ls", *changed, "--target", "dev")
            return planned + self._run("build", *changed, "--defer", "--target", "dev")
        return self._kept(self._run("build", *changed, "--target", "prod"))

    def _kept(self, found: Measured) -> Measured:
        (self.root / "state").mkdir(exist_ok=True)
        shutil.copy(self.root / "target" / "manifest.json", self.root / "state")
        return found

    def _run(self, *arguments: str) -> Measured:
        command = [self.installed.program("dbt"), *arguments]
        env = {"HOME": str(self.root), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
        return run(command, cwd=self.root, env=env)


PEERS: dict[type[Peer], peers.Peer] = {SqlMesh: peers.SQLMESH, Dbt: peers.DBT}


def take(tool: Tool, step: str) -> Outcome:
    """Take a step; a peer that fails is told of, our own failure ends the benchmark."""
    return attempt(partial(tool.step, step)) if isinstance(tool, Peer) else tool.step(step)


def one_round(
    figures: Figures,
    server: stores.Server,
    number: int,
    models: int,
    installed: dict[type[Peer], peers.Installed],
) -> None:
    """Take all steps once, from nothing."""
    leaf = [model_names(models)[-1][0]]
    many = [name for layer in model_names(models)[-2:] for name in layer]
    with tempfile.TemporaryDirectory(prefix="seeknal-bench-graph-") as folder:
        databases = []
        tools: dict[str, Tool] = {}
        kinds: list[type[Tool]] = [Seeknal, *installed]
        for kind in kinds:
            databases.append(server.database())
            root = Path(folder, kind.name)
            root.mkdir()
            made = kind(root, stores.connection(databases[-1]), models)
            if isinstance(made, Peer):
                made.installed = installed[type(made)]
            tools[kind.name] = made
        for step in WANTED:
            for name in turns(list(tools), number):
                if step == LEAF:
                    tools[name].change(leaf, 2)
                elif step == MANY:
                    tools[name].change(many, 3)
                server.settle()
                found = take(tools[name], step)
                figures.add(step, name, found)
                tell(f"{number + 1}. {name}: {step}: {told(found)}")
        compare({name: _sums(base, many) for name, base in zip(tools, databases, strict=True)})
        for database in databases:
            server.drop(database)


def _sums(database: dict[str, Any], models: Collection[str]) -> list[int]:
    """Return what production's readers find in these models."""
    import psycopg

    with psycopg.connect(stores.conninfo(database)) as reading:
        rows = [reading.execute(f"SELECT sum(val) FROM bench.{m}").fetchone() for m in models]
    return [int(row[0]) for row in rows if row is not None]


def compare(found: dict[str, list[int]]) -> None:
    """End the benchmark where two tools did not do the same work."""
    for name, sums in found.items():
        if sums != found[Seeknal.name]:
            raise SystemExit(f"{name} holds other rows than {Seeknal.name}: {sums[:3]}")


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, rounds=3)
    options.add_argument("--models", type=int, default=300)
    options.add_argument("--dsn", help="a PostgreSQL server to use, as its superuser")
    given = options.parse_args()
    figures = Figures("graph")
    figures.options = {"rounds": given.rounds, "models": given.models}
    if given.models == 300:
        figures.wanted = dict(WANTED)
    installed: dict[type[Peer], peers.Installed] = {}
    older: peers.Installed | None = None
    if not given.no_peers:
        for kind, peer in PEERS.items():
            found = peers.install(peer, given.peers_dir)
            if isinstance(found, Missing):
                for step in WANTED:
                    figures.add(step, kind.name, found)
            else:
                installed[kind] = found
            figures.versions[kind.name] = peer.version
        found = peers.install(peers.OLDER, given.peers_dir)
        if isinstance(found, Missing):
            figures.add(VERSION, peers.OLDER.name, found)
        else:
            older = found
        figures.versions[peers.OLDER.name] = peers.OLDER.version
    compile_code()
    with stores.server(given.dsn) as server:
        figures.versions["postgresql"] = server.version()
        for number in range(given.rounds):
            if older is not None:
                asked = partial(run, [older.program("seeknal"), "--version"])
                figures.add(VERSION, peers.OLDER.name, attempt(asked))
            one_round(figures, server, number, given.models, installed)
    return figures.finish(given)


if __name__ == "__main__":
    sys.exit(main())
