"""The states of ``docs/unfinished.md``, each brought about in a project and walked out of.

A walk is a row of that page: it makes the state, lets stores refuse what the row says, types
each command that a message prints, and looks at what has become of the tables. `WALKS` holds
one for every row, by the row's first two cells.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence

import attrs

from support.catalog_proxy import Request, answer, changes_of, drop, forward, path
from support.cli import Result
from support.unfinished import Catalog, Project, said_and

_COMMAND = re.compile(r"seeknal (?:env (?:promote|rollback|status)|gc|state recover)[^;()\n,]*")
PROMOTE = ("env", "promote", "dev", "prod")
ROLLBACK = ("env", "rollback", "prod")

#: By store, how it refuses.
How = Mapping[str, str]


def printed(said: str) -> list[tuple[str, ...]]:
    """Return the commands that a message advises, those with --abort=keep last."""
    found: list[str] = []
    for match in _COMMAND.findall(said):
        command = match.strip().rstrip(".")
        found.append(command)
        if "(or --abort)" in said and command.endswith("--resume"):
            found.append(command.replace("--resume", "--abort"))
    listed = sorted(dict.fromkeys(found), key=lambda one: "keep" in one)
    return [tuple(shlex.split(one)[1:]) for one in listed]


def exhaust(project: Project, stopped: Result) -> list[tuple[str, ...]]:
    """Type what each message prints while no store obliges, until one command ends it.

    Returns:
        The commands that were typed.
    """
    typed: list[tuple[str, ...]] = []
    waiting = printed(stopped.said)
    while waiting:
        command = waiting.pop(0)
        if command in typed:
            continue
        typed.append(command)
        ended = project.seeknal(*command, code=None)
        if "--abort=keep" in command:
            assert ended.code == 0, (command, ended.said)
            assert ("env", "status", "prod") in printed(ended.said), ended.said
            return typed
        assert ended.code in (3, 5), (command, ended.said)
        if ended.code == 5:
            assert any("--abort=keep" in one for one in printed(ended.said)), ended.said
        waiting = sorted(waiting + printed(ended.said), key=lambda one: "--abort=keep" in one)
    raise AssertionError(f"no command ended it: {typed}")


def is_stuck_no_more(project: Project, number: int) -> None:
    """Check that a run writes what is wanted; thoroughly, that promotion and rollback work."""
    project.heal()
    assert "unfinished" not in project.seeknal("env", "status", "prod").said
    project.become(number)
    project.seeknal("run")
    project.expect(number)
    if not project.thorough:
        return
    assert "0 drifted" in project.seeknal("env", "status", "prod", "--exit-code").said
    project.become(number + 1)
    project.seeknal("run", "--env", "dev")
    project.seeknal("env", "promote", "dev")
    project.expect(number + 1)
    project.seeknal("env", "rollback", "prod")
    project.expect(number)


def stop_between(project: Project) -> None:
    """Stop a promotion when the first store has published, and the second, if any, has not."""
    project.prepare()
    project.killed("env", "promote", "dev", hook="publish", at="after:1")


def begin_rollback(project: Project, how: How) -> Result:
    """Begin a rollback that stores refuse."""
    project.prepare()
    project.seeknal("env", "promote", "dev")
    project.refuse(how)
    return said_and(project.seeknal(*ROLLBACK, code=5), "--abort=keep")


def tags(project: Project) -> list[str]:
    """Return all references of production's Iceberg tables but main."""
    return [name for name in _lake(project).references() if name != "main"]


def _lake(project: Project) -> Catalog:
    lake = project.stores["lake"]
    assert isinstance(lake, Catalog)
    return lake


def _removes_reference(request: Request) -> bool:
    return any(
        update["action"] in ("remove-snapshot-ref", "remove-snapshots")
        for change in changes_of(request)
        for update in change["updates"]  # type: ignore[attr-defined]
    )


# The rows.


