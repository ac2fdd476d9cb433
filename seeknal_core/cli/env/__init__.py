"""``seeknal env``: its commands, one module each."""

from __future__ import annotations

import click

from seeknal_core.cli.env.apply import apply
from seeknal_core.cli.env.delete import delete
from seeknal_core.cli.env.diff import diff
from seeknal_core.cli.env.list import list_environments
from seeknal_core.cli.env.plan import plan
from seeknal_core.cli.env.promote import promote
from seeknal_core.cli.env.prune import prune
from seeknal_core.cli.env.rollback import rollback
from seeknal_core.cli.env.show import show
from seeknal_core.cli.env.status import status


@click.group()
def env() -> None:
    """Plan, apply, promote, compare and delete environments."""


for _command in (
    apply,
    delete,
    diff,
    list_environments,
    plan,
    promote,
    prune,
    rollback,
    show,
    status,
):
    env.add_command(_command)
