"""The table of promotions, walked: each command, typed in each state, does what the table says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from seeknal_core.promote.promote import STEPS, OnError
from seeknal_core.state.promotion_table import TABLE, Command, Does, State, state_of
from seeknal_core.state.promotions import Phase
from support.cli import Cli, write
from support.distributions import install

OLD, NEW, NEWER = 1, 2, 3
PROJECT = {
    "seeknal_project.yml": "name: walk\n",
    "profiles.yml": (
        "connections:\n  lake: {type: folder, path: ./lake}\n  pond: {type: folder, path: ./pond}\n"
    ),
    "data/orders.csv": "id\n1\n",
    "seeknal/orders.yml": (
        "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
        "schema:\n  - {name: id, data_type: integer}\n"
    ),
}
#: How the first promotion, or its undoing, is brought into each state that has a document.
DIES: Mapping[State, tuple[str, ...]] = {
    State.STAGING: ("promote after:stage",),
    State.VERIFIED: ("promote killed between the stores",),
    State.PUBLISHED: ("promote before:publish_unstaged",),
    State.REVERTING: ("promote after:stage", "--abort after:revert"),
    State.ROLLING_BACK: ("promote", "rollback after:revert"),
    State.LEFT: ("promote", "rollback after:revert", "rollback --abort=keep"),
    State.DONE: ("promote",),
    State.IDLE: (),
}
#: What leaves the folder and the stores as they are: such commands are typed one after another.
QUIET = (Does.REFUSE, Does.NOTHING, Does.SHOW, Does.NAME)


class Walk:
    """A project in which ``dev`` and ``qa`` are to be promoted into ``stage``."""

    def __init__(self, root: Path, site: str) -> None:
        self.root = root
        environ = {"PYTHONPATH": site, "HOME": str(root.parent / "home")}
        self.seeknal = Cli(cwd=root, environ=environ, warm=True)

    def become(self, number: int) -> None:
        """Give the tables other rows."""
        for name, lake in (("a", "lake"), ("b", "pond")):
            target = f"{{type: folder, connection: {lake}, table: sales.{name}}}"
            write(
                self.root,
                {
                    f"seeknal/{name}.sql": f"/* ---\nmaterialization: {target}\n--- */\n"
                    f"SELECT id, {number} AS version FROM source.orders\n"
                },
            )

    def prepare(self) -> None:
        """Bring version 1 into stage, version 2 into dev and qa."""
        write(self.root, PROJECT)
        self.become(OLD)
        self.seeknal("run", "--env", "stage")
        self.become(NEW)
        for name in ("dev", "qa"):
            self.seeknal("run", "--env", name)
        self.seeknal("env", "plan", "stage")

    def bring(self, how: str) -> None:
        """Do a step towards a state."""
        what, *options = how.split()
        command = ["env", "promote", "dev", "stage"]
        if what == "rollback":
            command = ["env", "rollback", "stage"]
        elif what != "promote":
            command.append(what)
        if options[:1] == ["killed"]:
            kill = {"SEEKNAL_KILL_HOOKS": "publish", "SEEKNAL_KILL_AT": "after:1"}
            self.seeknal(*command, code=-9, **kill)
        elif options[:1] == ["--abort=keep"]:
            self.seeknal(*command, *options)
        elif options:
            self.seeknal(*command, code=-9, SEEKNAL_DIES=options[0])
        else:
            self.seeknal(*command)

    def copy(self, root: Path) -> Walk:
        """Return the same project, and its stores, in another folder."""
        shutil.copytree(self.root, root)
        return Walk(root, self.seeknal.environ["PYTHONPATH"])

    @property
    def state(self) -> State:
        """The state that the documents tell."""
        folder = self.root / "target" / "state" / "promotions"
        found: list[Any] = []
        for which in ("current", "last"):
            path = folder / f"stage.{which}.json"
            found.append(json.loads(path.read_text("utf-8")) if path.exists() else None)
        return state_of(*found)

    def versions(self) -> tuple[int, ...]:
        """Return which version each of stage's tables has."""
        paths = [self.root / "lake/stage_sales/a.parquet", self.root / "pond/stage_sales/b.parquet"]
        return tuple(pq.read_table(path)["version"][0].as_py() for path in paths)


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[State], Walk]:
    """Give projects by state; each is made once."""
    folder = tmp_path_factory.mktemp("walk")
    support = Path(__file__).parents[1] / "support"
    for name, group in (("folder", "backends"), ("dying", "plugins"), ("killer", "plugins")):
        module = f"seeknal_{name}"
        site = install(
            folder / "site",
            distribution=f"seeknal-{name}",
            module=module,
            source=(support / f"{module}.py").read_text("utf-8"),
            entry_points={f"seeknal.{group}": {name: module}},
        )
    # The copies lie at one place in turn, so that connections lead where they led.
    stands = folder / "project"
    begun = Walk(stands, str(site))
    begun.prepare()
    kept: dict[State, Path] = {State.IDLE: folder / State.IDLE.name}
    begun.copy(kept[State.IDLE])

    def restore(source: Path) -> Walk:
        shutil.rmtree(stands)
        shutil.copytree(source, stands)
        return begun

    def give(state: State) -> Walk:
        if state not in kept:
            walk = restore(kept[State.IDLE])
            for how in DIES[state]:
                walk.bring(how)
            assert walk.state is state
            walk.copy(folder / state.name)
            kept[state] = folder / state.name
        return restore(kept[state])

    return give


