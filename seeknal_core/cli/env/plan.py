"""``seeknal env plan``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from seeknal_core.cli.options import (
    exact_option,
    json_option,
    request_from,
    shared_options,
)
from seeknal_core.cli.output import output_for, say, say_json
from seeknal_core.cli.rendered_plan import render_next, render_plan
from seeknal_core.cli.report import profile_line
from seeknal_core.contract.errors import ExitCode
from seeknal_core.plan.decide import Action
from seeknal_core.plan.document import Plan


@click.command()
@click.argument("name")
@shared_options
@click.option("--exit-code", is_flag=True, help="Exit with 3 if there are changes.")
@click.option("--show-sql", is_flag=True, help="Print the SQL of the nodes that would be computed.")
@click.option("--refresh-sources", is_flag=True, help="Read every source again.")
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
@click.option("--prune", is_flag=True, help="Drop the tables of targets that left the project.")
@click.option("--out", type=click.Path(dir_okay=False), help="Save the plan to this file, too.")
@json_option
@click.pass_context
def plan(
    context: click.Context,
    name: str,
    profile: str | None,
    variables: Mapping[str, object],
    ignore_unsupported: bool,
    exit_code: bool,
    show_sql: bool,
    refresh_sources: bool,
    all_targets: bool,
    only_changed: bool,
    exact: bool,
    allow_production_targets: bool,
    prune: bool,
    out: str | None,
    as_json: bool,
) -> int:
    """Show what applying an environment would do, and save the plan.

    Writes nothing but the plan. Uses the sources as production read them;
    --refresh-sources reads them again.
    """
    from seeknal_core.plan.builder import PlanRequest, make_plan
    from seeknal_core.plan.document import as_document, save_plan
    from seeknal_core.workspace.session import open_session

    request = request_from(
        context,
        environment=name,
        profile=profile,
        variables=variables,
        ignore_unsupported=ignore_unsupported,
    )
    given = profile or os.environ.get("SEEKNAL_PROFILE")
    wanted = PlanRequest(
        refresh_sources=refresh_sources,
        all_targets=all_targets,
        only_changed=only_changed,
        allow_production_targets=allow_production_targets,
        exact=exact,
        prune=prune,
        given_profile=str(Path(given).absolute()) if given else "",
    )
    with output_for(as_json) as output, open_session(request) as session:
        if not as_json:
            say(profile_line(session))
        made = make_plan(session, wanted)
        save_plan(made, session.state.document_path("plans", made.environment))
        session.save_caches()
        if out:
            save_plan(made, Path(out))
        if as_json:
            document = {**as_document(made), "has_changes": made.has_changes}
            if show_sql:
                document["sql"] = _statements(session, made)
            say_json(document, file=output)
        else:
            render_plan(made)
            render_next(made, session.again("env", "apply", made.environment))
            for id, statements in _statements(session, made).items() if show_sql else ():
                say(f"\n-- {id}\n{statements.rstrip()}")
    return ExitCode.STALE if exit_code and made.has_changes else ExitCode.DONE


def _statements(session: object, made: Plan) -> dict[str, str]:
    from seeknal_core.plan.describe import statements_of
    from seeknal_core.workspace.session import Session

    assert isinstance(session, Session)
    found = {
        step.id: ";\n".join(statements_of(session, step.id))
        for step in made.nodes
        if step.action in (Action.COMPUTE, Action.DEPENDS)
    }
    return {id: text for id, text in found.items() if text}