def stopped_publishing(project: Project, how: How) -> None:
    stop_between(project)
    project.refuse(how)
    stopped = said_and(project.seeknal(*PROMOTE, code=5), "in the middle of publishing")
    for command in (("run",), ("env", "status", "prod")):
        assert "--abort=keep" in project.seeknal(*command, code=5).said
    seen = project.seen()
    typed = exhaust(project, stopped)
    assert {(*PROMOTE, "--resume"), (*PROMOTE, "--abort")} <= set(typed)
    assert project.seen() == seen
    is_stuck_no_more(project, 3)


def stopped_publishing_and_back(project: Project, how: How) -> None:
    for command, number in (("--abort", 1), ("--resume", 2)):
        if command == "--abort":
            stop_between(project)
        else:
            project.killed("env", "promote", "dev", hook="publish", at="after:1")
        project.refuse(how)
        project.seeknal(*PROMOTE, code=5)
        project.heal()
        project.seeknal(*PROMOTE, command)
        project.expect(number)


def half_published(project: Project, how: How) -> None:
    stop_between(project)
    project.refuse(how)
    stopped = said_and(project.seeknal(*PROMOTE, "--abort", code=5), "undoing stopped there")
    seen = project.seen()
    typed = exhaust(project, stopped)
    assert (*PROMOTE, "--resume") in typed
    assert project.seen() == seen
    drifted = any(tables["a"] == [3, 4] for tables in seen.values())
    project.heal()
    said = project.seeknal("env", "status", "prod", "--exit-code", code=3 if drifted else 0).said
    assert ("not recorded" in said) == drifted
    # The folder goes back to what production has recorded: that is what a run leaves.
    project.become(1)
    project.seeknal("run")
    project.expect(1, left=seen)
    is_stuck_no_more(project, 3)


def half_published_in_flight(project: Project, how: How) -> None:
    project.prepare()
    proxy = _lake(project).proxy
    proxy.rule(path("/transactions/commit"), answer(404))
    proxy.rule(path("/tables$", "POST"), forward)
    proxy.rule(path("/tables/fresh$", "POST"), forward)
    proxy.rule(path("/tables/[ab]$", "POST"), forward, times=2)  # the tags
    proxy.rule(_adds_rows("a"), forward, times=1)
    project.refuse(how)
    stopped = project.seeknal("env", "promote", "dev", code=5)
    exhaust(project, stopped)
    is_stuck_no_more(project, 3)


def _adds_rows(table: str) -> Callable[[Request], bool]:
    return lambda request: (
        request.method == "POST"
        and request.path.endswith(f"/tables/{table}")
        and any("add-snapshot" in json.dumps(change) for change in changes_of(request))
    )


def half_published_allowed(project: Project, how: How) -> None:
    stop_between(project)
    project.refuse(how)
    project.seeknal(*PROMOTE, "--abort", code=5)
    project.heal()
    project.seeknal(*PROMOTE, "--abort")
    project.expect(1)


def half_published_and_written(project: Project, how: How) -> None:
    first = next(iter(project.stores.values()))
    for answer_, rows in (("keep", [3, 4, 99]), ("overwrite", [2, 3])):
        project.prepare()
        before = project.seen()
        project.killed("env", "promote", "dev", hook="publish", at="after:1")
        first.overwrite("a")
        stopped = project.seeknal(*PROMOTE, "--abort", code=5)
        said_and(stopped, "since it was published", "then", "now")
        command = (*PROMOTE, f"--abort={answer_}")
        assert command in printed(stopped.said)
        project.seeknal(*command)
        assert sorted(first.ids("a") or []) == rows
    project.expect(1, left=before)


def undone_promotion(project: Project, how: How) -> None:
    project.prepare()
    project.killed("env", "promote", "dev", hook="publish", at="after:1")
    lake = _lake(project)
    lake.proxy.rule(_removes_reference, answer(int(how["lake"])))
    said = project.seeknal(*PROMOTE, "--abort").said
    assert "does no harm" in said and "seeknal gc" in said
    project.expect(1)
    assert tags(project)
    project.seeknal("gc")
    lake.heal()
    project.seeknal("gc")
    assert tags(project) == []
    is_stuck_no_more(project, 3)


