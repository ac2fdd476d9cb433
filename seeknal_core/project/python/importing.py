"""Running the project's Python: importing its files, and finding the functions in them.

Only what computes a node gets here, and the child process that reads decorators whose
arguments are computed (`python_asked`).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from seeknal_core.contract.errors import EngineError, Problem
from seeknal_core.contract.types import redact
from seeknal_core.pipeline import Declaration, gather
from seeknal_core.project.python.written import Written, plain

_MODULES = "_seeknal_node_file_"
#: Folders that an earlier call put on ``sys.path``.
_paths: list[str] = []


class Functions:
    """The functions of a project's Python nodes; a file is imported when one is wanted.

    The project's folder and its ``seeknal/`` folder come first on ``sys.path`` and stay
    there, since functions may import when they are called; those of a project imported
    before, and its modules, are taken away. Thread-safe.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.RLock()
        self._active = False
        self._files: dict[Path, list[Declaration] | Problem] = {}

    def get(self, file: Path, written: Written) -> Callable[..., object]:
        """Return the function of a node.

        Args:
            written: what its decorators were read to say.

        Raises:
            EngineError: its file cannot be imported, or declares something else when it is.
        """
        with self._lock:
            if not self._active:
                activate(self._root)
                self._active = True
            if file not in self._files:
                self._files[file] = self._imported(file)
            found = self._files[file]
        if isinstance(found, Problem):
            place = f"{found.file}:{found.line}" if found.line else found.file
            raise EngineError(f"{place}: {found.message}", found.hint or "fix the file")
        for declaration in found:
            if _says(declaration) == _read(written):
                return declaration.function
        raise EngineError(
            f"{shown(file, self._root)}: {written.name}: its decorators say something else when it is imported",
            "write out what its decorators are given, or give it the same whatever the environment",
        )

    def _imported(self, file: Path) -> list[Declaration] | Problem:
        return import_file(self._root, file, f"{_MODULES}{len(self._files)}_{file.stem}")


def shown(file: Path, root: Path) -> str:
    """Name a file in messages."""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def activate(root: Path) -> None:
    """Make the project's modules importable, and forget those imported before."""
    for path in _paths:
        if path in sys.path:
            sys.path.remove(path)
    folders = [Path(path) for path in {*_paths, str(root)}]
    for name, module in list(sys.modules.items()):
        if name.startswith(_MODULES) or _is_below(module, folders):
            del sys.modules[name]
    _paths[:] = [str(root), str(root / "seeknal")]
    sys.path[:0] = _paths
    importlib.invalidate_caches()


def _is_below(module: object, folders: Sequence[Path]) -> bool:
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


def import_file(root: Path, file: Path, name: str) -> list[Declaration] | Problem:
    """Import a file and return what its own functions declare, or why it can't be imported.

    Args:
        name: the module's, which no other file has.
    """
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
        return failure(error, root, shown(file, root))
    finally:
        sys.dont_write_bytecode = writes
    return [found for found in declarations if _module_of(found.function) == name]


def _module_of(function: Callable[..., object]) -> str:
    return getattr(function, "__module__", "") or ""


def _says(declaration: Declaration) -> tuple[object, ...]:
    """Return a declaration's function and options, as far as its lines don't matter."""
    return (
        getattr(declaration.function, "__qualname__", ""),
        [(kind, plain(use.options)) for kind, use in declaration.kinds],
        [plain(use.options) for use in declaration.targets],
    )


def _read(written: Written) -> tuple[object, ...]:
    return (
        written.qualname,
        [(kind, use.options) for kind, use in written.kinds],
        [use.options for use in written.targets],
    )


def failure(error: BaseException, root: Path, file: str) -> Problem:
    """Return what the user's code raised, and in which of the user's lines."""
    line = 0
    if isinstance(error, SyntaxError) and error.filename:
        place = Path(error.filename)
        if place.is_relative_to(root):
            return syntax_problem(error, place.relative_to(root).as_posix())
    for frame in traceback.extract_tb(error.__traceback__):
        place = Path(frame.filename)
        inside = place.relative_to(root).parts if place.is_relative_to(root) else ()
        if inside and "site-packages" not in inside:
            file, line = Path(*inside).as_posix(), frame.lineno or 0
    text = redact(str(error)).strip()
    message = f"{type(error).__name__}: {text}" if text else type(error).__name__
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = f"install what provides {error.name!r}, or fix the import" if error.name else ""
    return Problem(message, file, line, hint=hint)


def syntax_problem(error: SyntaxError, file: str) -> Problem:
    """Return the problem of a file that is no Python."""
    message = f"{type(error).__name__}: {redact(error.msg)}"
    return Problem(message, file, error.lineno or 0, error.offset or 0)
