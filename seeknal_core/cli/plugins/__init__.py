"""``seeknal plugins``: its commands, one module each."""

from __future__ import annotations

import click

from seeknal_core.cli.plugins.list import list_plugins
from seeknal_core.cli.plugins.new import new_plugin
from seeknal_core.cli.plugins.show import show_plugin


@click.group()
def plugins() -> None:
    """List the installed backends, or start a new one."""


for _command in (list_plugins, show_plugin, new_plugin):
    plugins.add_command(_command)