def undone_and_stage_kept(project: Project, how: How) -> None:
    project.prepare()
    project.killed("env", "promote", "dev", hook="publish", at="before:1")
    warehouse = project.stores["warehouse"]
    warehouse.take_stage()
    said = project.seeknal(*PROMOTE, "--abort").said
    assert "goes with the next" in said and "seeknal gc" in said
    project.expect(1)
    assert "must be owner" in project.seeknal("gc").said
    assert warehouse.staged()
    project.heal()
    project.seeknal("gc")
    assert warehouse.staged() == []
    is_stuck_no_more(project, 3)


def stopped_staging(project: Project, how: How) -> None:
    project.prepare()
    project.killed("env", "promote", "dev", hook="stage,stage_targets", at="after:1")
    project.refuse(how)
    stopped = said_and(project.seeknal("env", "promote", "dev", code=5), "undoing stopped there")
    exhaust(project, stopped)
    project.heal()
    project.expect(1)
    is_stuck_no_more(project, 3)


def elsewhere(project: Project, how: How) -> None:
    stop_between(project)
    profile = (project.root / "profiles.yml").read_text("utf-8")
    for store in project.stores.values():
        profile = profile.replace(*store.elsewhere())
    (project.root / "profiles.yml").write_text(profile, "utf-8")
    stopped = said_and(project.seeknal(*PROMOTE, "--abort", code=5), "leads", "elsewhere")
    exhaust(project, stopped)


def rolling_back(project: Project, how: How) -> None:
    stopped = begin_rollback(project, how)
    assert "--abort=keep" in project.seeknal("run", code=5).said
    assert ROLLBACK in exhaust(project, stopped)
    assert "unfinished" not in project.seeknal("env", "status", "prod", code=None).said
    project.seeknal(*ROLLBACK, code=5)
    project.heal()
    project.seeknal(*ROLLBACK)
    project.expect(1)
    is_stuck_no_more(project, 3)


def rolling_back_and_left(project: Project, how: How) -> None:
    exhaust(project, begin_rollback(project, how))
    project.heal()
    # Version 2 is what production has recorded, and what the folder says.
    project.seeknal("run")
    project.expect(2)
    is_stuck_no_more(project, 3)


def rolling_back_and_written(project: Project, how: How) -> None:
    begin_rollback(project, how)
    project.heal()
    name = next(iter(how))
    project.stores[name].overwrite("a")
    stopped = project.seeknal(*ROLLBACK, code=5)
    said_and(stopped, "since it was published", "now")
    assert {(*ROLLBACK, "--abort=keep"), (*ROLLBACK, "--abort=overwrite")} <= set(
        printed(stopped.said)
    )
    project.seeknal(*ROLLBACK, "--abort=keep")
    assert project.stores[name].ids("a") == [3, 4, 99]
    stopped = project.seeknal(*ROLLBACK, code=5)
    project.seeknal(*ROLLBACK, "--abort=overwrite")
    project.expect(1)


def not_begun(project: Project, how: How) -> None:
    project.prepare()
    project.seeknal("env", "promote", "dev")
    project.refuse(how)
    for command in (ROLLBACK, (*ROLLBACK, "--abort=overwrite")):
        project.seeknal(*command, code=1)
    project.seeknal(*ROLLBACK, "--abort=keep", code=2)
    project.heal()
    assert "0 drifted" in project.seeknal("env", "status", "prod").said
    project.seeknal(*ROLLBACK)
    project.expect(1)


def rolled_back(project: Project, how: How) -> None:
    project.prepare()
    project.seeknal("env", "promote", "dev")
    _lake(project).proxy.rule(_removes_reference, answer(int(how["lake"])))
    assert "does no harm" in project.seeknal(*ROLLBACK).said
    project.expect(1)
    assert "0 drifted" in project.seeknal("env", "status", "prod", "--exit-code").said
    is_stuck_no_more(project, 3)


def purge_refused(project: Project, how: How) -> None:
    project.prepare()
    lake = _lake(project)
    lake.proxy.rule(path("purgeRequested=[Tt]rue", "DELETE"), answer(int(how["lake"])))
    said = project.seeknal("env", "delete", "dev", "--yes").said
    assert "Seeknal deleted the" in said, said
    assert lake.ids("a", "dev_") is None
    assert lake.data_files("dev_") == []
    is_stuck_no_more(project, 3)


