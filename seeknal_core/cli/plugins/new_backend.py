"""What ``seeknal plugins new`` writes: the distribution of a new backend.

The files are in ``seeknal_core/templates/backend``, each with ``.tmpl`` behind its name, so
that no tool takes them for code of the core.
"""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import attrs

from seeknal_core import __version__
from seeknal_core.contract.errors import ConfigError, StateError
from seeknal_core.contract.hooks import HOOK_API
from seeknal_core.hints import canonical_type, hints
from seeknal_core.plugins.host import BACKENDS, PluginHost
from seeknal_core.project.specs import FILE_TYPES

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
#: The longest name with which no line of the templates has to be broken.
_LONGEST = 30
_NEW = "seeknal plugins new"
_SUFFIX = ".tmpl"


@attrs.frozen(kw_only=True)
class NewBackend:
    """The names of a new backend: all follow from its type."""

    type: str

    @property
    def distribution(self) -> str:
        """What is installed with pip."""
        return f"seeknal-{self.type.replace('_', '-')}"

    @property
    def package(self) -> str:
        """What is imported."""
        return f"seeknal_{self.type}"

    @classmethod
    def named(cls, name: str, host: PluginHost) -> NewBackend:
        """Return the backend of a name that a user chose; ``-`` counts as ``_``.

        Raises:
            ConfigError: the name is none, or another backend's already.
        """
        if not _NAME.fullmatch(name):
            better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
            raise ConfigError(
                f"{name!r} is no name of a backend: small letters, digits and single _ or -, "
                "a letter first",
                f"{_NEW} {better or 'my_store'}",
            )
        if len(name) > _LONGEST:
            raise ConfigError(f"{name!r} has more than {_LONGEST} letters", f"{_NEW} a_short_name")
        type = name.replace("-", "_")
        if type.startswith("seeknal_"):
            short = name[len("seeknal_") :]
            raise ConfigError(f"{name!r} has the prefix that is added anyhow", f"{_NEW} {short}")
        _refuse_taken(type, host)
        return cls(type=type)


def _refuse_taken(type: str, host: PluginHost) -> None:
    meant = canonical_type(type)
    claims = [info for info in host.installed(BACKENDS) if info.name in (type, meant)]
    taken, hint = "", f"choose another name: {_NEW} my_{type}"
    if claims:
        taken = f"the type of an installed backend, {claims[0]}"
        hint += f"; or look at that one: seeknal plugins show {type}"
    elif meant != type:
        taken = f"another word for the type {meant!r}"
    elif type in hints().distributions:
        taken = f"the type of the distribution {hints().distributions[type]}"
    elif type in FILE_TYPES:
        taken = "a type of files that Seeknal itself reads"
    elif type == "core":
        taken = "taken: seeknal-core is Seeknal itself"
    if taken:
        raise ConfigError(f"{type!r} is {taken}", hint)


def write_backend(new: NewBackend, folder: Path) -> None:
    """Write the distribution's files into a folder that is missing or empty.

    Raises:
        ConfigError: something is in the folder.
        StateError: it cannot be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(
                f"{folder} exists already and is not an empty folder",
                f"choose another one: {_NEW} {new.type} --dir DIR",
            )
        for path, text in _files(new).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StateError(f"cannot write {error.filename or folder}: {error.strerror}") from None


def _files(new: NewBackend) -> dict[str, str]:
    """Return the distribution's files by their paths."""
    major, minor = __version__.split(".")[:2]
    words = {
        "@api@": str(HOOK_API),
        "@core@": f">={major}.{minor},<{major}.{int(minor) + 1}",
        "@distribution@": new.distribution,
        "@package@": new.package,
        "@type@": new.type,
    }
    places = {
        # No file of the core's own repository may act as one of these.
        "gitignore": ".gitignore",
        "github/": ".github/",
        "package/": f"{new.package}/",
        "tests/backend.py": f"tests/test_{new.type}_backend.py",
    }
    files: dict[str, str] = {}
    for path, text in _templates().items():
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        for start, place in places.items():
            if path.startswith(start):
                path = place + path[len(start) :]
        files[path] = text
    return files


def _templates() -> dict[str, str]:
    found: dict[str, str] = {}

    def collect(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                collect(entry, f"{prefix}{entry.name}/")
            elif entry.name.endswith(_SUFFIX):
                path = f"{prefix}{entry.name.removesuffix(_SUFFIX)}"
                found[path] = entry.read_text("utf-8")

    collect(resources.files("seeknal_core").joinpath("templates", "backend"), "")
    return dict(sorted(found.items()))
