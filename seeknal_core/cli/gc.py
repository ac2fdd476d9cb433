"""``seeknal gc``."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import click

from seeknal_core.cli.options import json_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.contract.errors import ExitCode


@click.command()
@click.option("--dry-run", is_flag=True, help="Print what would be removed; remove nothing.")
@click.option(
    "--keep-hours",
    metavar="HOURS",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="Keep every output that is younger than this.",
)
@json_option
@click.pass_context
def gc(context: click.Context, dry_run: bool, keep_hours: int, as_json: bool) -> int:
    """Remove stored outputs that no environment, plan or undo data uses.

    Also removes what killed commands left in the stores, once nothing can use it, and
    expires old snapshots of tables whose targets set expire_snapshots. Fails while another
    command uses the outputs.
    """
    from seeknal_core import project as config
    from seeknal_core.environments.gc import collect
    from seeknal_core.environments.gc_stores import sweep
    from seeknal_core.files.layout import Layout
    from seeknal_core.state.open import open_state
    from seeknal_core.workspace.session import Request

    root = config.find_root(Path(context.obj["project_dir"] or os.curdir))
    config.refuse_brought_target(root, context.obj["trust"])
    layout = Layout.of_project(root)
    result = collect(
        layout.snapshots,
        open_state(root),
        datetime.now(UTC),
        keep_for=timedelta(hours=keep_hours),
        dry_run=dry_run,
        stores=lambda: sweep(
            Request(project_dir=str(root), trust=context.obj["trust"]), dry_run=dry_run
        ),
    )
    if as_json:
        say_json({**attrs.asdict(result), "dry_run": dry_run})
        return ExitCode.DONE
    verb = "would remove" if dry_run else "removed"
    say(
        f"{verb} {result.removed} stored outputs ({result.removed_bytes / 1e6:.1f} MB), "
        f"kept {result.kept} ({result.kept_bytes / 1e6:.1f} MB)"
    )
    stores = result.stores
    if stores.removed:
        say(f"{verb} what {stores.removed} killed or unanswered writes left in the stores")
    for line in stores.done:
        say(line)
    for line in stores.kept:
        say(f"stays: {line}")
    for line in stores.skipped:
        say(f"not looked at: {line}", err=True)
    return ExitCode.DONE
