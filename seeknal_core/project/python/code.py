"""What the code of a Python node is, without running it.

A Python node counts with its module and every module of the project that it imports
(``docs/projects.md``, "Python nodes"). Imports are found by reading the source; one that is made
up at run time (``importlib.import_module(name)``) is not seen.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.files.regular import read_regular
from seeknal_core.project.documents import relative

#: Attributes of a node's context that give more than the node's inputs.
CONTEXT_NAMES = ("env_name", "run_id", "today", "var")

#: Modules or classes and what they give another answer to in the next run.
_CLOCKS = frozenset(
    {
        ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
        ("time", "time"), ("time", "time_ns"), ("Timestamp", "now"), ("Timestamp", "today"),
        ("Timestamp", "utcnow"), ("uuid", "uuid1"), ("uuid", "uuid4"), ("os", "urandom"),
    }
)  # fmt: skip
#: The same, where they are given no time of the caller's.
_CLOCKS_BY_DEFAULT = frozenset({("time", "localtime"), ("time", "gmtime"), ("time", "ctime")})
#: Names under ``random`` that do not draw from the unseeded generator.
_NOT_DRAWING = frozenset(
    {"seed", "default_rng", "Random", "RandomState", "Generator", "SystemRandom", "getstate"}
)


@attrs.frozen(kw_only=True)
class Code:
    """What a module and the project modules that it imports hold.

    ``digest`` is SHA-256 in hexadecimal. ``context_names`` are those of
    `CONTEXT_NAMES` that are asked of anything. ``volatile`` names Python functions
    that give another answer in the next run: clocks, and ``random`` where nothing is
    seeded. ``sql_texts`` are the texts given to ``.sql(...)``, as far as they are written out.
    """

    digest: str
    context_names: tuple[str, ...]
    volatile: tuple[str, ...]
    sql_texts: tuple[str, ...]


class Modules:
    """The modules of the project at `root`, each read and parsed once.

    Args:
        inside: leave out modules that links lead to from outside of the project.
    """

    def __init__(self, root: Path, *, inside: bool = False) -> None:
        self._root = root
        self._real = os.path.realpath(root) if inside else ""
        self._sources: dict[Path, bytes] = {}
        self._trees: dict[Path, ast.Module] = {}
        self._imported: dict[Path, list[Path]] = {}
        self._edges: dict[Path, list[Path]] = {}

    def source(self, file: Path) -> bytes:
        """Return the bytes of a module.

        Raises:
            ConfigError: it is a pipe, a device, or can't be read.
        """
        if file not in self._sources:
            try:
                self._sources[file] = read_regular(file)
            except OSError as error:
                what = f"cannot be read: {error.strerror or error}"
                raise ConfigError([Problem(what, relative(file, self._root))]) from None
        return self._sources[file]

    def text(self, file: Path) -> str:
        """Return the text of a module that is known to compile."""
        return importlib.util.decode_source(self.source(file))

    def tree(self, file: Path) -> ast.Module:
        """Parse a module.

        Raises:
            SyntaxError, ValueError: it is no Python.
        """
        if file not in self._trees:
            self._trees[file] = ast.parse(self.source(file), str(file))
        return self._trees[file]

    def imported(self, file: Path) -> list[Path]:
        """List the project's modules that `file` imports, directly or not, in a fixed order."""
        if file in self._imported:
            return self._imported[file]
        seen = {file}
        waiting = [file]
        while waiting:
            for path in self._edges_of(waiting.pop()):
                if path not in seen:
                    seen.add(path)
                    waiting.append(path)
        self._imported[file] = sorted(seen - {file})
        return self._imported[file]

    def _edges_of(self, module: Path) -> list[Path]:
        if module not in self._edges:
            try:
                found = dict.fromkeys(self.direct(self.tree(module), module))
            except (SyntaxError, ValueError):  # its import fails, or is never reached
                found = {}
            inside = f"{self._real}/"
            self._edges[module] = [p for p in found if os.path.realpath(p).startswith(inside)]
        return self._edges[module]

    def direct(self, tree: ast.Module, module: Path) -> Iterator[Path]:
        """Return the project's modules that the imports in `tree`, a part of `module`, run."""
        bases = (self._root, self._root / "seeknal")
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from _files(bases, alias.name.split("."))
            elif isinstance(node, ast.ImportFrom):
                names = node.module.split(".") if node.module else []
                folders: Sequence[Path] = bases
                if node.level:
                    folder = module.parent
                    for _ in range(node.level - 1):
                        folder = folder.parent
                    if not folder.is_relative_to(self._root):
                        continue
                    folders = (folder,)
                yield from _files(folders, names)
                for alias in node.names:
                    yield from _files(folders, [*names, alias.name])


