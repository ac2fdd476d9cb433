"""The project: its root, its file, its ``.env`` and all of its nodes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import attrs

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.contract.options import nearest, quoted
from seeknal_core.contract.types import Location
from seeknal_core.files.cache import Cache
from seeknal_core.project.allowed_files import allowed, places_of, wrong_place
from seeknal_core.project.allowed_variables import wrong_name
from seeknal_core.project.documents import NodeFiles, NodeReader, find_files
from seeknal_core.project.environment_names import NAME_RULE, is_environment_name
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.places import Places
from seeknal_core.project.specs import ENGINES, AnyNode, EngineSettings, ProjectSettings
from seeknal_core.project.trust import Trust
from seeknal_core.project.untrusted import (
    ignored_files,
    narrowed,
    refuse_kept_elsewhere,
    refuse_links,
    without_options,
)
from seeknal_core.project.yaml import Document, parse_one, read_text

PROJECT_FILE = "seeknal_project.yml"
#: Fields of a 2.x project file that have no effect here.
_LEGACY = frozenset(
    {
        "profile",
        "state_backend",
        "state",
        "publish",
        "starrocks",
        "target",
        "outputs",
        "materialization",
    }
)
#: As the engine writes it: units of 1000 and of 1024 bytes, or a part of the machine's.
_MEMORY = re.compile(r"\d+(\.\d+)?\s*([KMGT]i?B|%)", re.IGNORECASE | re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])?(i)?B)?", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@attrs.frozen(kw_only=True)
class LoadedProject:
    """A project as its files have it.

    ``skipped`` are the nodes of kinds that are not run, left out at the user's
    wish, with where they stand.
    """

    settings: ProjectSettings
    nodes: tuple[AnyNode, ...]
    warnings: tuple[Problem, ...] = ()
    skipped: Mapping[str, Location] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class _EnvironmentsDocument:
    ttl: timedelta = timedelta(days=7)
    promote: Literal["auto", "ship", "rebuild"] = "auto"
    unchanged: Literal["link", "copy", "skip"] = "link"
    copy_limit: str | int = "1GB"


@attrs.frozen(kw_only=True)
class _FilesDocument:
    allow: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class _ProjectDocument:
    name: str
    version: str | int | float = ""
    config_version: str | int | float = attrs.field(default=1, metadata={"key": "config-version"})
    description: str = ""
    production: str = "prod"
    engine: str | EngineSettings = "duckdb"
    environments: _EnvironmentsDocument = _EnvironmentsDocument()
    files: _FilesDocument = _FilesDocument()
    env_vars: tuple[str, ...] = ()


def find_root(start: Path) -> Path:
    """Return the root of the project that the folder `start` lies in, absolute.

    Raises:
        ConfigError: no project file in `start` nor above it, or no such folder.
    """
    folder = Path(os.path.abspath(start))
    if not folder.is_dir():
        raise ConfigError(f"{start} is not a folder", "name a project's folder with -C")
    for candidate in (folder, *folder.parents):
        if os.path.lexists(candidate / PROJECT_FILE):
            return candidate
    raise ConfigError(
        f"no {PROJECT_FILE} in {folder} nor in a folder above it",
        "run 'seeknal init' to make a project here, or name one with -C DIR",
    )


def load_settings(
    root: Path, trust: Trust | None = None
) -> tuple[ProjectSettings, tuple[Problem, ...]]:
    """Read the project file; give the settings that count and the warnings about it.

    Args:
        trust: None is `Trust`'s defaults: the project is trusted.

    Raises:
        ConfigError: with all mistakes of the file.
    """
    collector = Collector()
    settings, ignored = _read_settings(root, collector, trust or Trust())
    collector.check()
    assert settings is not None
    return settings, (*collector.warnings(), *ignored)


def load_project(
    root: Path,
    *,
    ignore_unsupported: bool = False,
    cache: Cache | None = None,
    trust: Trust | None = None,
) -> LoadedProject:
    """Read a whole project.

    Args:
        root: the absolute path of the project's folder.
        cache: what earlier commands parsed; it takes what this one parses.
        ignore_unsupported: leave out nodes of kinds that are not run, rather
            than report them.
        trust: None is `Trust`'s defaults: the project is trusted.

    Raises:
        ConfigError: with all mistakes of all files.
    """
    trust = trust or Trust()
    collector = Collector()
    settings, ignored = _read_settings(root, collector, trust)
    files = find_files(root, collector, places_of(root, settings, trust))
    reader = NodeReader(root, collector, cache or Cache(), ignore_unsupported=ignore_unsupported)
    reader.read(files)
    nodes: list[AnyNode] = [*reader.nodes, *_load_python(root, files, collector, trust, settings)]
    _check_unique(nodes, collector)
    collector.check()
    assert settings is not None
    counting, more = without_options(nodes, trust)
    return LoadedProject(
        settings=settings,
        nodes=counting,
        warnings=(*collector.warnings(), *ignored, *more, *ignored_files(root, trust)),
        skipped=reader.skipped,
    )


def _load_python(
    root: Path,
    files: NodeFiles,
    collector: Collector,
    trust: Trust,
    settings: ProjectSettings | None,
) -> Sequence[AnyNode]:
    if not files.python:
        return ()
    from seeknal_core.project.python.nodes import load_python_nodes

    variables = [name for name in settings.env_vars if not wrong_name(name)[0]] if settings else []
    loaded = load_python_nodes(root, files.python, trust, variables)
    collector.problems += loaded.problems
    return loaded.nodes


def _check_unique(nodes: Sequence[AnyNode], collector: Collector) -> None:
    seen: dict[str, AnyNode] = {}
    for node in nodes:
        # The engine's names do not tell upper from lower case.
        first = seen.setdefault(node.id.casefold(), node)
        if first is not node:
            what = f"node {node.id!r} is also defined" if first.id == node.id else (
                f"node {node.id!r} differs in case only from {first.id!r}, defined"
            )  # fmt: skip
            place = node.location
            message = f"{what} in {first.location}"
            hint = "rename one of the two"
            collector.problems.append(
                Problem(message, place.file, place.line, place.column, "name", hint)
            )


def _read_settings(
    root: Path, collector: Collector, trust: Trust
) -> tuple[ProjectSettings | None, tuple[Problem, ...]]:
    """Return the settings that count, and what does not."""
    refuse_links(root, [PROJECT_FILE], trust)
    try:
        document = parse_one(
            read_text(root / PROJECT_FILE, PROJECT_FILE),
            PROJECT_FILE,
            problems=collector.problems,
        )
    except ConfigError as error:
        collector.problems += error.problems
        return None, ()
    assert isinstance(document.value, Mapping)
    value = refuse_kept_elsewhere(document, document.value, trust, collector)
    value = collector.without_legacy(document, value, _LEGACY)
    fields = collector.structure(document, value, _ProjectDocument)
    if fields is None:
        return None, ()
    if not fields.name.strip() or _CONTROL.search(fields.name):
        collector.add(document, "name", "is not a project's name", "write one line of text")
    if not is_environment_name(fields.production):
        message = f"{quoted(fields.production)} is not an environment's name"
        collector.add(document, "production", message, NAME_RULE)
    if fields.environments.ttl <= timedelta(0):
        collector.add(document, "environments.ttl", "is not longer than nothing")
    settings = ProjectSettings(
        name=fields.name,
        root=str(root),
        version=str(fields.version),
        description=fields.description,
        production=fields.production.lower(),
        engine=_engine(document, fields.engine, collector),
        environment_ttl=fields.environments.ttl,
        promote=fields.environments.promote,
        unchanged=fields.environments.unchanged,
        copy_limit=_copy_limit(document, fields.environments.copy_limit, collector),
        files_allow=_files_allow(document, fields.files.allow, root, collector),
        env_vars=_env_vars(document, fields.env_vars, collector),
    )
    return narrowed(settings, document, trust, collector)


def _env_vars(document: Document, names: tuple[str, ...], collector: Collector) -> tuple[str, ...]:
    for number, name in enumerate(names):
        problem, hint = wrong_name(name)
        if problem:
            collector.add(document, f"env_vars[{number}]", problem, hint)
    return names


def _files_allow(
    document: Document, written: tuple[str, ...], root: Path, collector: Collector
) -> tuple[str, ...]:
    for number, (each, place) in enumerate(zip(written, allowed(written, root), strict=True)):
        problem = wrong_place(each, place, Places.of(root))
        if problem:
            collector.add(document, f"files.allow[{number}]", problem)
    return written


def _copy_limit(document: Document, written: str | int, collector: Collector) -> int:
    """Return a size in bytes."""
    found = _SIZE.fullmatch(str(written).strip())
    if found is None:
        message = f"{quoted(str(written))} is not a size"
        collector.add(document, "environments.copy_limit", message, "write e.g. 1GB, 500MB or 0")
        return 0
    step = 1024 if found[3] else 1000
    return int(float(found[1]) * step ** " KMGT".index((found[2] or " ").upper()))


def _engine(
    document: Document, engine: str | EngineSettings, collector: Collector
) -> EngineSettings:
    path = "engine.name"
    if isinstance(engine, str):
        path, engine = "engine", EngineSettings(name=engine)
    if engine.name not in ENGINES:
        hint = nearest(engine.name, ENGINES) or f"write engine: {ENGINES[0]}"
        message = f"{quoted(engine.name)} is not one of {', '.join(ENGINES)}"
        collector.add(document, path, message, hint)
    if engine.memory_limit is not None and not _MEMORY.fullmatch(engine.memory_limit):
        message = f"{quoted(engine.memory_limit)} is not a size"
        collector.add(document, "engine.memory_limit", message, "write e.g. 4GB or 512MiB")
    if engine.threads is not None and engine.threads < 1:
        collector.add(document, "engine.threads", "is less than 1")
    return engine
