"""``seeknal env show``."""

from __future__ import annotations

import attrs
import click

from seeknal_core.cli.options import json_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.cli.recorded import project
from seeknal_core.cli.tables import print_table
from seeknal_core.contract.errors import ExitCode


@click.command()
@click.argument("name")
@json_option
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> int:
    """Show the recorded nodes and targets of an environment."""
    from seeknal_core.environments.list import recorded
    from seeknal_core.project import parse_environment_name

    settings, state = project(context)
    record = recorded(state, parse_environment_name(name, settings), settings.production)
    if as_json:
        say_json(attrs.asdict(record))
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
