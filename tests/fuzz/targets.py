"""The table of fuzz targets: each reads what a stranger may write.

Those of a backend are listed where it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util

from fuzz import (
    document_targets,
    files_targets,
    output_targets,
    reader_targets,
    sql_targets,
    text_targets,
)
from fuzz.target import Target

CORE: dict[str, Target] = {
    each.name: each
    for targets in (
        files_targets.TARGETS,
        text_targets.TARGETS,
        sql_targets.TARGETS,
        reader_targets.TARGETS,
        document_targets.TARGETS,
        output_targets.TARGETS,
    )
    for each in targets
}


#: Names of the backends' targets, by the distribution's module.
BACKENDS = {
    "seeknal_postgres": ("postgres_copy", "postgres_mark"),
    "seeknal_iceberg": ("iceberg_answer", "iceberg_properties"),
}


def names() -> list[str]:
    """Return the names of the targets of the core and of the backends that are installed."""
    there = [name for name in BACKENDS if importlib.util.find_spec(name)]
    return [*CORE, *(name for module in there for name in BACKENDS[module])]


def target(name: str) -> Target:
    """Return one target, importing its backend alone."""
    if name in CORE:
        return CORE[name]
    module = next(module for module, listed in BACKENDS.items() if name in listed)
    found = importlib.import_module(f"fuzz.{module.removeprefix('seeknal_')}_targets")
    listed: tuple[Target, ...] = found.TARGETS
    return next(each for each in listed if each.name == name)
