"""What a stranger's project asks for and does not get.

Everything that a project could widen by writing it down counts only where the machine says
so too. What does not count is listed, so that nobody wonders; what would put state or
production elsewhere is refused, since ignoring it would mean something else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.files.regular import read_regular
from seeknal_core.project.documents import relative
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.specs import AnyNode, EngineSettings, ProjectSettings
from seeknal_core.project.trust import ENV_VARS, FILES_ALLOW, PRODUCTION, UNTRUSTED, Trust
from seeknal_core.project.yaml import Document

_IGNORED = f"is ignored: the project is untrusted ({UNTRUSTED}=1)"
#: Fields of the project file that say where state and outputs are kept, and where that is.
_KEPT_AT = {"state": "target", "snapshots": "target/snapshots"}
_ENGINE = ("memory_limit", "threads", "temp_directory")


def refuse_kept_elsewhere(
    document: Document, value: Mapping[str, object], trust: Trust, collector: Collector
) -> dict[str, object]:
    """Return an untrusted project's fields without those that say where its state is kept.

    Another place than the default is a mistake.
    """
    if not trust.untrusted:
        return dict(value)
    kept = dict(value)
    for key, default in _KEPT_AT.items():
        # Older projects have a mapping there, which has no effect.
        if not isinstance(kept.get(key), str):
            continue
        if str(kept.pop(key)).rstrip("/") != default:
            collector.add(
                document,
                key,
                f"says where state or outputs are kept, and the project is untrusted"
                f" ({UNTRUSTED}=1)",
                f"take it out: that is {default}",
            )
    return kept


def narrowed(
    settings: ProjectSettings, document: Document, trust: Trust, collector: Collector
) -> tuple[ProjectSettings, tuple[Problem, ...]]:
    """Return what counts of a project's settings, and what doesn't."""
    if not trust.untrusted:
        return settings, ()
    expected = trust.production or "prod"
    if settings.production != expected:
        collector.add(
            document,
            "production" if "production" in document.places else "",
            f"production is {settings.production!r} to the project and {expected!r} to the"
            " machine, and the project is untrusted",
            f"set {PRODUCTION} where the command runs, if the project is right",
        )
    ignored = [
        document.problem(f"engine.{name}", _IGNORED)
        for name in _ENGINE
        if getattr(settings.engine, name) is not None
    ]
    blank = ProjectSettings(name="", root="")
    if isinstance(document.value, Mapping) and "environments" in document.value:
        ignored.append(document.problem("environments", _IGNORED))
    folders = [
        each
        for each in settings.files_allow
        if not trust.allows_folder(Path(settings.root, os.path.expanduser(each)))
    ]
    if folders:
        ignored.append(
            document.problem(
                "files.allow", f"{', '.join(folders)} {_IGNORED}", f"set {FILES_ALLOW}"
            )
        )
    names = [name for name in settings.env_vars if not trust.allows_variable(name)]
    if names:
        ignored.append(
            document.problem("env_vars", f"{', '.join(names)} {_IGNORED}", f"set {ENV_VARS}")
        )
    counts = attrs.evolve(
        settings,
        engine=EngineSettings(name=settings.engine.name),
        environment_ttl=blank.environment_ttl,
        promote=blank.promote,
        unchanged=blank.unchanged,
        copy_limit=blank.copy_limit,
    )
    return counts, tuple(ignored)


def without_options(
    nodes: Sequence[AnyNode], trust: Trust
) -> tuple[tuple[AnyNode, ...], tuple[Problem, ...]]:
    """Return nodes whose targets say nothing that only their backend knows, and what they said.

    A backend's own options may place data elsewhere, or remove what is old.
    """
    if not trust.untrusted:
        return tuple(nodes), ()
    found: list[AnyNode] = []
    ignored: list[Problem] = []
    for node in nodes:
        for target in node.targets:
            if target.options:
                place = target.location or node.location
                names = ", ".join(sorted(target.options))
                ignored.append(
                    Problem(f"{names} {_IGNORED}", place.file, place.line, place.column, node.id)
                )
        targets = tuple(attrs.evolve(target, options={}) for target in node.targets)
        found.append(attrs.evolve(node, targets=targets))
    return tuple(found), tuple(ignored)


def ignored_files(root: Path, trust: Trust) -> tuple[Problem, ...]:
    """Name the files of a checkout that say how to connect, and aren't read."""
    if not trust.untrusted:
        return ()
    found = sorted(
        name
        for name in os.listdir(root)
        if name == ".env" or (name.startswith("profiles") and name.endswith((".yml", ".yaml")))
    )
    return tuple(Problem(_IGNORED, name) for name in found)


def refuse_inside(path: Path, root: Path, given_by: str) -> None:
    """Refuse a profile that lies in the checkout, or that a link of it leads to.

    Args:
        path: absolute.
        given_by: what named it.

    Raises:
        ConfigError: it does.
    """
    checkout = checkout_of(root)
    for way in (os.path.abspath(path), os.path.realpath(path)):
        if Path(way).is_relative_to(checkout):
            raise ConfigError(
                f"{given_by} {relative(path, root)} lies in the checkout, and the project is"
                f" untrusted ({UNTRUSTED}=1)",
                "name a profile outside of it, or keep one in ~/.seeknal",
            )


def checkout_of(root: Path) -> Path:
    """Return the folder that the project came in: the repository's, links resolved.

    Of a submodule that is the repository around it.
    """
    real = Path(os.path.realpath(root))
    found = next((folder for folder in (real, *real.parents) if (folder / ".git").exists()), real)
    git = found / ".git"
    if git.is_file():
        written = read_regular(git).decode("utf-8", "surrogateescape").replace("\0", "")
        own = Path(os.path.realpath(found / written.partition("gitdir:")[2].strip()))
        around = [folder for folder in found.parents if own.is_relative_to(folder / ".git")]
        return around[-1] if around else found
    return found


def refuse_links(root: Path, names: Sequence[str], trust: Trust) -> None:
    """Refuse files of the project's folder that are links to somewhere else.

    Raises:
        ConfigError: the project is untrusted and one of `names` leads out of its folder.
    """
    if not trust.untrusted:
        return
    real = os.path.realpath(root)
    for name in names:
        if not Path(os.path.realpath(root / name)).is_relative_to(real):
            raise ConfigError(
                [Problem(f"is a link that leads out of the project ({UNTRUSTED}=1)", name)],
                "put the file itself in its place",
            )
