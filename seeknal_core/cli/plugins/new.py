"""``seeknal plugins new``."""

from __future__ import annotations

import os

import click

from seeknal_core.cli.output import say
from seeknal_core.contract.errors import ExitCode
from seeknal_core.plugins.host import PluginHost


@click.command("new")
@click.argument("name")
@click.option("--dir", "directory", metavar="DIR", help="Write into DIR instead of ./seeknal-NAME.")
def new_plugin(name: str, directory: str | None) -> int:
    """Create the package of a new backend for the type NAME.

    It works at once, on a folder of Parquet files, and passes the conformance suite.
    """
    # Here, so that list and show don't pay for it.
    import shlex
    from pathlib import Path

    from seeknal_core.cli.plugins.new_backend import NewBackend, write_backend

    new = NewBackend.named(name, PluginHost.from_environment(os.environ))
    folder = Path(directory or new.distribution)
    write_backend(new, folder)
    say(f"wrote {new.distribution}, a backend for type {new.type!r}, into {folder}")
    say(f"Next: cd {shlex.quote(str(folder))}")
    say('      pip install -e ".[test]"')
    say("      pytest    # or, in an environment of its own: tox run")
    return ExitCode.DONE
