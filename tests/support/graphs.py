"""The benchmarks' project of layered models, for tests that need a large graph."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol, cast


class Generator(Protocol):
    """What ``bench/graph_project.py`` offers; the folder itself is on no test's path."""

    model_names: Callable[[int], list[list[str]]]
    parents_of: Callable[[int], dict[str, list[str]]]
    write_project: Callable[[Path, int, Mapping[str, object]], None]
    write_model: Callable[[Path, str, Collection[str], int], None]


def generator() -> Generator:
    """Load the generator from the repository."""
    path = Path(__file__).parents[2] / "bench" / "graph_project.py"
    spec = importlib.util.spec_from_file_location("graph_project", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("Generator", module)
