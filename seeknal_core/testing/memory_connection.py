"""The reference backend's connections, and what all its hooks need of a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from seeknal_core.contract.errors import BackendError, Unreachable
from seeknal_core.contract.types import Connection, ExecutionContext, QualifiedName, Secret
from seeknal_core.testing.memory_store import Busy, Place, Table, Transaction, WrongPassword


@attrs.frozen(kw_only=True)
class MemoryOptions:
    """What a profile says of a connection."""

    path: str = attrs.field(metadata={"doc": "the store's file, relative to the project"})
    password: Secret | None = attrs.field(default=None, metadata={"doc": "opens the store"})


@attrs.frozen(kw_only=True)
class MemoryConnection(Connection):
    """A resolved connection; ``path`` is absolute."""

    path: str
    password: Secret | None = None

    def describe(self) -> dict[str, str]:
        """Return type and path."""
        return {"type": self.type, "path": self.path}

    def bindings(self) -> dict[str, str]:
        """Return what decides where the connection leads."""
        return {"type": self.type, "path": self.path}


def connection_of(context: ExecutionContext) -> MemoryConnection:
    """Return the connection of a call."""
    assert isinstance(context.connection, MemoryConnection)
    return context.connection


def opened(context: ExecutionContext) -> tuple[Path, str | None]:
    """Return the store's file and its password."""
    found = connection_of(context)
    return Path(found.path), found.password.reveal() if found.password else None


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the store raises into errors of the core."""
    hint = "seeknal check --connections"
    try:
        yield
    except (OSError, Busy) as error:
        raise Unreachable(f"the store does not answer: {error}", hint) from error
    except WrongPassword as error:
        raise BackendError(str(error), "fix the password in the profile") from error


def place_of(context: ExecutionContext) -> Place:
    """Return whose a call's tables are."""
    return (context.project, context.environment.name)


def is_ours(context: ExecutionContext, table: Table) -> bool:
    """Return whether a table is the call's project's and environment's."""
    owner = table.owner
    return owner is not None and (owner.project, owner.environment) == place_of(context)


def named(parts: tuple[str, ...]) -> QualifiedName:
    """Return a name with its text."""
    return QualifiedName(parts=parts, quoted=quoted(parts))


def quoted(parts: tuple[str, ...]) -> str:
    """Return a name's text, each part in quotes."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def roll_back(prepared: list[Transaction]) -> None:
    """Let go of prepared transactions."""
    while prepared:
        prepared.pop().close()
