"""``seeknal run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

import attrs
import click

from seeknal_core.apply.run import RunRequest
from seeknal_core.apply.run import run as run_project
from seeknal_core.apply.scheduler import Options
from seeknal_core.cli.asking import confirm_replacing
from seeknal_core.cli.options import (
    environment_options,
    exact_option,
    json_option,
    request_from,
    run_options,
)
from seeknal_core.cli.output import output_for, say, say_below, say_json
from seeknal_core.cli.progress import make_reporter, paused
from seeknal_core.cli.report import (
    profile_line,
    render_report,
    report_as_mapping,
)
from seeknal_core.cli.signals import signals
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.types import Cancellation
from seeknal_core.plan.replacing import Replaced
from seeknal_core.promote.recover import refuse_publishing
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
    "--dry-run", is_flag=True, help="Print the plan that would be carried out; write nothing."
)
@click.option(
    "--refresh-sources",
    is_flag=True,
    help="With --dry-run: ask the stores for tables and versions.",
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
@json_option
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
    refresh_sources: bool,
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
            return _dry_run(session, wanted, output if as_json else None, ask=refresh_sources)
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


def _dry_run(session: Session, wanted: RunRequest, json_output: TextIO | None, *, ask: bool) -> int:
    """Print the plan that the run would carry out.

    Args:
        ask: whether the stores may be asked.
    """
    from seeknal_core.cli.rendered_plan import render_plan
    from seeknal_core.plan.builder import make_plan
    from seeknal_core.plan.document import as_document

    made = make_plan(session, attrs.evolve(wanted.plan, ask=ask, refresh_sources=ask))
    if json_output is not None:
        for warning in made.warnings:
            say_below("warning", warning, err=True)
        document = {**as_document(made), "has_changes": made.has_changes, "looked": ask}
        say_json(document, file=json_output)
        return ExitCode.DONE
    render_plan(made)
    if ask:
        say("dry run: nothing was written")
    else:
        say("dry run: no store was asked and nothing was written; --refresh-sources asks them")
    return ExitCode.DONE
