"""What a command trusts: the project's Python, and what its files ask for.

`Trust` is made once for a command, of the variables that the process was started with,
before anything of the project is read. Whoever reads something that widens what a project
may do (folders, variables, connections, engine settings) asks it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

UNTRUSTED = "SEEKNAL_UNTRUSTED"
NO_PYTHON = "SEEKNAL_NO_PYTHON"
FILES_ALLOW = "SEEKNAL_FILES_ALLOW"
ENV_VARS = "SEEKNAL_ENV_VARS"
PRODUCTION = "SEEKNAL_PRODUCTION"

_ON = ("1", "true", "yes")
_OFF = ("0", "false", "no")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def switch(environ: Mapping[str, str], name: str) -> bool:
    """Return whether a variable turns something on; unset or empty is off.

    Raises:
        ConfigError: it holds something else than ``1``, ``true``, ``yes``, ``0``,
            ``false`` or ``no``, in either case.
    """
    word = environ.get(name, "").lower()
    if word and word not in (*_ON, *_OFF):
        raise ConfigError(
            f"{name} is neither on nor off",
            f"set {name} to {', '.join(_ON)}, or to {', '.join(_OFF)}",
        )
    return word in _ON


@attrs.frozen(kw_only=True)
class Trust:
    """What the machine, not the project, says about trust.

    ``untrusted``: the project is a stranger's. ``no_python``: none of the project's Python
    runs, whoever wrote it. ``folders`` are the absolute folders of ``SEEKNAL_FILES_ALLOW``,
    links resolved, ``urls`` the beginnings of addresses there; ``variables`` are the names
    in ``SEEKNAL_ENV_VARS``, ``production`` is ``SEEKNAL_PRODUCTION``. They matter for an
    untrusted project alone: what it asks for counts where they say so too.
    """

    untrusted: bool = False
    no_python: bool = False
    folders: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    variables: frozenset[str] = frozenset()
    production: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, no_python: bool = False) -> Trust:
        """Read the machine's settings.

        Args:
            environ: the process's variables, before a ``.env`` was read.
            no_python: what ``--no-python`` says.

        Raises:
            ConfigError: a switch is neither on nor off, a folder is not absolute, or a
                name is none.
        """
        folders, urls = _places(environ.get(FILES_ALLOW, ""))
        return cls(
            untrusted=switch(environ, UNTRUSTED),
            no_python=switch(environ, NO_PYTHON) or no_python,
            folders=folders,
            urls=urls,
            variables=_names(environ.get(ENV_VARS, "")),
            production=environ.get(PRODUCTION, "").lower(),
        )

    @property
    def python(self) -> bool:
        """Whether the project's Python may run."""
        return not (self.no_python or self.untrusted)

    @property
    def why_no_python(self) -> str:
        """The setting that keeps the project's Python from running, for messages."""
        return f"{UNTRUSTED}=1" if self.untrusted else f"--no-python ({NO_PYTHON}=1)"

    def allows_folder(self, folder: Path) -> bool:
        """Return whether a project's wish to read below a folder counts.

        Args:
            folder: absolute.
        """
        if not self.untrusted:
            return True
        real = folder.resolve()
        return any(real.is_relative_to(allowed) for allowed in self.folders)

    def allows_url(self, url: str) -> bool:
        """Return whether a project's wish to read an address counts.

        It has to begin with one that the machine allows, up to the end or to a ``/``.
        """
        if not self.untrusted:
            return True
        from urllib.parse import unquote

        path = url.partition("://")[2].partition("/")[2]
        if any(part in (".", "..") for part in unquote(path).replace("\\", "/").split("/")):
            return False
        return any(
            url == allowed or url.startswith(allowed.rstrip("/") + "/") for allowed in self.urls
        )

    def allows_variable(self, name: str) -> bool:
        """Return whether a project's wish to read a variable counts."""
        return not self.untrusted or name in self.variables


def _places(value: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    if not value:
        return (), ()
    from pathlib import Path

    folders: list[Path] = []
    urls: list[str] = []
    for part in (each.strip() for each in value.split(",")):
        if "://" in part:
            urls.append(part)
            continue
        for folder in filter(str.strip, part.split(os.pathsep)):
            if not os.path.isabs(folder):
                raise ConfigError(
                    f"{FILES_ALLOW}: {folder} is not an absolute folder",
                    f"write absolute folders and addresses, with commas (folders also with"
                    f" {os.pathsep!r}) between them",
                )
            folders.append(Path(folder).resolve())
    return tuple(folders), tuple(urls)


def _names(value: str) -> frozenset[str]:
    names = frozenset(part.strip() for part in value.split(",") if part.strip())
    for name in sorted(names):
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{ENV_VARS}: {name!r} is not a variable's name",
                "write names, with commas between them",
            )
    return names
