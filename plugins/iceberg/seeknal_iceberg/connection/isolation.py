"""Keep pyiceberg's own configuration file out of what this backend does.

pyiceberg reads ``.pyiceberg.yaml`` of ``PYICEBERG_HOME``, of the home folder or of the
working folder, at its import and again in many of its calls: a catalog of another name's
properties, or a flag that rounds timestamps, would count here, and a file that does not
parse would end every command. A project's profile says everything. Code of a user that
works with pyiceberg in the same process still has its file.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import FrameType, ModuleType
from typing import Any

_MODULE = "pyiceberg.utils.config"
#: Modules between a caller and the file; who has only these is a worker of pyiceberg's.
_BETWEEN = ("pyiceberg", "concurrent", "threading", "importlib", "_frozen", "pydantic", "tenacity")


def isolate() -> None:
    """Have pyiceberg's file not read for this backend, now or once pyiceberg is imported."""
    module = sys.modules.get(_MODULE)
    if module is not None:
        _change(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _change(module: ModuleType) -> None:
    config: Any = getattr(module, "Config", None)
    read = getattr(config, "_from_configuration_files", None)
    if read is None or getattr(read, "is_isolated", False):
        return

    def isolated() -> Any:
        return read() if is_anothers(sys._getframe(1)) else None

    isolated.is_isolated = True  # type: ignore[attr-defined]
    config._from_configuration_files = staticmethod(isolated)


def is_anothers(frame: FrameType | None) -> bool:
    """Return whether somebody but this backend calls."""
    others = False
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        package = name.partition(".")[0]
        if package == "seeknal_iceberg" and name != __name__:
            return False
        others = others or (package not in _BETWEEN and name != __name__)
        frame = frame.f_back
    return others


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._real.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        _change(module)
