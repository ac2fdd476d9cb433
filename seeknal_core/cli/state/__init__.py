"""``seeknal state``: its commands, one module each."""

from __future__ import annotations

import click

from seeknal_core.cli.state.recover import recover


@click.group()
def state() -> None:
    """Rebuild lost records from the stores."""


state.add_command(recover)
