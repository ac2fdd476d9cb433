"""The engine: what computes nodes, and the store of what it computed.

`open_engine` gives an `Engine` by its name in the project file. Importing this
package loads neither DuckDB nor pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.contract.types import Cancellation
from seeknal_core.engine.protocol import AuditOutcome, Engine, NodeVariables, Output
from seeknal_core.project.specs import ENGINES, EngineSettings

__all__ = [
    "AuditOutcome",
    "Engine",
    "NodeVariables",
    "Output",
    "check_statements",
    "open_engine",
]


def open_engine(
    settings: EngineSettings,
    *,
    project_root: Path,
    snapshot_root: Path,
    scratch: Path,
    cancellation: Cancellation,
    untrusted: bool = False,
) -> Engine:
    """Open the engine that the project file names. Close it when the command ends.

    Args:
        project_root: relative paths of files and settings are relative to it.
        snapshot_root: the snapshot store's folder, the only one whose files SQL can read.
        scratch: a folder for what lives no longer than the command; created if absent.
        cancellation: a request interrupts what is running.
        untrusted: the project is a stranger's: each node's SQL gets an instance of its own,
            which can read the node's inputs and nothing else.

    Raises:
        ConfigError: no engine of that name, or a limit it does not understand.
    """
    _known(settings)
    from seeknal_core.engine.duckdb import DuckDBEngine

    return DuckDBEngine(
        settings, project_root, snapshot_root, scratch, cancellation, untrusted=untrusted
    )


def check_statements(
    settings: EngineSettings, node: str, statements: Sequence[str], inputs: Iterable[str] = ()
) -> None:
    """Parse a node's rendered statements and refuse those a node may not hold.

    Opens no file and binds no name: a missing column is found when the node runs.

    Args:
        inputs: the names of the node's inputs, as the statements have them.

    Raises:
        EngineError: the parser's message with its line, or the statement's kind by name.
    """
    _known(settings)
    from seeknal_core.engine.statements import check

    check(node, statements, inputs)


def _known(settings: EngineSettings) -> None:
    if settings.name not in ENGINES:
        raise ConfigError(
            [Problem(f"no engine named {settings.name!r}", path="engine")],
            f"write engine: {ENGINES[0]}",
        )
