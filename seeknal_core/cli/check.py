"""``seeknal check``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import click

from seeknal_core.cli.options import environment_options, json_option, request_from
from seeknal_core.cli.output import indented, output_for, say, say_below, say_json
from seeknal_core.cli.report import profile_line
from seeknal_core.cli.tables import counted
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.types import redact
from seeknal_core.plan.check import (
    ConnectionCheck,
    check_connections,
    check_project,
    second_wall,
)
from seeknal_core.workspace.session import open_session


@click.command()
@environment_options
@click.option("--connections", is_flag=True, help="Try each connection and print its answer.")
@click.option(
    "--write", is_flag=True, help="With --connections: also create and drop a table in each store."
)
@json_option
@click.pass_context
def check(
    context: click.Context,
    environment: str | None,
    profile: str | None,
    variables: Mapping[str, object],
    ignore_unsupported: bool,
    connections: bool,
    write: bool,
    as_json: bool,
) -> int:
    """Find every mistake without running anything.

    Parses and validates the project, the profile, all SQL and all options.
    Connects to nothing, unless --connections asks for it.
    """
    if write and not connections:
        raise click.UsageError("--write goes with --connections")
    request = request_from(
        context,
        environment=environment,
        profile=profile,
        variables=variables,
        ignore_unsupported=ignore_unsupported,
    )
    with output_for(as_json) as output, open_session(request) as session:
        result = check_project(session)
        if session.layout.target.exists():
            session.save_caches()
        tried = check_connections(session, write) if connections else ()
        wall = second_wall() if connections else ""
        if as_json:
            document = {
                "environment": session.environment.name,
                "profile": session.profile.path,
                "profile_reason": session.profile.reason,
                "nodes": result.nodes,
                "targets": result.targets,
                "warnings": list(result.warnings),
                "connections": [attrs.asdict(one) for one in tried],
                **({"second_wall": wall} if wall else {}),
            }
            say_json(document, file=output)
        else:
            say(profile_line(session))
            for warning in result.warnings:
                say_below("warning", warning, err=True)
            for one in tried:
                _show(one)
            if wall and session.trust.untrusted:
                say(wall)
            counts = f"{counted(result.nodes, 'node')}, {counted(result.targets, 'target')}"
            say(f"{counts}: no mistakes{_failed(tried)}")
    return ExitCode.FAILED if any(not one.answered for one in tried) else ExitCode.DONE


def _failed(tried: Sequence[ConnectionCheck]) -> str:
    """Return how many connections failed; nothing where none did."""
    failed = [one.name for one in tried if not one.answered]
    if not failed:
        return ""
    return f" in the project, but {len(failed)} of {counted(len(tried), 'connection')} failed"


def _show(one: ConnectionCheck) -> None:
    if one.answered:
        first, *more = redact(one.said).splitlines() or [""]
        say(f"connection {one.name} ({one.type}): {first}")
        for line in more:
            say(f"  {line}")
    else:
        say(f"connection {one.name} ({one.type}): failed: {one.said}", err=True)
        if one.hint:
            say(f"  Next: {indented(one.hint)}", err=True)
