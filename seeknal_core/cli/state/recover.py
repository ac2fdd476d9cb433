"""``seeknal state recover``."""

from __future__ import annotations

import attrs
import click

from seeknal_core.cli.options import environment_options, json_option, request_from
from seeknal_core.cli.output import output_for, say, say_below, say_json
from seeknal_core.cli.report import profile_line
from seeknal_core.cli.tables import counted
from seeknal_core.contract.errors import ExitCode


@click.command()
@environment_options
@json_option
@click.pass_context
def recover(
    context: click.Context,
    environment: str | None,
    profile: str | None,
    variables: dict[str, object],
    ignore_unsupported: bool,
    as_json: bool,
) -> int:
    """Rebuild an environment's record from the stores' ledgers.

    Changes nothing in a store. What is still recorded stays as it is.
    """
    from seeknal_core.environments.recover import recover as rebuild
    from seeknal_core.workspace.session import open_session

    request = request_from(
        context,
        environment=environment,
        profile=profile,
        variables=variables,
        ignore_unsupported=ignore_unsupported,
    )
    with output_for(as_json) as output, open_session(request) as session:
        if not as_json:
            say(profile_line(session))
        found = rebuild(session)
        if as_json:
            say_json(attrs.asdict(found), file=output)
            return ExitCode.UNFINISHED if found.unfinished else ExitCode.DONE
        for name in found.targets:
            say(f"found {name}")
        for name in found.foreign:
            say(f"not this environment's: {name}")
        say(f"{counted(len(found.targets), 'target')} recovered")
        if found.unknown:
            say(found.unknown)
        if found.warning:
            say_below("warning", found.warning, err=True)
        if found.unfinished:
            say(found.unfinished)
            say(f"Next: {session.complete(found.command)}")
            return ExitCode.UNFINISHED
        is_slip = found.unknown and not session.environment.is_production
        say("Next: seeknal env list" if is_slip else f"Next: {session.command('run')}")
    return ExitCode.DONE
