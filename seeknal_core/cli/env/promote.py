"""``seeknal env promote``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import click

from seeknal_core.cli.asking import confirm, confirm_replacing
from seeknal_core.cli.options import json_option, request_from, yes_option
from seeknal_core.cli.output import output_for, say, say_json
from seeknal_core.cli.progress import make_reporter, paused
from seeknal_core.cli.report import profile_line
from seeknal_core.cli.tables import counted, print_table
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.types import Cancellation, redact
from seeknal_core.plan.replacing import Replaced


def _fraction(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    text = value.strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise click.BadParameter("must be a percentage such as 20%") from None
    if not text.endswith("%") or number < 0:
        raise click.BadParameter("must be a percentage such as 20%")
    return number / 100


@click.command()
@click.argument("source")
@click.argument("destination", required=False)
@click.option("--profile", metavar="FILE", help="Profile file of the destination.")
@click.option(
    "--source-profile",
    metavar="FILE",
    help="Profile file of SOURCE, if it was applied with --profile.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be promoted; change nothing.")
@click.option("--ship", is_flag=True, help="Publish the environment's rows as they are.")
@click.option(
    "--rebuild", is_flag=True, help="Compute every promoted node on the destination's sources."
)
@click.option(
    "--verify",
    type=click.Choice(["counts", "checksum"]),
    help="What to compare before publishing. Default: checksums, up to 2 GiB a snapshot.",
)
@click.option(
    "--max-row-change",
    metavar="PERCENT",
    callback=_fraction,
    help="Fail if a node's row count changes by more than this: 20%.",
)
@click.option(
    "--full-refresh", is_flag=True, help="Replace all rows of targets with an incremental mode."
)
@click.option("--prune", is_flag=True, help="Drop the tables of targets that left the project.")
@click.option(
    "--force", is_flag=True, help="Promote although the destination changed since the plan."
)
@click.option(
    "--adopt", is_flag=True, help="Take over existing tables that this project did not make."
)
@click.option("--resume", is_flag=True, help="Continue an unfinished promotion.")
@click.option(
    "--abort",
    is_flag=False,
    flag_value="undo",
    type=click.Choice(["undo", "keep", "overwrite"]),
    help="Undo an unfinished promotion. If somebody wrote its tables since: --abort=keep leaves them as they are, --abort=overwrite undoes it anyway.",
)
@yes_option
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="How many nodes to work on at a time.",
)
@json_option
@click.pass_context
def promote(context: click.Context, /, source: str, destination: str | None, **given: Any) -> int:
    """Publish an environment's verified result into production.

    Or into DESTINATION. Writes every target where no reader sees it, compares it with what
    was verified, and publishes all targets or none. After a crash, run the same command
    again.
    """
    from seeknal_core import project as config
    from seeknal_core.cli.signals import signals
    from seeknal_core.promote.promote import promote as promote_into
    from seeknal_core.workspace.session import open_session

    request = request_from(
        context,
        environment=destination,
        profile=given["profile"],
        variables={},
        ignore_unsupported=False,
        adopt=given["adopt"],
        full_refresh=given["full_refresh"],
        others={source.lower(): given["source_profile"]} if given["source_profile"] else None,
    )
    cancellation = Cancellation()
    as_json = given["as_json"]
    with (
        output_for(as_json) as output,
        signals(cancellation),
        open_session(request, cancellation) as session,
    ):
        if not as_json:
            say(profile_line(session))
        name = config.parse_environment_name(source, session.settings)
        wanted = _request(given, session.settings.promote)
        if wanted.policy.value == "ship" and not given["dry_run"]:
            _confirm_ship(session, name, yes=given["yes"])
        with make_reporter(quiet=as_json, verbose=context.obj["verbose"]) as reporter:

            def asked(tables: Sequence[Replaced]) -> None:
                with paused(reporter):
                    confirm_replacing(tables, yes=given["yes"])

            wanted = attrs.evolve(wanted, confirm=asked)
            report = promote_into(session, name, wanted, reporter)
        if as_json:
            say_json(_as_mapping(report), file=output)
        else:
            _render(report, session.complete)
    return ExitCode.FAILED if report.failed else ExitCode.DONE


def _request(given: dict[str, Any], default: str) -> Any:
    from seeknal_core.apply.scheduler import Options
    from seeknal_core.contract.errors import ConfigError
    from seeknal_core.promote.work import Policy, PromoteRequest, Verification
    from seeknal_core.state.promotion_table import Abort

    if given["ship"] and given["rebuild"]:
        raise ConfigError("--ship and --rebuild exclude each other", "choose one of them")
    policy = Policy.SHIP if given["ship"] else Policy.REBUILD if given["rebuild"] else None
    return PromoteRequest(
        policy=policy or Policy(default),
        verify=Verification(given["verify"]) if given["verify"] else None,
        max_row_change=given["max_row_change"],
        dry_run=given["dry_run"],
        force=given["force"],
        resume=given["resume"],
        abort=Abort(given["abort"]) if given["abort"] else None,
        prune=given["prune"],
        options=Options(threads=given["threads"]),
        source_profile=given["source_profile"],
    )


def _confirm_ship(session: Any, name: str, *, yes: bool) -> None:
    """Name the sources whose rows would be sent, and ask."""
    from seeknal_core.contract.errors import ConfigError

    sources = [id for id, node in session.graph.nodes.items() if node.kind == "source"]
    say(f"ships {name}'s rows, read from: {', '.join(sources) or 'no source'}", err=True)
    question = f"Send {name}'s rows to {session.environment.name}?"
    if not yes and not confirm(question):
        raise ConfigError("nothing was shipped", "without --ship the destination's rows are used")


def _as_mapping(report: Any) -> dict[str, Any]:
    document: dict[str, Any] = attrs.asdict(report)
    for node, value in zip(document["nodes"], report.nodes, strict=True):
        node["rows"] = value.rows.value
    document["failed"] = report.failed
    return document


def _render(report: Any, complete: Callable[[str], str]) -> None:
    from seeknal_core.promote.report import LEFT

    if report.nodes:
        print_table(
            ("node", "whose rows", report.source, f"{report.destination} before", "rows"),
            [
                (
                    node.id,
                    node.rows.value,
                    f"{node.source_count:,}",
                    "-" if node.before_count is None else f"{node.before_count:,}",
                    "-" if node.count is None else f"{node.count:,}",
                )
                for node in report.nodes
            ],
        )
    if report.targets:
        print_table(
            ("target", "node", "mode", "rows", "guarantee"),
            [
                (
                    target.name,
                    target.node,
                    target.mode,
                    "-" if target.rows is None else f"{target.rows:,}",
                    redact(target.error) or ("staged" if target.staged else "not staged"),
                )
                for target in report.targets
            ],
        )
    for id in report.removed:
        say(f"removed: {id}")
    for name in report.left:
        say(f"stays: {name} is no target any more; --prune drops it")
    for note in report.notes:
        say(note, err=True)
    counts = f"{counted(len(report.nodes), 'node')}, {counted(len(report.targets), 'target')}"
    outcome = f"{report.outcome}, not wholly" if report.failed else report.outcome
    closing = f"{outcome}: {report.source} into {report.destination}, {counts}"
    if report.outcome == LEFT:
        say(complete(left_as_they_are(report.destination)))
        return
    say(f"{closing}, {report.seconds:.1f} s")
    if report.failed:
        failed = sum(bool(target.error) for target in report.targets)
        say(
            f"{counted(failed, 'target')} failed, written without staging after the others\n"
            + complete(f"Next: fix that, then: seeknal run --env {report.destination}"),
            err=True,
        )
    if report.outcome == "planned":
        say(complete(f"Next: seeknal env promote {report.source} {report.destination}"))


def left_as_they_are(name: str) -> str:
    """Return the sentence for tables that are left as they are, with the command that shows them."""
    return (
        f"the tables are left as they are; which differ from what {name} has recorded is shown "
        f"by: seeknal env status {name}"
    )
