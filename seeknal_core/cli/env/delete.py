"""``seeknal env delete``."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from seeknal_core.cli.asking import confirm
from seeknal_core.cli.options import json_option, profile_option, yes_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.cli.report import profile_line
from seeknal_core.cli.tables import counted
from seeknal_core.contract.errors import ExitCode


@click.command()
@click.argument("name")
@profile_option
@yes_option
@click.option(
    "--keep-targets", is_flag=True, help="Delete the environment's records only; drop no table."
)
@json_option
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
    result = delete_environment(
        context, name, profile, yes=yes, keep_targets=keep_targets, quiet=as_json
    )
    if as_json:
        say_json(result)
    return ExitCode.FAILED if result["refused"] else ExitCode.DONE


def delete_environment(
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
    from seeknal_core.workspace.opening import Refusal, opening
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
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(open_session(request))
        name, production = session.environment.name, session.settings.production
        # An environment that is not known is refused before anything is locked.
        recorded(session.state, name, production)
        opened = stack.enter_context(
            opening(session, loads=False, binds=False, refused=(Refusal.UNFINISHED,))
        )
        session, record = opened.session, opened.record
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