def read_code(file: Path, root: Path, modules: Modules) -> Code:
    """Read a module of the project at `root`, which is known to compile."""
    digest = hashlib.sha256()
    found = _Names()
    for path in (file, *modules.imported(file)):
        source = modules.source(path).replace(b"\r\n", b"\n")
        # A node's own file may move; where another module stands decides what it is.
        name = "" if path == file else path.relative_to(root).as_posix()
        digest.update(f"{name}\0{len(source)}\0".encode() + source)
        found.imported = {}
        with contextlib.suppress(SyntaxError, ValueError):  # its import fails, or is never reached
            found.visit(modules.tree(path))
    volatile = [name for name in found.volatile if not (found.seeded and name == "random")]
    return Code(
        digest=digest.hexdigest(),
        context_names=tuple(name for name in CONTEXT_NAMES if name in found.context_names),
        volatile=tuple(dict.fromkeys(volatile)),
        sql_texts=tuple(found.sql_texts),
    )


def _files(folders: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    """Return the files that importing a dotted name runs, those of its packages included."""
    for folder in folders:
        place = folder
        for name in names:
            place = place / name
            for path in (place / "__init__.py", place.with_name(f"{name}.py")):
                if path.is_file():
                    yield path


class _Names(ast.NodeVisitor):
    """Collects what `Code` has to know of a module's names."""

    def __init__(self) -> None:
        self.context_names: set[str] = set()
        self.volatile: list[str] = []
        self.sql_texts: list[str] = []
        self.seeded = False
        #: What a name of the module that is being read was imported as.
        self.imported: dict[str, list[str]] = {}

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self.imported[alias.asname] = alias.name.split(".")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            whole = f"{node.module or ''}.{alias.name}"
            self.imported[alias.asname or alias.name] = whole.split(".")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in CONTEXT_NAMES:
            self.context_names.add(node.attr)
        self.seeded = self.seeded or node.attr == "seed"
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        names = _dotted(node.func)
        if names[-1:] == ["getattr"] and len(node.args) > 1:
            match node.args[1]:
                case ast.Constant(value=str(name)) if name in CONTEXT_NAMES:
                    self.context_names.add(name)
        if names[-1:] == ["sql"] and len(names) > 1 and node.args:
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    self.sql_texts.append(part.value)
        names = [*self.imported.get(names[0], names[:1]), *names[1:]]
        self.seeded = self.seeded or names[-2:] == ["random", "seed"]
        called = tuple(names[-2:])
        if called in _CLOCKS or (called in _CLOCKS_BY_DEFAULT and not node.args):
            self.volatile.append(names[-1])
        if names[-2:-1] == ["random"] and names[-1] not in _NOT_DRAWING:
            self.volatile.append("random")
        if names[-2:-1] == ["secrets"]:
            self.volatile.append("secrets")
        self.generic_visit(node)


def _dotted(node: ast.expr) -> list[str]:
    """Return the names of ``a.b.c``; ``["", "c"]`` where it starts with something else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    names.append(node.id if isinstance(node, ast.Name) else "")
    return names[::-1]
