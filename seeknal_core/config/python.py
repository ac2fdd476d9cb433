"""Loading the files of Python nodes.

They are imported, each under a name of its own; what their decorators say is held to
the rules that hold for YAML.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.config.checks import read_audits, read_columns
from seeknal_core.config.collect import Collector
from seeknal_core.config.covers import read_covers, with_covers
from seeknal_core.config.nodes import check_name
from seeknal_core.config.python_code import read_code
from seeknal_core.config.targets import read_targets
from seeknal_core.config.yaml import Document, Place
from seeknal_core.errors import Problem
from seeknal_core.pipeline import Declaration, Use, gather
from seeknal_core.specs import PythonNode
from seeknal_core.types import Location, redact

_MODULES = "_seeknal_node_file_"
#: Folders that an earlier call put on ``sys.path``.
_paths: list[str] = []


@attrs.frozen(kw_only=True)
class PythonLoad:
    """The nodes of the files that were loaded, and all mistakes in them."""

    nodes: tuple[PythonNode, ...]
    problems: tuple[Problem, ...]


def load_python_nodes(root: Path, files: Sequence[Path]) -> PythonLoad:
    """Import files of a project and gather the nodes they declare.

    Each file is imported under a name of its own. The project's folder and its
    ``seeknal/`` folder come first on ``sys.path`` and stay there, since functions may
    import when they are called; those of a project loaded before, and its modules,
    are taken away. Files whose names start with ``_`` and those below
    ``seeknal/common/`` hold no nodes and are left alone.

    Args:
        root: the absolute path of the project's folder.
        files: absolute paths below it.
    """
    collector = Collector()
    nodes: list[PythonNode] = []
    _activate(root)
    for number, file in enumerate(files):
        if file.name.startswith("_") or file.is_relative_to(root / "seeknal" / "common"):
            continue
        nodes += _load_file(root, file, f"{_MODULES}{number}_{file.stem}", collector)
    return PythonLoad(nodes=tuple(nodes), problems=tuple(collector.problems))


def _activate(root: Path) -> None:
    """Make the project's modules importable, and forget those loaded before."""
    for path in _paths:
        if path in sys.path:
            sys.path.remove(path)
    folders = [Path(path) for path in {*_paths, str(root)}]
    for name, module in list(sys.modules.items()):
        if name.startswith(_MODULES) or _is_below(module, folders, root):
            del sys.modules[name]
    _paths[:] = [str(root), str(root / "seeknal")]
    sys.path[:0] = _paths
    importlib.invalidate_caches()


def _is_below(module: object, folders: Sequence[Path], root: Path) -> bool:
    """Whether a module is of one of these folders, and not of an environment inside them."""
    places = [getattr(module, "__file__", None), *(getattr(module, "__path__", None) or ())]
    for place in places:
        if not isinstance(place, str):
            continue
        for folder in folders:
            if Path(place).is_relative_to(folder):
                inside = Path(place).relative_to(folder).parts
                return not any(part in ("site-packages", "dist-packages") for part in inside)
    return False


def _load_file(root: Path, file: Path, name: str, collector: Collector) -> list[PythonNode]:
    shown = file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with gather() as declarations:
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        collector.problems.append(_failure(error, root, shown))
        return []
    finally:
        sys.dont_write_bytecode = writes
    own = [found for found in declarations if _module_of(found.function) == name]
    if not own:
        return []
    code = read_code(file, root)
    nodes = []
    for declaration in own:
        node = _node(declaration, shown, collector)
        if node is not None:
            nodes.append(
                attrs.evolve(
                    node,
                    code_digest=code.digest,
                    context_names=code.context_names,
                    volatile=code.volatile,
                    sql_texts=code.sql_texts,
                )
            )
    return nodes


def _module_of(function: Callable[..., object]) -> str:
    return getattr(function, "__module__", "") or ""


def _failure(error: BaseException, root: Path, shown: str) -> Problem:
    """Say what the user's code raised, and in which of the user's lines."""
    file, line = shown, 0
    if isinstance(error, SyntaxError) and error.filename:
        place = Path(error.filename)
        if place.is_relative_to(root):
            file, line = place.relative_to(root).as_posix(), error.lineno or 0
            text = error.msg
            return Problem(f"{type(error).__name__}: {redact(text)}", file, line, error.offset or 0)
    for frame in traceback.extract_tb(error.__traceback__):
        place = Path(frame.filename)
        inside = place.relative_to(root).parts if place.is_relative_to(root) else ()
        if inside and "site-packages" not in inside:
            file, line = Path(*inside).as_posix(), frame.lineno or 0
    text = redact(str(error)).strip()
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = f"install what provides {error.name!r}, or mend the import" if error.name else ""
    return Problem(message, file, line, hint=hint)


@attrs.frozen(kw_only=True)
class _SourceFields:
    """The options of a node; those of type ``object`` are read by functions of their own."""

    name: str
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    columns: object = None
    schema: object = None
    contract: bool = False
    audits: object = None


@attrs.frozen(kw_only=True)
class _TransformFields(_SourceFields):
    inputs: tuple[str, ...] = ()
    covers: object = None


def _node(declaration: Declaration, file: str, collector: Collector) -> PythonNode | None:
    """Make a node of what its decorators said, by the rules that hold for YAML."""
    function = declaration.function
    if len(declaration.kinds) != 1:
        line = (declaration.kinds or [("", declaration.targets[0])])[0][1].line
        said = "is a node twice" if declaration.kinds else "has @materialize alone"
        name = getattr(function, "__name__", "a function")
        collector.problems.append(
            Problem(f"{name} {said}", file, line, hint="give it one of @source and @transform")
        )
        return None
    kind, use = declaration.kinds[0]
    targets = sorted(declaration.targets, key=lambda target: target.line)
    value = {"name": getattr(function, "__name__", None), **_plain(use.options)}
    document = _document(file, use, targets, value)
    fields = collector.structure(
        document, value, _TransformFields if kind == "transform" else _SourceFields
    )
    name = value["name"]
    if isinstance(name, str):
        check_name(document, name, collector)
    written = {"materializations": [_plain(target.options) for target in targets]}
    columns = read_columns(document, value, collector)
    audits = read_audits(document, value, collector)
    specs = read_targets(document, written, f"{kind}.{name}", collector) if targets else ()
    covers = read_covers(document, value, collector) if kind == "transform" else None
    if fields is None:
        return None
    return PythonNode(
        name=fields.name,
        location=Location(file=file, line=use.line, column=1),
        description=fields.description,
        owner=fields.owner,
        tags=fields.tags,
        columns=columns,
        contract=fields.contract,
        audits=audits,
        **with_covers(covers, specs),
        function=function,
        node_kind=kind,
        inputs=fields.inputs if isinstance(fields, _TransformFields) else (),
    )


def _document(file: str, use: Use, targets: Sequence[Use], value: Mapping[str, object]) -> Document:
    places = {"": Place(use.line, 1)}
    for index, target in enumerate(targets):
        places[f"materializations[{index}]"] = Place(target.line, 1)
    return Document(file=file, value=value, places=places)


def _plain(value: Any) -> Any:
    """Turn Python's values into those that YAML has."""
    match value:
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case str():
            return value
        case tuple() | list():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted(_plain(item) for item in value)
        case Enum():
            return _plain(value.value)
        case date():
            return value.isoformat()
        case timedelta():
            return f"{int(value.total_seconds())}s"
        case _:
            return value
