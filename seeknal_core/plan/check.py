"""``seeknal check``: everything that can be wrong before something runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from seeknal_core.contract.errors import ConfigError, EngineError, Problem, SeeknalError
from seeknal_core.contract.types import problem_at
from seeknal_core.plan.bindings import bindings_digest
from seeknal_core.plan.check_names import engine_version, name_problems
from seeknal_core.plan.keys import expanded_source, is_remote
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.project.specs import FILE_TYPES, PythonNode, SourceNode, SqlNode
from seeknal_core.workspace.bindings import bind, load_plugins
from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class CheckResult:
    """A project without mistakes: how much there is of it, and what to look at."""

    nodes: int
    targets: int
    warnings: tuple[str, ...]


@attrs.frozen(kw_only=True)
class ConnectionCheck:
    """What a connection said. ``hint`` is set where it did not answer."""

    name: str
    type: str
    answered: bool
    said: str
    hint: str = ""


def check_project(session: Session) -> CheckResult:
    """Validate all nodes, options, bindings and statements; connect to nothing.

    Raises:
        ConfigError: all mistakes, backends that cannot be used among them.
    """
    nodes = list(session.graph.nodes.values())
    warnings = [str(warning) for warning in session.warnings]
    warnings += [str(failure) for failure in load_plugins(session, nodes)]
    warnings += _unknown_types(session)
    problems: list[Problem] = []
    hint = ""
    targets = 0
    try:
        bound = bind(session, nodes).targets
        targets = len(bound)
        problems += _twin_targets(bound.values())
    except ConfigError as error:
        problems += error.problems
        hint = error.hint
    wrong = _statement_problems(session)
    problems += wrong + _path_problems(session) + _missing_modules(session)
    if not wrong:
        problems += name_problems(session)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)), hint)
    return CheckResult(nodes=len(nodes), targets=targets, warnings=tuple(warnings))


def _unknown_types(session: Session) -> list[str]:
    """Name the profile's connections of types that no installed backend provides."""
    found: list[str] = []
    for name, spec in session.profile.connections.items():
        missing = session.dispatcher.host.missing(spec.type)
        if missing is not None:
            path = f"connections.{name}.type"
            found.append(str(problem_at(spec.locations.get("type"), missing.message, path=path)))
    return found


def _statement_problems(session: Session) -> list[Problem]:
    """Expand and parse every SQL node by the engine's own parser."""
    from seeknal_core.graph import render

    problems: list[Problem] = []
    for node in session.graph.nodes.values():
        if not isinstance(node, SqlNode):
            continue
        place = node.sql_location
        try:
            rendered = render(node, session.graph.inputs[node.id], session.variables)
            _check(session, node, rendered.placed())
        except ConfigError as error:
            problems += error.problems
        except SeeknalError as error:
            message = error.message.removeprefix(f"{node.id}: ")
            line = place.line
            if isinstance(error, EngineError) and error.line:
                message = re.sub(rf"^line {error.line}(, |: )", "", message)
                line += error.line - 1
            problems.append(Problem(message, place.file, line, path=node.id, hint=error.hint))
    return problems


def _check(session: Session, node: SqlNode, placed: Sequence[str]) -> None:
    """Check a node's statements; that they are fine is remembered by their text and inputs.

    Raises:
        EngineError: they are not.
    """
    from seeknal_core.engine import check_statements
    from seeknal_core.graph.texts import texts

    inputs = session.graph.inputs[node.id]
    parts = ("statements", engine_version(), json.dumps([list(placed), list(inputs)]))
    if texts.recall(*parts) is None:
        check_statements(session.settings.engine, node.id, placed, inputs)
        texts.remember(True, *parts)


def _twin_targets(targets: Iterable[ResolvedTarget]) -> list[Problem]:
    """Find targets that write one table, as far as that shows without asking a store."""
    seen: dict[tuple[str, str], ResolvedTarget] = {}
    problems: list[Problem] = []
    for each in targets:
        place = (bindings_digest(each.connection), str(each.target.name))
        first = seen.setdefault(place, each)
        if first is not each:
            message = f"{each.target.name} is a target of {first.target.node} too"
            where = each.spec.location
            problems.append(
                problem_at(where, message, path=each.target.node, hint="give each its own table")
            )
    return problems


def _path_problems(session: Session) -> list[Problem]:
    """Find sources whose paths have ``key=value`` folders of which nobody said what they are."""
    from seeknal_core.engine.files.find import resolve_files
    from seeknal_core.engine.sources.hive import decided
    from seeknal_core.project.formats import read_params

    root = Path(session.settings.root)
    problems: list[Problem] = []
    for node in session.graph.nodes.values():
        if not isinstance(node, SourceNode) or node.type not in FILE_TYPES or is_remote(node):
            continue
        try:
            source = expanded_source(session, node)
            hive = read_params(source.type, source.params).hive
            decided(source, hive, resolve_files(source, root, root, places=session.places))
        except ConfigError as error:
            problems += error.problems
        except EngineError:
            continue  # No file yet: a run will say so.
    return problems


def _missing_modules(session: Session) -> list[Problem]:
    """Find modules that Python nodes import at the top of their files, and nobody installed.

    Nothing is imported for that.
    """
    import ast
    import importlib.util
    import sys

    root = Path(session.settings.root)
    python = [node for node in session.graph.nodes.values() if isinstance(node, PythonNode)]
    problems: list[Problem] = []
    for file in sorted({node.location.file for node in python if session.trust.python}):
        for statement in ast.parse((root / file).read_bytes()).body:
            names: list[str] = []
            if isinstance(statement, ast.Import):
                names = [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and not statement.level:
                names = [statement.module or ""]
            for first in {name.partition(".")[0] for name in names}:
                own = [root / first, root / "seeknal" / first]
                is_own = any(place.is_dir() or place.with_suffix(".py").is_file() for place in own)
                if not (is_own or first in sys.modules or importlib.util.find_spec(first)):
                    what = f"ModuleNotFoundError: No module named {first!r}"
                    hint = f"install what provides {first!r}, or fix the import"
                    problems.append(Problem(what, file, statement.lineno, hint=hint))
    return problems


def check_connections(session: Session, write: bool = False) -> tuple[ConnectionCheck, ...]:
    """Try every connection of the profile, one after the other.

    Args:
        write: also make something in each store, and remove it again.
    """
    results: list[ConnectionCheck] = []
    for name, spec in session.profile.connections.items():
        try:
            session.dispatcher.host.load_backends([spec.type])
            connection = session.dispatcher.resolve_profile(session.context, spec)
            said = session.dispatcher.check_connection(session.context, connection, write)
        except SeeknalError as error:
            # The usual hint of an unreachable store is this very command.
            hint = error.hint
            if "check --connections" in hint:
                hint = f"fix connections.{name} in {session.profile.path}, or start the server"
            results.append(
                ConnectionCheck(
                    name=name, type=spec.type, answered=False, said=str(error), hint=hint
                )
            )
        else:
            results.append(ConnectionCheck(name=name, type=spec.type, answered=True, said=said))
    return tuple(results)


def second_wall() -> str:
    """Return whether the system keeps the SQL of untrusted projects from files, too."""
    from seeknal_core.engine.walled import describe

    return describe()
