"""Random projects over the reference backend, and what happens to them over time.

A `History` makes a project from a seed, changes it and its stores step by step, and gives the
plans and the reports of what the tool does in between.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import pyarrow as pa

from seeknal_core.apply.apply import ApplyRequest, apply
from seeknal_core.apply.report import NodeOutcome, RunReport, TargetOutcome, TargetStatus
from seeknal_core.apply.run import RunRequest, run
from seeknal_core.cli.main import _run as command
from seeknal_core.contract.errors import SeeknalError
from seeknal_core.plan.builder import PlanRequest, make_plan
from seeknal_core.plan.document import Plan, save_plan
from seeknal_core.testing.memory_store import Table, changing
from seeknal_core.workspace.session import Request, Session, open_session
from support.cli import write

T = TypeVar("T")

_MODES = (
    "",
    "",
    "mode: full, ",
    "mode: append, ",
    "mode: upsert_by_key, unique_keys: [id], ",
    "mode: incremental_by_time, time_column: d, ",
)


def plain(name: str) -> str:
    """Return a table's final name without the store's quotes."""
    return name.replace('"', "")


class Quiet:
    """A reporter that says nothing."""

    def started(self, nodes: int) -> None: ...

    def node_started(self, id: str) -> None: ...

    def node_ended(self, outcome: NodeOutcome) -> None: ...

    def target_started(self, name: str) -> None: ...

    def target_ended(self, outcome: TargetOutcome) -> None: ...

    def warn(self, message: str) -> None: ...


@attrs.define(kw_only=True)
class _Node:
    """A transform: what it reads, a number that makes its rows its own, and its target."""

    name: str
    reads: list[str]
    number: int = 0
    more: int = 0
    comment: int = 0
    volatile: bool = False
    mode: str | None = None
    audit: str = ""

    @property
    def text(self) -> str:
        first, *others = self.reads
        joined = "".join(f" JOIN ref('{one}') AS r{i} USING (id)" for i, one in enumerate(others))
        value = f"a.v + {self.number}" + ("" if not others else " + r0.v")
        more = "".join(f", a.v * {i + 2} AS m{i}_{self.name}" for i in range(self.more))
        stamp = ", random() AS r" if self.volatile else ""
        note = f"-- note {self.comment}\\n  " if self.comment else ""
        sql = f"{note}SELECT a.id, a.d, {value} AS v{more}{stamp} FROM ref('{first}') AS a{joined}"
        body = sql.replace("\\n", "\n")
        text = f"kind: transform\nname: {self.name}\ntransform: |\n  {body}\n"
        if self.mode is not None:
            text += f"materialization: {{type: memory, {self.mode}table: out.{self.name}}}\n"
        return text + (f"audits:\n  - {{type: row_count, {self.audit}}}\n" if self.audit else "")


@attrs.frozen(kw_only=True)
class Told:
    """What was planned, what became of it, and which tables somebody else touched before."""

    what: str
    plan: Plan | SeeknalError
    report: RunReport | SeeknalError
    asked: bool = True
    run: bool = False
    touched: frozenset[str] = frozenset()


class History:
    """One project and its stores."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)
        #: What was done, for the message of a failure.
        self.story: list[str] = []
        self._names = 0
        self._nodes: list[_Node] = []
        self._rows = 3
        self._store_rows = 3
        self._touched: set[str] = set()
        never = self.chance.random() < 0.2
        files = {
            "seeknal_project.yml": "name: shop\n",
            "profiles.yml": "connections:\n  memory: {type: memory, path: ./store}\n",
            "seeknal/files.yml": "kind: source\nname: files\nsource: csv\ntable: data/files.csv\n",
            "seeknal/stored.yml": (
                "kind: source\nname: stored\nsource: memory\ntable: raw.stored\n"
                + ("changes: never\n" if never else "")
            ),
        }
        write(root, files)
        self._write_rows()
        self._write_store()
        for _ in range(self.chance.randint(2, 4)):
            self._add_node()

    # What may happen to a project and its stores.

    def _write_rows(self) -> None:
        lines = [f"{i},2026-01-0{1 + i % 3},{i * 10}" for i in range(self._rows)]
        write(self.root, {"data/files.csv": "\n".join(("id,d,v", *lines)) + "\n"})

    def _write_store(self) -> None:
        rows = pa.table(
            {
                "id": list(range(self._store_rows)),
                "d": [f"2026-02-0{1 + i % 3}" for i in range(self._store_rows)],
                "v": [i * 7 for i in range(self._store_rows)],
            }
        )
        with changing(self.root / "store", None) as store:
            store.make_namespaces(("raw", "stored"), None)
            store.tables["raw", "stored"] = Table(rows=rows, made=False)

    def _ids(self) -> list[str]:
        names = [f"transform.{node.name}" for node in self._nodes]
        return ["source.files", "source.stored", *names]

    def _put(self, node: _Node) -> None:
        write(self.root, {f"seeknal/{node.name}.yml": node.text})

    def _add_node(self) -> None:
        self._names += 1
        ids = self._ids()
        chance = self.chance
        node = _Node(
            name=f"n{self._names}",
            reads=chance.sample(ids, min(len(ids), chance.choice((1, 1, 2)))),
            # Two nodes with one text would share their rows, whichever comes first.
            number=self._names * 1000,
            volatile=chance.random() < 0.08,
            mode=chance.choice(_MODES) if chance.random() < 0.75 else None,
            audit="min: 1" if chance.random() < 0.2 else "",
        )
        self._nodes.append(node)
        self._put(node)

    def _remove_node(self) -> None:
        read = {id for node in self._nodes for id in node.reads}
        leaves = [node for node in self._nodes if f"transform.{node.name}" not in read]
        if len(self._nodes) > 1 and leaves:
            node = self.chance.choice(leaves)
            self._nodes.remove(node)
            (self.root / f"seeknal/{node.name}.yml").unlink()

    def _edit(self) -> None:
        node = self.chance.choice(self._nodes)
        match self.chance.randrange(6):
            case 0 | 1:
                node.number += 1
            case 2:
                node.more += 1
            case 3:
                node.comment += 1
            case 4:
                node.mode = self.chance.choice(_MODES)
            case _:
                node.audit = self.chance.choice(("", "min: 1", "min: 2", "min: 100"))
        self._put(node)

    def _edit_file(self) -> None:
        self._rows += self.chance.choice((-1, 1, 1)) if self._rows > 2 else 1
        self._write_rows()

    def _edit_store(self) -> None:
        self._store_rows += 1
        self._write_store()

    def _touch_table(self) -> None:
        """Drop a table, write rows into it, or make another one in its place."""
        with changing(self.root / "store", None) as store:
            names = sorted(name for name in store.tables if name[0] != "raw")
            if not names:
                return
            name = self.chance.choice(names)
            table = store.tables[name]
            self._touched.add(".".join(name))
            what = self.chance.randrange(3)
            if what == 0 or table.link:
                del store.tables[name]
            elif what == 1:
                store.tables[name] = Table(
                    rows=table.rows.slice(0, 1),
                    owner=table.owner,
                    made=table.made,
                    appended=table.appended,
                )
            else:
                store.tables[name] = Table(rows=table.rows, made=False)

    def happens(self) -> None:
        """Let one thing happen."""
        things: Sequence[Callable[[], None]] = (
            self._edit,
            self._edit,
            self._edit_file,
            self._edit_store,
            self._add_node,
            self._remove_node,
            self._touch_table,
            lambda: None,
        )
        thing = self.chance.choice(things)
        self.story.append(getattr(thing, "__name__", "nothing"))
        thing()

    # What the tool does about it.

    def does(self) -> list[Told]:
        """Let the tool do one thing; return what it planned and what it did."""
        match self.chance.randrange(8):
            case 0 | 1 | 2:
                return self._run()
            case 3 | 4 | 5:
                return [self._apply()]
            case 6:
                self._command("env", "promote", "dev", "--yes")
            case _:
                self._command("env", "rollback", "prod", "--yes")
        return []

    def _command(self, *words: str) -> None:
        self.story.append(" ".join(words))
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            code = command(["-C", str(self.root), *words])
        self.story.append(f"-> {code}")

    def _run(self) -> list[Told]:
        chance = self.chance
        environment = chance.choice((None, None, "dev"))
        select: tuple[str, ...] = ()
        if chance.random() < 0.3:
            select = (f"{chance.choice(('', '+'))}{chance.choice(self._nodes).name}",)
        request = Request(
            project_dir=str(self.root),
            environment=environment,
            adopt=chance.random() < 0.15,
            full_refresh=chance.random() < 0.1,
        )
        wanted = RunRequest(
            select=select,
            all_targets=chance.random() < 0.2,
            only_changed=chance.random() < 0.1,
        )
        touched = frozenset(self._touched)
        unasked = self._with(request, lambda s: make_plan(s, attrs.evolve(wanted.plan, ask=False)))
        fresh = attrs.evolve(wanted.plan, refresh_sources=chance.random() < 0.7)
        asked = self._with(request, lambda s: make_plan(s, fresh))
        report = self._with(request, lambda s: run(s, wanted, Quiet()))
        what = f"run {request} {wanted}"
        self.story.append(what)
        self._written(report)
        return [
            Told(what=what, plan=asked, report=report, run=True),
            Told(what=what, plan=unasked, report=report, run=True, asked=False, touched=touched),
        ]

    def _apply(self) -> Told:
        chance = self.chance
        environment = chance.choice(("dev", "dev", "dev", "prod"))
        request = Request(project_dir=str(self.root), environment=environment)
        wanted = PlanRequest(
            refresh_sources=chance.random() < 0.3,
            all_targets=chance.random() < 0.15,
            only_changed=chance.random() < 0.1,
        )

        def planned(session: Session) -> Plan:
            made = make_plan(session, wanted)
            save_plan(made, session.state.document_path("plans", made.environment))
            return made

        plan = self._with(request, planned)
        report = self._with(request, lambda s: apply(s, ApplyRequest(), Quiet()))
        what = f"apply {environment} {wanted}"
        self.story.append(what)
        self._written(report)
        return Told(what=what, plan=plan, report=report)

    @staticmethod
    def _with(request: Request, do: Callable[[Session], T]) -> T | SeeknalError:
        try:
            with open_session(request) as session:
                return do(session)
        except SeeknalError as error:
            return error

    def _written(self, report: RunReport | SeeknalError) -> None:
        """Forget who touched the tables that are as they should be now."""
        if isinstance(report, RunReport):
            left = (TargetStatus.REFUSED, TargetStatus.FAILED, TargetStatus.SKIPPED)
            self._touched -= {plain(t.name) for t in report.targets if t.status not in left}
