"""``seeknal run``."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import attrs
import click

from seeknal_core.apply.report import RunReport
from seeknal_core.apply.run import RunRequest
from seeknal_core.apply.run import run as run_project
from seeknal_core.apply.scheduler import Options
from seeknal_core.cli.asking import confirm_replacing
from seeknal_core.cli.options import environment_options, exact_option, request_from, run_options
from seeknal_core.cli.output import output_for, say, say_below, say_json
from seeknal_core.cli.render import (
    make_reporter,
    paused,
    profile_line,
    render_preview,
    render_report,
    status_of,
)
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.types import Cancellation, redact
from seeknal_core.plan.replacing import Replaced
from seeknal_core.promote.notes import refuse_publishing
from seeknal_core.workspace.session import Session, open_session


@click.command()
@environment_options
@click.option(
    "-s",
    "--select",
    multiple=True,
    metavar="NODES",
    help="Run only these nodes: name, tag:x, +name, name+. Repeatable.",
)
@click.option(
    "-x", "--exclude", multiple=True, metavar="NODES", help="Run all nodes but these. Repeatable."
)
@click.option(
    "--full-refresh",
    is_flag=True,
    help="Replace all rows of every selected target, whatever its mode.",
)
@run_options
@click.option(
    "--dry-run", is_flag=True, help="Print what would run and every table's name; write nothing."
)
@click.option(
    "--adopt", is_flag=True, help="Take over existing tables that this project did not make."
)
@click.option(
    "--all-targets", is_flag=True, help="Also write targets that are the same as production's."
)
@click.option(
    "--only-changed", is_flag=True, help="Leave out targets that are the same as production's."
)
@exact_option
@click.option(
    "--allow-production-targets",
    is_flag=True,
    help="Let this environment write another environment's tables.",
)
@click.option("--yes", is_flag=True, help="Do not ask before --full-refresh deletes rows.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.pass_context
def run(
    context: click.Context,
    environment: str | None,
    profile: str | None,
    variables: Mapping[str, object],
    ignore_unsupported: bool,
    select: tuple[str, ...],
    exclude: tuple[str, ...],
    full_refresh: bool,
    threads: int,
    fail_fast: bool,
    dry_run: bool,
    adopt: bool,
    all_targets: bool,
    only_changed: bool,
    exact: bool,
    allow_production_targets: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Bring nodes and their targets up to date.

    Reads the environment's sources, computes what changed, and writes the
    environment's targets. Without --env this is production.
    """
    request = request_from(
        context,
        environment=environment,
        profile=profile,
        variables=variables,
        ignore_unsupported=ignore_unsupported,
        adopt=adopt,
        full_refresh=full_refresh,
    )
    wanted = RunRequest(
        select=select,
        exclude=exclude,
        options=Options(threads=threads, fail_fast=fail_fast),
        all_targets=all_targets,
        only_changed=only_changed,
        allow_production_targets=allow_production_targets,
        exact=exact,
    )
    cancellation = Cancellation()
    with (
        output_for(as_json) as output,
        signals(cancellation),
        open_session(request, cancellation) as session,
    ):
        if not as_json:
            say(profile_line(session))
        if dry_run:
            return _preview(session, wanted, output if as_json else None)
        with make_reporter(quiet=as_json, verbose=context.obj["verbose"]) as reporter:

            def confirm(tables: Sequence[Replaced]) -> None:
                with paused(reporter):
                    confirm_replacing(tables, yes=yes)

            report = run_project(
                session, attrs.evolve(wanted, confirm=confirm, refuse=refuse_publishing), reporter
            )
        if as_json:
            say_json(report_as_mapping(report), file=output)
        else:
            render_report(report, verbose=context.obj["verbose"])
    return report.exit_code


def _preview(session: Session, wanted: RunRequest, json_output: TextIO | None) -> int:
    from seeknal_core.apply.preview import as_mapping, preview

    for warning in session.warnings:
        say_below("warning", str(warning), err=True)
    result = preview(session, wanted)
    if json_output is not None:
        document = {
            "environment": session.environment.name,
            "profile": session.profile.path,
            "profile_reason": session.profile.reason,
            **as_mapping(result),
        }
        say_json(document, file=json_output)
    else:
        render_preview(result)
    return ExitCode.DONE


def report_as_mapping(report: RunReport) -> dict[str, Any]:
    """Return a report as JSON-able values, for ``--json``."""
    return {
        "run_id": report.run_id,
        "environment": report.environment,
        "profile": report.profile or None,
        "profile_reason": report.profile_reason,
        "status": status_of(report),
        "seconds": round(report.seconds, 3),
        "nodes": [
            {
                "id": node.id,
                "status": node.status.value,
                "rows": node.rows,
                "seconds": round(node.seconds, 3),
                "detail": node.detail,
                "hint": node.hint,
                "notes": [redact(note) for note in node.notes],
            }
            for node in report.nodes
        ],
        "targets": [
            {
                "node": target.node,
                "type": target.type,
                "name": target.name,
                "mode": target.mode,
                "status": target.status.value,
                "rows_written": target.rows_written,
                "rows_after": target.rows_after,
                "reason": target.reason,
                "seconds": round(target.seconds, 3),
                "detail": target.detail,
                "hint": target.hint,
            }
            for target in report.targets
        ],
    }


@contextlib.contextmanager
def signals(cancellation: Cancellation) -> Iterator[None]:
    """Stop in order on the first Ctrl-C (or SIGTERM), at once on the second.

    At once is safe: whatever dies, targets are old or new, and state is journalled.
    """
    asked = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            os._exit(ExitCode.INTERRUPTED)
        asked = True
        os.write(2, b"stopping; press Ctrl-C again to stop at once\n")
        # Waking what waits in a driver may itself wait: not in a signal handler.
        threading.Thread(target=cancellation.request, daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
