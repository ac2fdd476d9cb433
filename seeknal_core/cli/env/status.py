"""``seeknal env status``."""

from __future__ import annotations

import attrs
import click

from seeknal_core.cli.options import json_option, profile_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.cli.report import profile_line
from seeknal_core.cli.tables import counted, print_table
from seeknal_core.contract.errors import ExitCode


@click.command()
@click.argument("name")
@profile_option
@json_option
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
        say_json(
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
