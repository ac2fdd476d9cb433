"""``seeknal env apply``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from seeknal_core.cli.options import (
    exact_option,
    json_option,
    request_from,
    run_options,
    shared_options,
)
from seeknal_core.cli.output import output_for, say, say_json
from seeknal_core.cli.progress import make_reporter
from seeknal_core.cli.report import profile_line, render_report
from seeknal_core.contract.types import Cancellation


@click.command()
@click.argument("name")
@click.option(
    "--plan", "plan_file", type=click.Path(dir_okay=False), help="Apply the plan in this file."
)
@shared_options
@run_options
@click.option("--force", is_flag=True, help="Apply what is planned now, even if something changed.")
@click.option(
    "--adopt", is_flag=True, help="Take over existing tables that this project did not make."
)
@exact_option
@click.option(
    "--allow-production-targets",
    is_flag=True,
    help="Let this environment write another environment's tables.",
)
@json_option
@click.pass_context
def apply(
    context: click.Context,
    name: str,
    plan_file: str | None,
    profile: str | None,
    variables: Mapping[str, object],
    ignore_unsupported: bool,
    threads: int,
    fail_fast: bool,
    force: bool,
    adopt: bool,
    exact: bool,
    allow_production_targets: bool,
    as_json: bool,
) -> int:
    """Carry out an environment's plan.

    The plan is made again, with the --profile and --vars of this command, and compared
    with the saved one. If definitions, connections, targets or production changed since,
    the command fails before it writes anything. New data is no such change.
    """
    from seeknal_core.apply.apply import ApplyRequest
    from seeknal_core.apply.apply import apply as apply_plan
    from seeknal_core.apply.scheduler import Options
    from seeknal_core.cli.report import report_as_mapping
    from seeknal_core.cli.signals import signals
    from seeknal_core.promote.recover import refuse_publishing
    from seeknal_core.workspace.session import open_session

    request = request_from(
        context,
        environment=name,
        profile=profile,
        variables=variables,
        ignore_unsupported=ignore_unsupported,
        adopt=adopt,
    )
    wanted = ApplyRequest(
        plan=Path(plan_file) if plan_file else None,
        force=force,
        options=Options(threads=threads, fail_fast=fail_fast),
        allow_production_targets=allow_production_targets,
        exact=exact,
        refuse=refuse_publishing,
    )
    cancellation = Cancellation()
    with (
        output_for(as_json) as output,
        signals(cancellation),
        open_session(request, cancellation) as session,
    ):
        if not as_json:
            say(profile_line(session))
        with make_reporter(quiet=as_json, verbose=context.obj["verbose"]) as reporter:
            report = apply_plan(session, wanted, reporter)
        if as_json:
            say_json(report_as_mapping(report), file=output)
        else:
            render_report(report, verbose=context.obj["verbose"])
    return report.exit_code
