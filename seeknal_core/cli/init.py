"""``seeknal init``."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from seeknal_core.cli.output import say
from seeknal_core.contract.errors import ConfigError, ExitCode, StateError

_IGNORED = "profiles*.yml\n.env\ntarget/\nwarehouse*/\n"

_PROFILE = """\
# Connections and credentials. Never committed: see .gitignore.
# `seeknal plugins show TYPE` lists the options of a connection.
connections: {}
"""


@click.command()
@click.argument("directory", default=".", metavar="[DIR]")
@click.option("--example", is_flag=True, help="Create a complete project that runs at once.")
def init(directory: str, example: bool) -> int:
    """Create a new project in DIR, or here.

    Changes nothing that exists.
    """
    root = Path(directory)
    if (root / "seeknal_project.yml").exists():
        raise ConfigError(
            f"{root} is a project already", f"seeknal -C {shlex.quote(directory)} check"
        )
    name = re.sub(r"[^a-z0-9_]+", "_", root.resolve().name.lower()).strip("_") or "project"
    files = _example() if example else _empty(name)
    taken = [path for path in files if (root / path).exists() and path != ".gitignore"]
    if taken:
        raise ConfigError(
            f"{root / taken[0]} exists already, and init changes nothing that exists",
            "choose an empty folder: seeknal init DIR",
        )
    try:
        for path, text in files.items():
            _write(root / path, text)
    except OSError as error:
        raise StateError(f"cannot write {error.filename or root}: {error.strerror}") from None
    where = "" if directory == "." else f"cd {shlex.quote(directory)} && "
    if example:
        say(f"made an example project in {root}")
        say(f"Next: {where}seeknal run --env dev")
    else:
        say(f"made project {name!r} in {root}")
        say(
            f"Next: put a source into {root / 'seeknal' / 'sources'}, connections into "
            f"{root / 'profiles.yml'}, then: {where}seeknal check"
        )
    return ExitCode.DONE


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == ".gitignore" and path.exists():
        present = path.read_text("utf-8").splitlines()
        missing = [line for line in text.splitlines() if line not in present]
        if missing:
            with path.open("a", encoding="utf-8") as file:
                file.write("\n".join(["", *missing, ""]))
        return
    path.write_text(text, encoding="utf-8")
    if path.name.startswith("profiles"):
        # It will hold passwords.
        path.chmod(0o600)


def _empty(name: str) -> dict[str, str]:
    return {
        "seeknal_project.yml": f"name: {name}\n",
        "profiles.yml": _PROFILE,
        ".gitignore": _IGNORED,
        "seeknal/sources/.gitkeep": "",
        "seeknal/transforms/.gitkeep": "",
    }


def _example() -> dict[str, str]:
    files: dict[str, str] = {}

    def collect(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            path = f"{prefix}{entry.name}"
            if entry.is_dir():
                collect(entry, f"{path}/")
            else:
                files[".gitignore" if path == "gitignore" else path] = entry.read_text("utf-8")

    collect(resources.files("seeknal_core.example").joinpath("files"), "")
    return dict(sorted(files.items()))