def typed(command: Command) -> list[str]:
    """Return a command of the table as it is typed in the project."""
    return [*command.value.split(), *(["--yes"] if command is Command.DELETE else [])]


def rows_after(does: Does, state: State, before: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the versions of the tables after a command; None where any will do."""
    if does is Does.BEGIN and state is not State.IDLE:
        return (NEWER, NEWER)
    if does in (Does.BEGIN, Does.BEGIN_AGAIN, Does.PUBLISH, Does.FINISH):
        return (NEW, NEW)
    if does in (Does.UNDO, Does.OVERWRITE, Does.ROLL_BACK):
        return (OLD, OLD)
    return None if does in (Does.WORK, Does.DELETE) else before


def meet(walk: Walk, command: Command, state: State) -> None:
    """Type a command in a state, and hold it to the table."""
    does = TABLE[command][state]
    if does is Does.BEGIN and state is not State.IDLE:
        # What is there already is not promoted again.
        walk.become(NEWER)
        walk.seeknal("run", "--env", "qa" if command is Command.ANOTHER else "dev")
    before = walk.versions()
    result = walk.seeknal(*typed(command), code=does.exit_code)
    after = does.leads_to or (state if does is not Does.LEAVE else None)
    if does is Does.LEAVE:
        after = State.LEFT if state is State.ROLLING_BACK else State.IDLE
    assert walk.state is after, (command, result.said)
    if does in (Does.REFUSE, Does.NAME):
        assert "unfinished" in result.said
        way_out = "--resume" if command is Command.RECOVER else "--abort=keep"
        assert way_out in result.said or state is State.ROLLING_BACK, result.said
    wanted = rows_after(does, state, before)
    assert wanted is None or wanted == walk.versions(), (command, result.said)


@pytest.mark.parametrize("state", State, ids=lambda state: state.name.lower())
def test_each_command_does_in_each_state_what_the_table_says(
    walks: Callable[[State], Walk], state: State
) -> None:
    walk = walks(state)
    changing = [command for command in Command if TABLE[command][state] not in QUIET]
    for command in Command:
        if command not in changing:
            meet(walk, command, state)
    for number, command in enumerate(changing):
        meet(walks(state) if number else walk, command, state)


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(Command)
    for command, row in TABLE.items():
        assert set(row) == set(State), command


@pytest.mark.parametrize(
    "step", [step for step in STEPS if step.at], ids=lambda step: step.does.__name__
)
def test_a_promotion_that_dies_at_a_step_is_gone_on_with_or_undone(
    walks: Callable[[State], Walk], step: Any
) -> None:
    phases = {Phase.STAGING: State.STAGING, Phase.VERIFIED: State.VERIFIED}
    for again, rows in (((), NEW), (("--abort",), OLD)):
        walk = walks(State.IDLE)
        walk.seeknal(
            "env", "promote", "dev", "stage", code=-9, SEEKNAL_DIES=f"after:{step.does.__name__}"
        )
        if step is STEPS[-1]:
            # Nothing is left to be done, or undone but by a rollback.
            assert walk.state is State.DONE
            return
        assert walk.state is phases.get(step.at, State.PUBLISHED)
        walk.seeknal("env", "promote", "dev", "stage", *again)
        assert walk.versions() == (rows, rows)
        assert not walk.state.is_unfinished


def test_every_phase_is_entered_before_its_steps_and_never_left_backwards() -> None:
    phases = list(dict.fromkeys(step.at for step in STEPS))
    assert phases == [None, Phase.STAGING, Phase.VERIFIED, Phase.PUBLISHED]
    assert [step.at for step in STEPS] == sorted(
        (step.at for step in STEPS), key=lambda phase: phases.index(phase)
    )
    for step in STEPS:
        if step.at is None:
            assert step.on_error is OnError.STOP
        if step.at is Phase.PUBLISHED:
            assert step.on_error is OnError.GO_ON
