"""Reading the files of Python nodes, without running them.

What their decorators say is held to the rules that hold for YAML. The functions
themselves are imported when they are called (`python_import`).
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.contract.types import Location
from seeknal_core.pipeline import Use
from seeknal_core.project.covers import read_covers, with_covers
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.nodes import check_name
from seeknal_core.project.params import read_audits, read_columns
from seeknal_core.project.python.asked import ask
from seeknal_core.project.python.code import Modules, read_code
from seeknal_core.project.python.importing import Functions, shown, syntax_problem
from seeknal_core.project.python.written import Computed, Written, read_written
from seeknal_core.project.specs import PythonNode
from seeknal_core.project.targets import read_targets
from seeknal_core.project.trust import Trust
from seeknal_core.project.yaml import Document, Place


@attrs.frozen(kw_only=True)
class PythonLoad:
    """The nodes of the files that were loaded, and all mistakes in them."""

    nodes: tuple[PythonNode, ...]
    problems: tuple[Problem, ...]


def load_python_nodes(
    root: Path, files: Sequence[Path], trust: Trust, variables: Sequence[str] = ()
) -> PythonLoad:
    """Read the nodes that files of a project declare; import none of them here.

    Files whose names start with ``_`` and those below ``seeknal/common/`` hold no nodes
    and are left alone. Those whose decorators are given something computed are imported
    in a child process, where the project's Python may run.

    Args:
        root: the absolute path of the project's folder.
        files: absolute paths below it.
        variables: names of environment variables that decorators may read.
    """
    reader = _Files(root, trust, variables)
    common = root / "seeknal" / "common"
    own = [file for file in files if not (file.name.startswith("_") or file.is_relative_to(common))]
    nodes = reader.read(own)
    return PythonLoad(nodes=tuple(nodes), problems=tuple(reader.collector.problems))


class _Files:
    """Reads the Python files of a project; mistakes go to the collector."""

    def __init__(self, root: Path, trust: Trust, variables: Sequence[str]) -> None:
        self.collector = Collector()
        self._variables = variables
        self._root = root
        self._trust = trust
        self._modules = Modules(root, inside=trust.untrusted)
        self._functions = Functions(root)
        self._broken: set[Path] = set()

    def read(self, files: Sequence[Path]) -> list[PythonNode]:
        """Return the nodes of files, in the files' order."""
        found: dict[Path, list[Written]] = {}
        computed: list[Path] = []
        for file in files:
            try:
                found[file] = read_written(file, self._modules, strict=self._trust.python)
            except Computed as reason:
                if self._trust.python:
                    computed.append(file)
                else:
                    self._refuse(file, reason)
            except SyntaxError as error:
                self._add(syntax_problem(error, shown(file, self._root)))
            except TypeError as error:
                line = getattr(error, "lineno", 0)
                self._add(Problem(f"TypeError: {error}", shown(file, self._root), line))
            except (RecursionError, MemoryError):
                self._add(Problem("is nested too deeply to be read", shown(file, self._root)))
            except (ValueError, OSError) as error:
                self._add(Problem(f"cannot be read: {error}", shown(file, self._root)))
        if computed:
            self._ask(computed, found)
        return [node for file in files for node in self._nodes(file, found.get(file, []))]

    def _add(self, problem: Problem) -> None:
        self.collector.problems.append(problem)

    def _refuse(self, file: Path, reason: Computed) -> None:
        self._add(
            Problem(
                f"{reason.why}, so only running the file tells its nodes, and with"
                f" {self._trust.why_no_python} no Python of the project runs",
                shown(file, self._root),
                reason.line,
                hint="write out what the decorators are given",
            )
        )

    def _ask(self, files: Sequence[Path], found: dict[Path, list[Written]]) -> None:
        try:
            answers = ask(self._root, files, self._variables)
        except ConfigError as error:
            for problem in error.problems:
                self._add(problem._replace(hint=problem.hint or error.hint))
            return
        for file, answer in answers.items():
            if isinstance(answer, Problem):
                self._add(answer)
            else:
                found[file] = answer

    def _nodes(self, file: Path, declared: Sequence[Written]) -> list[PythonNode]:
        if not declared:
            return []
        try:
            code = read_code(file, self._root, self._modules)
        except RecursionError:
            self._add(Problem("is nested too deeply to be read", shown(file, self._root)))
            return []
        self._look_for_broken(file)
        nodes = []
        functions = collections.Counter(written.qualname for written in declared)
        for written in declared:
            load = functools.partial(_load, self._functions, self._trust, file, written)
            node = _node(written, shown(file, self._root), load, self.collector)
            if node is not None:
                nodes.append(
                    attrs.evolve(
                        node,
                        code_digest=code.digest,
                        has_namesake=functions[written.qualname] > 1,
                        context_names=code.context_names,
                        volatile=code.volatile,
                        sql_texts=code.sql_texts,
                    )
                )
        return nodes

    def _look_for_broken(self, file: Path) -> None:
        """Report modules of the project that `file` imports and that are no Python."""
        for module in self._modules.imported(file):
            if module in self._broken:
                continue
            try:
                self._modules.tree(module)
            except SyntaxError as error:
                self._broken.add(module)
                self._add(syntax_problem(error, shown(module, self._root)))
            except ValueError as error:
                self._broken.add(module)
                self._add(Problem(f"cannot be read: {error}", shown(module, self._root)))


def _load(
    functions: Functions, trust: Trust, file: Path, written: Written
) -> Callable[..., object]:
    """Import a node's file and return its function.

    Raises:
        ConfigError: the project's Python may not run.
        EngineError: the file cannot be imported.
    """
    if not trust.python:
        raise ConfigError(
            f"{written.name} would have to be computed, and with {trust.why_no_python} no Python"
            " of the project runs"
        )
    return functions.get(file, written)


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


def _node(
    written: Written, file: str, load: Callable[[], Callable[..., object]], collector: Collector
) -> PythonNode | None:
    """Make a node of what its decorators say, by the rules that hold for YAML."""
    if len(written.kinds) != 1:
        line = (written.kinds or [("", written.targets[0])])[0][1].line
        said = "is a node twice" if written.kinds else "has @materialize alone"
        collector.problems.append(
            Problem(
                f"{written.name} {said}", file, line, hint="give it one of @source and @transform"
            )
        )
        return None
    kind, use = written.kinds[0]
    targets = sorted(written.targets, key=lambda target: target.line)
    value = {"name": written.name, **use.options}
    document = _document(file, use, targets, value)
    fields = collector.structure(
        document, value, _TransformFields if kind == "transform" else _SourceFields
    )
    name = value["name"]
    if isinstance(name, str):
        check_name(document, name, collector)
    options = {"materializations": [target.options for target in targets]}
    columns = read_columns(document, value, collector)
    audits = read_audits(document, value, collector)
    specs = read_targets(document, options, f"{kind}.{name}", collector) if targets else ()
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
        load=load,
        qualname=written.qualname,
        text=written.text,
        node_kind=kind,
        inputs=fields.inputs if isinstance(fields, _TransformFields) else (),
    )


def _document(file: str, use: Use, targets: Sequence[Use], value: Mapping[str, object]) -> Document:
    places = {"": Place(use.line, 1)}
    for index, target in enumerate(targets):
        places[f"materializations[{index}]"] = Place(target.line, 1)
    return Document(file=file, value=value, places=places)
