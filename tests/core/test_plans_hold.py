"""What a plan says is what is done: of each node and each target, in random histories.

``SEEKNAL_PLAN_HISTORIES`` sets how many histories there are, ``SEEKNAL_PLAN_SEED`` the first.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seeknal_core.apply.report import NodeStatus, RunReport, TargetStatus
from seeknal_core.contract.errors import SeeknalError
from seeknal_core.plan.decide import Action, Writing
from support.distributions import install
from support.histories import History, Told, plain

HISTORIES = int(os.environ.get("SEEKNAL_PLAN_HISTORIES", "30"))
FIRST = int(os.environ.get("SEEKNAL_PLAN_SEED", "0"))
STEPS = 5

#: A node or a target that failed, or whose inputs did, was going to be worked on.
_BAD = {NodeStatus.FAILED, NodeStatus.SKIPPED}
_BAD_TARGET = {TargetStatus.FAILED, TargetStatus.SKIPPED}

#: What may become of a node, by what is planned; None: it isn't in the report.
NODES: dict[Action, set[NodeStatus | None]] = {
    Action.COMPUTE: {NodeStatus.COMPUTED, *_BAD},
    Action.CHECK: {NodeStatus.REUSED, *_BAD},
    Action.REUSE: {NodeStatus.REUSED, None},
    Action.READ: {NodeStatus.COMPUTED, NodeStatus.REUSED, *_BAD},
    Action.DEPENDS: {NodeStatus.COMPUTED, NodeStatus.REUSED, *_BAD},
    Action.NONE: {None},
}
TARGETS: dict[Writing, set[TargetStatus | None]] = {
    Writing.WRITE: {TargetStatus.WRITTEN, *_BAD_TARGET},
    Writing.DEPENDS: {*TargetStatus} - {TargetStatus.REFUSED},
    Writing.KEEP: {TargetStatus.CURRENT, TargetStatus.SKIPPED, None},
    # The reference backend can't take a table over.
    Writing.ADOPT: {TargetStatus.ADOPTED, *_BAD_TARGET},
    Writing.SHARED: {
        TargetStatus.LINKED,
        TargetStatus.COPIED,
        TargetStatus.LEFT_OUT,
        *_BAD_TARGET,
    },
    Writing.LINK: {TargetStatus.LINKED, *_BAD_TARGET},
    Writing.COPY: {TargetStatus.COPIED, *_BAD_TARGET},
    Writing.LEFT_OUT: {TargetStatus.LEFT_OUT, TargetStatus.SKIPPED, None},
    Writing.REFUSED: {TargetStatus.REFUSED, TargetStatus.SKIPPED},
    Writing.UNLOOKED: {TargetStatus.CURRENT, TargetStatus.SKIPPED},
    Writing.GONE: {None},
    Writing.DROP: {None},
}


@pytest.fixture
def history(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    site = install(
        tmp_path / "site",
        distribution="seeknal-memory",
        module="seeknal_memory",
        source="from seeknal_core.testing.memory import backend\n",
        entry_points={"seeknal.backends": {"memory": "seeknal_memory:backend"}},
    )
    patch.syspath_prepend(str(site))
    patch.setenv("HOME", str(tmp_path / "home"))
    return History(tmp_path / "shop", request.param)


@pytest.mark.parametrize("history", range(FIRST, FIRST + HISTORIES), indirect=True)
def test_what_a_plan_says_is_what_is_done(history: History) -> None:
    for _ in range(STEPS):
        for told in history.does():
            wrong = broken(told)
            assert not wrong, "\n".join((*history.story, *wrong))
        history.happens()
        history.happens()


def broken(told: Told) -> list[str]:
    """Return what a plan said that was not done, or the other way round."""
    plan, report = told.plan, told.report
    if isinstance(plan, SeeknalError) or isinstance(report, SeeknalError):
        # Without the stores nobody knows what they refuse.
        both = isinstance(plan, SeeknalError) and isinstance(report, SeeknalError)
        return [] if both or not told.asked else [f"{told.what}: {plan!r}, {report!r}"]
    return [*_broken_nodes(told, report), *_broken_targets(told, report)]


def _broken_nodes(told: Told, report: RunReport) -> list[str]:
    assert not isinstance(told.plan, SeeknalError)
    steps = {step.id: step for step in told.plan.nodes}
    ended = {node.id: node for node in report.nodes}
    wrong = [f"{id} is not in the plan" for id in ended.keys() - steps.keys()]
    for id, step in steps.items():
        status = ended[id].status if id in ended else None
        allowed = set(NODES[step.action])
        if step.action is Action.READ and step.content_key:
            allowed.discard(NodeStatus.REUSED)
        if step.action is Action.REUSE and told.run:
            # A run looks at each node of its own; what failed above takes it along.
            allowed = {NodeStatus.REUSED, NodeStatus.SKIPPED}
        if status not in allowed:
            wrong.append(f"{told.what}: {step} was {ended.get(id)}")
    return wrong


def _broken_targets(told: Told, report: RunReport) -> list[str]:
    assert not isinstance(told.plan, SeeknalError)
    steps = {step.key: step for step in told.plan.targets}
    ended = {target.key: target for target in report.targets}
    wrong = [f"{key} is not in the plan" for key in ended.keys() - steps.keys()]
    for key, step in steps.items():
        status = ended[key].status if key in ended else None
        allowed = set(TARGETS[step.writing])
        if told.run and step.writing is not Writing.GONE:
            allowed.discard(None)
        if plain(step.name) in told.touched:
            # What nobody looked at may be written, or be the user's to decide about.
            allowed |= set(TargetStatus)
        if status not in allowed:
            wrong.append(f"{told.what}: {step} was {ended.get(key)}")
    return wrong