def namespace_kept(project: Project, how: How) -> None:
    project.prepare()
    lake = _lake(project)
    lake.proxy.rule(path("/namespaces/[^/]+$", "DELETE"), answer(int(how["lake"])))
    said = project.seeknal("env", "delete", "dev", "--yes").said
    assert "stays" in said or "keeps" in said, said
    assert lake.ids("a", "dev_") is None
    is_stuck_no_more(project, 3)


def never_answered(project: Project, how: How) -> None:
    project.become(1)
    lake = _lake(project)
    lake.proxy.rule(path("/tables/a$", "POST"), drop(landed=False))
    project.seeknal("run", code=1)
    said = project.seeknal("gc").said
    assert re.search(r"stays: .*\d{4}-\d\d-\d\d|stays: .*until", said), said
    lake.heal()
    project.seeknal("run")
    project.expect(1)
    is_stuck_no_more(project, 3)


def run_was_killed(project: Project, how: How) -> None:
    project.become(1)
    project.seeknal("run")
    project.become(2)
    project.killed("run", hook="materialize,materialize_targets", at="before:2")
    left = project.seen()
    project.become(1)
    said = project.seeknal("env", "status", "prod").said
    assert ("not recorded" in said) == any([3, 4] in (t["a"], t["b"]) for t in left.values())
    project.seeknal("run")
    project.expect(1, left=left)
    assert "0 drifted" in project.seeknal("env", "status", "prod", "--exit-code").said
    is_stuck_no_more(project, 3)


@attrs.frozen(kw_only=True)
class Row:
    """How a row of the page is walked.

    Attributes:
        walks: each with the stores that it needs and how they refuse: in the default run.
        more: further ones, for ``tox -e public-cases``.
    """

    walks: Sequence[tuple[Callable[[Project, How], None], Sequence[str], How]]
    more: Sequence[tuple[Callable[[Project, How], None], Sequence[str], How]] = ()


LAKE, WAREHOUSE, BOTH = ("lake",), ("warehouse",), ("lake", "warehouse")
_REFUSALS = [{"lake": status} for status in ("403", "400", "500")]

