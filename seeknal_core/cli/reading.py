"""``seeknal query`` and ``seeknal env diff``: the stored outputs, without any store."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import click

from seeknal_core.cli.output import output_for, say, say_json
from seeknal_core.cli.render import counted, print_table
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
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
    from seeknal_core.cli.run import signals
    from seeknal_core.environments.list import recorded
    from seeknal_core.environments.query import opened
    from seeknal_core.environments.query import query as ask

    settings, state = project(context)
    record = recorded(state, _name(environment, settings), settings.production)
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


@click.command()
@click.argument("name")
@click.argument("other", required=False)
@click.option("--key", "key", metavar="COLUMNS", help="Columns that identify a row: id,day.")
@click.option(
    "--select",
    "select",
    multiple=True,
    metavar="NODE",
    help="Compare only these nodes. Repeatable.",
)
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Show at most this many keys of each node.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 3 if something differs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.pass_context
def diff(
    context: click.Context,
    name: str,
    other: str | None,
    key: str | None,
    select: Sequence[str],
    sample: int,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Compare an environment with production, or with OTHER.

    Compares definitions, columns and rows of the stored outputs; connects to no store.
    Rows are matched by the unique_keys of a node's targets or by --key; without a key,
    whole rows are compared.
    """
    from seeknal_core.cli.run import signals
    from seeknal_core.environments.diff import diff as compare
    from seeknal_core.environments.query import opened

    settings, state = project(context)
    here, there = (_held(state, _name(each, settings), settings) for each in (name, other))
    keys = _keys(context, here.record.nodes, key)
    if select:
        here, there = _only(here, select), _only(there, select)
    cancellation = Cancellation()
    with (
        output_for(as_json) as output,
        signals(cancellation),
        opened(settings, cancellation, context.obj["trust"]) as (engine, store),
    ):
        found = compare(here, there, keys, engine, store, sample=sample)
        if as_json:
            document = {
                "here": here.record.name,
                "there": there.record.name,
                "nodes": [_as_mapping(one) for one in found],
            }
            say_json(document, file=output)
        else:
            _render(found, here.record.name, there.record.name)
    return ExitCode.STALE if exit_code and found else ExitCode.DONE


def project(context: click.Context) -> tuple[Any, Any]:
    """Read the project file and find the state, without nodes or plugins."""
    from seeknal_core import project as config
    from seeknal_core.files.layout import Layout
    from seeknal_core.state.store import StateStore

    root = config.find_root(Path(context.obj["project_dir"] or os.curdir))
    config.refuse_brought_target(root, context.obj["trust"])
    settings, _warnings = config.load_settings(root, context.obj["trust"])
    return settings, StateStore(Layout.of_project(root).state)


def _name(text: str | None, settings: Any) -> str:
    from seeknal_core.project import parse_environment_name

    return parse_environment_name(text, settings)


def _held(state: Any, name: str, settings: Any) -> Any:
    from seeknal_core.environments.diff import Held
    from seeknal_core.environments.list import recorded
    from seeknal_core.state.manifest import load_manifest

    record = recorded(state, name, settings.production)
    return Held(record=record, manifest=load_manifest(state, name))


def _only(held: Any, ids: Sequence[str]) -> Any:
    from seeknal_core.contract.errors import ConfigError
    from seeknal_core.contract.options import nearest

    known = held.record.nodes
    wanted = {id if "." in id else f"transform.{id}" for id in ids}
    if held.record.nodes and not wanted & known.keys():
        first = sorted(wanted)[0]
        raise ConfigError(f"no node {first!r}", nearest(first, known) or "see: seeknal env show")
    nodes = {id: node for id, node in known.items() if id in wanted}
    return attrs.evolve(held, record=attrs.evolve(held.record, nodes=nodes))


def _keys(context: click.Context, ids: Sequence[str], given: str | None) -> dict[str, list[str]]:
    """Return what may be each node's key: as the user says, or as its targets and audits do.

    Whether it really tells rows apart is looked at when they are compared.
    """
    if given:
        columns = [column.strip() for column in given.split(",")]
        return dict.fromkeys(ids, columns)
    from seeknal_core.contract.errors import ConfigError
    from seeknal_core.workspace.session import Request, open_session

    try:
        request = Request(project_dir=context.obj["project_dir"], trust=context.obj["trust"])
        with open_session(request) as session:
            nodes = session.graph.nodes
    except ConfigError:
        # What is stored can be compared although the folder has a mistake now.
        return {}
    found = {}
    for id, node in nodes.items():
        keys = [list(target.unique_keys) for target in node.targets if target.unique_keys]
        unique = [list(a.columns) for a in node.audits if a.type == "unique" and a.columns]
        times = [[target.time_column] for target in node.targets if target.time_column]
        if keys or unique or times:
            found[id] = (keys or unique or times)[0]
    return found


def _as_mapping(one: Any) -> dict[str, Any]:
    document: dict[str, Any] = attrs.asdict(one)
    document["definition"] = one.definition.value
    if one.rows is not None:
        document["rows"]["sample"] = [
            {"change": change, "key": dict(key), "columns": list(columns)}
            for change, key, columns in one.rows.sample
        ]
    return document


def _render(found: Sequence[Any], here: str, there: str) -> None:
    if not found:
        say(f"{here} and {there} hold the same")
        return
    rows = []
    for one in found:
        changed = one.rows
        rows.append(
            (
                one.id,
                one.definition.value,
                *("-" if n is None else f"{n:,}" for n in (one.count_here, one.count_there)),
                *(
                    ("", "", "")
                    if changed is None
                    else (
                        f"{changed.added:,}",
                        f"{changed.removed:,}",
                        "-" if changed.changed is None else f"{changed.changed:,}",
                    )
                ),
            )
        )
    header = ("node", "definition", f"rows {here}", f"rows {there}", "added", "removed", "changed")
    print_table(header, rows, numeric=5)
    for one in found:
        for column in one.columns:
            say(
                f"{one.id}: column {column.name}: {column.there or 'missing'} in {there}, "
                f"{column.here or 'missing'} in {here}"
            )
        for change, key, columns in one.rows.sample if one.rows else ():
            shown = ", ".join(f"{name}={value}" for name, value in key.items())
            what = f": {', '.join(columns)}" if columns else ""
            say(f"{one.id}: {change} {shown}{what}")
        if one.text:
            say("\n" + one.text.rstrip())
