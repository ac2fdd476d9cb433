"""``seeknal env``: look at environments and clean them up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import click

from seeknal_core.cli.asking import confirm
from seeknal_core.cli.output import say, say_json
from seeknal_core.cli.plan import apply, plan
from seeknal_core.cli.promote import promote, rollback
from seeknal_core.cli.reading import diff, project
from seeknal_core.cli.render import counted, print_table, profile_line
from seeknal_core.contract.errors import ExitCode


@click.group()
def env() -> None:
    """Plan, apply, promote, compare and delete environments."""


env.add_command(plan)
env.add_command(apply)
env.add_command(promote)
env.add_command(rollback)
env.add_command(diff)


_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_profile = click.option("--profile", metavar="FILE", help="Use this profile file.")


@env.command("list")
@_json
@click.pass_context
def list_environments(context: click.Context, as_json: bool) -> int:
    """List the environments that are recorded here.

    Connects to no store.
    """
    from seeknal_core.environments.list import summaries

    settings, state = project(context)
    found = summaries(settings, state, datetime.now(UTC))
    if as_json:
        _echo_json([_seconds(attrs.asdict(one)) for one in found])
        return ExitCode.DONE
    if not found:
        say("no environment yet\nNext: seeknal run --env dev")
        return ExitCode.DONE
    print_table(
        ("environment", "state", "profile", "created", "last applied", "against production"),
        [
            (
                one.name,
                one.status,
                _profile_name(one.profile),
                f"{_ago(one.created_ago)} ago",
                f"{_ago(one.age)} ago{_expiry(one)}",
                "production" if one.is_production else _against(one),
            )
            for one in found
        ],
    )
    return ExitCode.DONE


@env.command()
@click.argument("name")
@_json
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> int:
    """Show the recorded nodes and targets of an environment."""
    from seeknal_core.environments.list import recorded
    from seeknal_core.project import parse_environment_name

    settings, state = project(context)
    record = recorded(state, parse_environment_name(name, settings), settings.production)
    if as_json:
        _echo_json(attrs.asdict(record))
        return ExitCode.DONE
    say(f"environment {record.name}: {record.status}, last run {record.last_run_at}")
    print_table(
        ("node", "rows", "content"),
        [
            (id, f"{node.rows:,}", node.content_key[:12])
            for id, node in sorted(record.nodes.items())
        ],
    )
    print_table(
        ("target", "node", "rows", "written"),
        [
            (target.name, target.node, f"{target.rows:,}", target.written_at)
            for _, target in sorted(record.targets.items())
        ],
    )
    return ExitCode.DONE


@env.command()
@click.argument("name")
@_profile
@_json
@click.option("--exit-code", is_flag=True, help="Exit with 3 if a target was changed or dropped.")
@click.pass_context
def status(
    context: click.Context, name: str, profile: str | None, as_json: bool, exit_code: bool
) -> int:
    """Compare an environment's targets with what was written.

    Finds targets that somebody dropped or changed since. Changes nothing.
    """
    from seeknal_core.contract.errors import PromotionInterrupted, SeeknalError
    from seeknal_core.environments.list import recorded
    from seeknal_core.environments.status import status as find_drift
    from seeknal_core.environments.status import unfinished_promotion
    from seeknal_core.state.records import EnvironmentRecord
    from seeknal_core.workspace.session import Request, open_session

    request = Request(
        project_dir=context.obj["project_dir"],
        environment=name,
        profile=profile,
        trust=context.obj["trust"],
    )
    with open_session(request) as session:
        unfinished, command = unfinished_promotion(session)
        name = session.environment.name
        # Where the folder was lost, the stores may still know of a promotion.
        blank = EnvironmentRecord(name=name) if unfinished else None
        production = session.settings.production
        record = session.state.load(name) or blank or recorded(session.state, name, production)
        try:
            found = find_drift(session, record)
        except SeeknalError as error:
            if not unfinished:
                raise
            raise PromotionInterrupted(f"{unfinished}, and {error}", command) from error
        if not as_json:
            say(profile_line(session))
    drifted = sum(one.condition.drifted for one in found)
    if as_json:
        _echo_json(
            {
                "environment": record.name,
                "profile": session.profile.path,
                "profile_reason": session.profile.reason,
                "drifted": drifted,
                "unfinished": unfinished or None,
                "targets": [
                    {**attrs.asdict(one), "condition": one.condition.value} for one in found
                ],
            }
        )
    else:
        print_table(
            ("target", "node", "rows written", "now", "what happened"),
            [
                (one.name, one.node, f"{one.rows:,}", one.condition.value, one.detail)
                for one in found
            ],
        )
        say(f"{counted(len(found), 'target')}, {drifted} drifted")
        if unfinished:
            say(f"{unfinished}\nNext: {session.complete(command)}")
        elif drifted:
            again = session.complete(f"seeknal run --env {record.name}")
            say(f"Next: {again} writes it again, or says what it leaves to you")
    if unfinished:
        return ExitCode.UNFINISHED
    return ExitCode.STALE if drifted and exit_code else ExitCode.DONE


@env.command()
@click.argument("name")
@_profile
@_yes
@click.option(
    "--keep-targets", is_flag=True, help="Delete the environment's records only; drop no table."
)
@_json
@click.pass_context
def delete(
    context: click.Context,
    name: str,
    profile: str | None,
    yes: bool,
    keep_targets: bool,
    as_json: bool,
) -> int:
    """Delete an environment and the tables that it made.

    Drops only what the environment made, by the stores' own ledgers. Lists it first and
    asks. What it did not make stays, and is listed.
    """
    if as_json and not yes:
        raise click.UsageError("--json asks nothing: add --yes")
    result = _delete(context, name, profile, yes=yes, keep_targets=keep_targets, quiet=as_json)
    if as_json:
        _echo_json(result)
    return ExitCode.FAILED if result["refused"] else ExitCode.DONE


@env.command()
@_yes
@_json
@click.pass_context
def prune(context: click.Context, yes: bool, as_json: bool) -> int:
    """Delete the environments that nobody used for a while.

    Lists those whose last run is older than the project's time to live (ttl under
    environments: in the project file); --yes deletes them. If one cannot be deleted, the
    others still are.
    """
    from seeknal_core.contract.errors import SeeknalError
    from seeknal_core.environments.list import summaries

    settings, state = project(context)
    expired = [one for one in summaries(settings, state, datetime.now(UTC)) if one.expired]
    if not as_json:
        for one in expired:
            say(f"{one.name}: last run {_ago(one.age)} ago")
        if not expired:
            days = settings.environment_ttl.days
            say(f"nothing expired; the time to live is {counted(days, 'day')}")
        elif not yes:
            say("Next: seeknal env prune --yes deletes them")
    results: list[dict[str, Any]] = []
    for one in expired if yes else ():
        try:
            result = _delete(context, one.name, None, yes=True, keep_targets=False, quiet=as_json)
        except SeeknalError as error:
            result = {"environment": one.name, "error": str(error), "refused": []}
            if not as_json:
                say(f"{one.name}: {error}", err=True)
        results.append(result)
    if as_json:
        _echo_json({"expired": [one.name for one in expired], "deleted": results})
    return (
        ExitCode.FAILED
        if any(one.get("error") or one["refused"] for one in results)
        else ExitCode.DONE
    )


def _delete(
    context: click.Context,
    name: str,
    profile: str | None,
    *,
    yes: bool,
    keep_targets: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Delete an environment; say what happens unless `quiet`, and return it."""
    from seeknal_core.environments.delete import delete as drop_all
    from seeknal_core.environments.delete import forget_undo, take_inventory
    from seeknal_core.environments.list import recorded
    from seeknal_core.workspace.opening import refuse_unfinished
    from seeknal_core.workspace.session import Request, open_session

    def tell(line: str, *, err: bool = False) -> None:
        if not quiet:
            say(line, err=err)

    request = Request(
        project_dir=context.obj["project_dir"],
        environment=name,
        profile=profile,
        trust=context.obj["trust"],
    )
    with open_session(request) as session, session.state.lock(session.environment.name):
        name, production = session.environment.name, session.settings.production
        record = recorded(session.state, name, production)
        refuse_unfinished(session)
        tell(profile_line(session))
        inventory = take_inventory(session, record)
        things = () if keep_targets else inventory.things
        left = () if keep_targets else inventory.left
        for thing in things:
            tell(f"would drop {thing}" if not yes else f"drops {thing}")
        for line in left:
            tell(f"stays: {line}")
        question = f"Delete environment {record.name} and {counted(len(things), 'object')}?"
        document = {
            "environment": record.name,
            "profile": session.profile.path,
            "profile_reason": session.profile.reason,
            "dropped": [],
            "refused": [],
            "left": list(left),
        }
        if not yes and not confirm(question):
            tell("nothing was deleted")
            return document
        if not keep_targets:
            forget_undo(session)
        result = drop_all(session, things)
    for line in result.refused:
        tell(f"stays: {line}", err=True)
    if result.refused:
        tell(
            "Next: fix that and run the same command again, or: "
            + session.complete(f"seeknal env delete {record.name} --keep-targets"),
            err=True,
        )
    else:
        dropped = counted(len(result.dropped), "object")
        tell(f"environment {record.name} is deleted, {dropped} dropped")
    return {**document, "dropped": list(result.dropped), "refused": list(result.refused)}


def _profile_name(path: str) -> str:
    return Path(path).name if path else "-"


def _expiry(one: Any) -> str:
    if one.expires_in is None:
        return ""
    if one.expired:
        return ", expired"
    return f", expires in {_ago(one.expires_in)}"


def _against(one: Any) -> str:
    if one.changed is None:
        return "no production recorded"
    parts = [
        f"{count} {word}"
        for count, word in (
            (one.changed, "changed"),
            (one.only_here, "only here"),
            (one.only_there, "only there"),
        )
        if count
    ]
    return ", ".join(parts) or "same definitions"


def _ago(age: timedelta) -> str:
    seconds = age.total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return "moments"


def _seconds(document: dict[str, Any]) -> dict[str, Any]:
    """Give lengths of time in seconds."""
    return {
        key: value.total_seconds() if isinstance(value, timedelta) else value
        for key, value in document.items()
    }


def _echo_json(document: object) -> None:
    say_json(document)
