"""``seeknal query``."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import click

from seeknal_core.cli.options import json_option
from seeknal_core.cli.output import output_for, say, say_json
from seeknal_core.cli.recorded import project
from seeknal_core.cli.tables import counted, print_table
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.types import Cancellation


@click.command()
@click.argument("sql")
@click.option(
    "--env", "environment", metavar="NAME", help="Environment to use; production if left out."
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="Print at most this many rows; 0 for all.",
)
@json_option
@click.pass_context
def query(
    context: click.Context, sql: str, environment: str | None, limit: int, as_json: bool
) -> int:
    """Run a SELECT over an environment's stored outputs.

    Each node is a table, by its name or its id:

    \b
    seeknal query "SELECT * FROM daily_revenue" --env dev
    seeknal query "SELECT count(*) FROM source.orders"
    """
    from seeknal_core.cli.signals import signals
    from seeknal_core.environments.list import recorded
    from seeknal_core.environments.query import opened
    from seeknal_core.environments.query import query as ask
    from seeknal_core.project import parse_environment_name

    settings, state = project(context)
    record = recorded(state, parse_environment_name(environment, settings), settings.production)
    cancellation = Cancellation()
    with (
        output_for(as_json) as output,
        signals(cancellation),
        opened(settings, cancellation, context.obj["trust"]) as (engine, store),
    ):
        reader = ask(engine, store, record, sql)
        names, rows, more = _first(reader, limit)
    if as_json:
        document = {"environment": record.name, "columns": names, "rows": rows, "more": more}
        text = json.dumps(document, ensure_ascii=False, indent=2, default=_plain)
        say_json(text, file=output, redacted=False)
        return ExitCode.DONE
    shown = [["" if v is None else str(_plain(v)) for v in row.values()] for row in rows]
    print_table(names, shown, redacted=False)
    say(counted(len(rows), "row") + (", there are more: --limit 0" if more else ""))
    return ExitCode.DONE


def _first(reader: Any, limit: int) -> tuple[list[str], list[dict[str, Any]], bool]:
    """Read up to a limit of rows, and tell whether there are more."""
    from seeknal_core.engine.showing import rows_of

    rows: list[dict[str, Any]] = []
    more = False
    for batch in reader:
        rows += rows_of(batch)
        if limit and len(rows) > limit:
            rows, more = rows[:limit], True
            break
    return list(reader.schema.names), rows, more


def _plain(value: object) -> object:
    """Return a value as text where JSON has no form for it."""
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return int(value)
    return value.hex() if isinstance(value, bytes) else str(value)
