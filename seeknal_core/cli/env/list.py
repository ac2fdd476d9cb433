"""``seeknal env list``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import click

from seeknal_core.cli.options import json_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.cli.recorded import project
from seeknal_core.cli.tables import print_table
from seeknal_core.contract.errors import ExitCode


@click.command("list")
@json_option
@click.pass_context
def list_environments(context: click.Context, as_json: bool) -> int:
    """List the environments that are recorded here.

    Connects to no store.
    """
    from seeknal_core.environments.list import summaries

    settings, state = project(context)
    found = summaries(settings, state, datetime.now(UTC))
    if as_json:
        say_json([_seconds(attrs.asdict(one)) for one in found])
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
                f"{ago(one.created_ago)} ago",
                f"{ago(one.age)} ago{_expiry(one)}",
                "production" if one.is_production else _against(one),
            )
            for one in found
        ],
    )
    return ExitCode.DONE


def _profile_name(path: str) -> str:
    return Path(path).name if path else "-"


def _expiry(one: Any) -> str:
    if one.expires_in is None:
        return ""
    if one.expired:
        return ", expired"
    return f", expires in {ago(one.expires_in)}"


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


def ago(age: timedelta) -> str:
    """Return a length of time in its largest unit: ``3 days``."""
    seconds = age.total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return "moments"


def _seconds(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with its lengths of time in seconds."""
    return {
        key: value.total_seconds() if isinstance(value, timedelta) else value
        for key, value in document.items()
    }
