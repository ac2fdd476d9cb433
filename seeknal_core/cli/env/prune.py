"""``seeknal env prune``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from seeknal_core.cli.env.delete import delete_environment
from seeknal_core.cli.env.list import ago
from seeknal_core.cli.options import json_option, yes_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.cli.recorded import project
from seeknal_core.cli.tables import counted
from seeknal_core.contract.errors import ExitCode


@click.command()
@yes_option
@json_option
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
            say(f"{one.name}: last run {ago(one.age)} ago")
        if not expired:
            days = settings.environment_ttl.days
            say(f"nothing expired; the time to live is {counted(days, 'day')}")
        elif not yes:
            say("Next: seeknal env prune --yes deletes them")
    results: list[dict[str, Any]] = []
    for one in expired if yes else ():
        try:
            result = delete_environment(
                context, one.name, None, yes=True, keep_targets=False, quiet=as_json
            )
        except SeeknalError as error:
            result = {"environment": one.name, "error": str(error), "refused": []}
            if not as_json:
                say(f"{one.name}: {error}", err=True)
        results.append(result)
    if as_json:
        say_json({"expired": [one.name for one in expired], "deleted": results})
    return (
        ExitCode.FAILED
        if any(one.get("error") or one["refused"] for one in results)
        else ExitCode.DONE
    )
