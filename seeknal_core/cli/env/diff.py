"""``seeknal env diff``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import click

from seeknal_core.cli.options import json_option
from seeknal_core.cli.output import output_for, say, say_json
from seeknal_core.cli.recorded import project
from seeknal_core.cli.tables import print_table
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.types import Cancellation


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
@json_option
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
    from seeknal_core.cli.signals import signals
    from seeknal_core.environments.diff import diff as compare
    from seeknal_core.environments.query import opened
    from seeknal_core.project import parse_environment_name

    settings, state = project(context)
    here, there = (
        _held(state, parse_environment_name(each, settings), settings) for each in (name, other)
    )
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