#: By the first two cells of a row of the page.
WALKS: Mapping[tuple[str, str], Row] = {
    ("a promotion stopped while it staged", "to undo it, or it does not answer"): Row(
        walks=[(stopped_staging, WAREHOUSE, {"warehouse": "rights"})],
        more=[
            (stopped_staging, WAREHOUSE, {"warehouse": "gone"}),
            (stopped_staging, LAKE, {"lake": "gone"}),
            (stopped_staging, BOTH, {"lake": "gone", "warehouse": "read-only"}),
        ],
    ),
    ("a promotion stopped while it published", "it does not answer"): Row(
        walks=[(stopped_publishing, WAREHOUSE, {"warehouse": "gone"})],
        more=[
            (stopped_publishing, WAREHOUSE, {"warehouse": "silent"}),
            (stopped_publishing, LAKE, {"lake": "gone"}),
            (stopped_publishing, LAKE, {"lake": "silent"}),
            (stopped_publishing, BOTH, {"lake": "gone"}),
            (stopped_publishing, BOTH, {"warehouse": "gone"}),
            (stopped_publishing, BOTH, {"lake": "gone", "warehouse": "gone"}),
            (stopped_publishing_and_back, BOTH, {"warehouse": "gone"}),
            (stopped_publishing_and_back, BOTH, {"lake": "gone"}),
            (stopped_publishing_and_back, WAREHOUSE, {"warehouse": "gone"}),
        ],
    ),
    ("a promotion is half published", "to take it back (403, 400, 500, a right that is lost)"): Row(
        walks=[(half_published, BOTH, {"lake": "403"})],
        more=[
            *((half_published, BOTH, how) for how in _REFUSALS[1:]),
            *((half_published, LAKE, how) for how in _REFUSALS),
            *((half_published_in_flight, LAKE, how) for how in _REFUSALS),
            (half_published, BOTH, {"warehouse": "rights"}),
            (half_published, BOTH, {"warehouse": "read-only"}),
            (half_published, BOTH, {"lake": "500", "warehouse": "rights"}),
            (half_published, WAREHOUSE, {"warehouse": "rights"}),
            (half_published, WAREHOUSE, {"warehouse": "read-only"}),
            (half_published_allowed, BOTH, {"lake": "403"}),
            (half_published_allowed, BOTH, {"warehouse": "rights"}),
            (half_published_allowed, WAREHOUSE, {"warehouse": "read-only"}),
        ],
    ),
    ("a promotion is half published", "nothing, but somebody wrote one of its tables"): Row(
        walks=[(half_published_and_written, LAKE, {})],
        more=[
            (half_published_and_written, WAREHOUSE, {}),
            (half_published_and_written, BOTH, {}),
        ],
    ),
    ("a promotion is unfinished", "nothing, but the profile leads elsewhere by now"): Row(
        walks=[(elsewhere, WAREHOUSE, {})],
        more=[(elsewhere, LAKE, {}), (elsewhere, BOTH, {})],
    ),
    ("a promotion is undone", "to delete what was staged, to remove a tag"): Row(
        walks=[
            (undone_promotion, LAKE, {"lake": "403"}),
            (undone_and_stage_kept, WAREHOUSE, {"warehouse": "stage"}),
        ],
        more=[
            (undone_promotion, LAKE, {"lake": "400"}),
            (undone_promotion, LAKE, {"lake": "500"}),
        ],
    ),
    ("a rollback is asked for", "to note that it begins, or it does not answer"): Row(
        walks=[(not_begun, WAREHOUSE, {"warehouse": "rights"})],
        more=[
            (not_begun, WAREHOUSE, {"warehouse": "gone"}),
            (not_begun, BOTH, {"warehouse": "rights"}),
            (not_begun, BOTH, {"lake": "gone", "warehouse": "gone"}),
        ],
    ),
    ("a rollback is unfinished", "to take the tables back"): Row(
        walks=[(rolling_back, BOTH, {"lake": "403"})],
        more=[
            *((rolling_back, LAKE, how) for how in _REFUSALS),
            (rolling_back, BOTH, {"lake": "500"}),
            (rolling_back, WAREHOUSE, {"warehouse": "tables"}),
            (rolling_back_and_left, BOTH, {"lake": "403"}),
            (rolling_back_and_left, LAKE, {"lake": "500"}),
            (rolling_back_and_left, BOTH, {"warehouse": "tables"}),
        ],
    ),
    ("a rollback is unfinished", "nothing, but somebody wrote one of its tables"): Row(
        walks=[(rolling_back_and_written, LAKE, {"lake": "403"})],
        more=[
            (rolling_back_and_written, BOTH, {"lake": "403"}),
            (rolling_back_and_written, WAREHOUSE, {"warehouse": "tables"}),
        ],
    ),
    ("a rollback is done", "to remove tags and snapshots, though it may say that it did"): Row(
        walks=[(rolled_back, LAKE, {"lake": "403"})],
        more=[(rolled_back, LAKE, {"lake": "400"}), (rolled_back, BOTH, {"lake": "500"})],
    ),
    ("a run was killed", "nothing"): Row(
        walks=[(run_was_killed, LAKE, {})],
        more=[(run_was_killed, WAREHOUSE, {}), (run_was_killed, BOTH, {})],
    ),
    ("a table is dropped", "to delete its files (`purge`)"): Row(
        walks=[(purge_refused, LAKE, {"lake": "403"})],
        more=[(purge_refused, LAKE, {"lake": "400"})],
    ),
    ("an environment is deleted", "to drop a namespace, for it still keeps dropped tables"): Row(
        walks=[(namespace_kept, LAKE, {"lake": "409"})],
    ),
    ("a commit was never answered", "nothing, but it may still land"): Row(
        walks=[(never_answered, LAKE, {"lake": "cut"})],
    ),
}
