"""``seeknal plugins list``."""

from __future__ import annotations

import os

import attrs
import click

from seeknal_core.cli.options import json_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.hooks import HOOK_API
from seeknal_core.plugins.host import BACKENDS, WRAPPERS, PluginHost


@click.command("list")
@json_option
def list_plugins(as_json: bool) -> int:
    """List the installed backends and wrapper plugins.

    Imports none of them.
    """
    host = PluginHost.from_environment(os.environ)
    found = [*host.installed(BACKENDS), *host.installed(WRAPPERS)]
    claims = [(info.group, info.name) for info in found]
    twice = [claims.count((info.group, info.name)) > 1 for info in found]
    if as_json:
        rows = [
            {**attrs.asdict(info), "claimed_twice": claimed}
            for info, claimed in zip(found, twice, strict=True)
        ]
        document = {"hook_api": HOOK_API, "plugins": rows}
        say_json(document)
        return ExitCode.DONE
    for info, claimed in zip(found, twice, strict=True):
        kind = "backend" if info.group == BACKENDS else "plugin"
        conflict = "  (claimed twice: uninstall one of the two)" if claimed else ""
        say(f"{kind} {info.name}: {info}{conflict}")
    if not host.installed(BACKENDS):
        say("no backends installed; pip install seeknal-NAME adds one")
    return ExitCode.DONE
