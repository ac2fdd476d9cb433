"""``seeknal env rollback``."""

from __future__ import annotations

from typing import Any

import click

from seeknal_core.cli.env.promote import left_as_they_are
from seeknal_core.cli.options import json_option, profile_option, request_from
from seeknal_core.cli.output import output_for, say, say_json
from seeknal_core.cli.report import profile_line
from seeknal_core.cli.tables import counted
from seeknal_core.contract.errors import ExitCode


@click.command()
@click.argument("name", required=False)
@profile_option
@click.option(
    "--abort",
    type=click.Choice(["overwrite", "keep"]),
    help="overwrite: also undo targets that somebody wrote since; their rows are lost. "
    "keep: end an unfinished rollback and leave the tables as they are.",
)
@click.option("--yes", is_flag=True, expose_value=False, help="Accepted; a rollback never asks.")
@json_option
@click.pass_context
def rollback(
    context: click.Context,
    name: str | None,
    profile: str | None,
    abort: str | None,
    as_json: bool,
) -> int:
    """Undo the last promotion into an environment.

    Into production, if NAME is left out; in all its stores. Fails if a target was written
    since.
    """
    from seeknal_core.promote.rollback import rollback as undo
    from seeknal_core.state.promotion_table import Abort
    from seeknal_core.workspace.session import open_session

    request = request_from(
        context, environment=name, profile=profile, variables={}, ignore_unsupported=False
    )
    with output_for(as_json) as output, open_session(request) as session:
        if not as_json:
            say(profile_line(session))
        found = undo(session, abort=Abort(abort) if abort else None)
        document: dict[str, Any] = {
            "id": found.id,
            "source": found.source,
            "destination": found.destination,
            "targets": [write.name for write in found.writes if abort != Abort.KEEP],
        }
        if as_json:
            say_json(document, file=output)
        elif abort == Abort.KEEP:
            say(session.complete(left_as_they_are(found.destination)))
        else:
            for write in found.writes:
                say(f"restored {write.name}")
            say(
                f"promotion of {found.source} into {found.destination} is undone, "
                f"{counted(len(found.writes), 'target')}"
            )
    return ExitCode.DONE
