"""The exception families of Seeknal.

Every failure that a user can meet is one of these. An error says what is
wrong and where; its ``hint`` is the next thing to type. Nothing here imports
another module of the project, so that every layer may raise them.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "AuditFailed",
    "BackendBroken",
    "BackendError",
    "BackendNotInstalled",
    "CollisionRefused",
    "ConfigError",
    "DamagedOutput",
    "DamagedSource",
    "EngineError",
    "EnvironmentStateError",
    "ExitCode",
    "GraphError",
    "HookContractError",
    "Interrupted",
    "NamespaceRefused",
    "NotApplied",
    "OptionError",
    "PluginError",
    "Problem",
    "PromotionFailed",
    "PromotionInterrupted",
    "ProtectedEnvironment",
    "ResourcesExhausted",
    "SeeknalError",
    "StalePlan",
    "StaleStage",
    "StateError",
    "UnknownEnvironment",
    "Unreachable",
    "VerificationFailed",
    "WriteRefused",
    "exhausted",
]


class ExitCode(enum.IntEnum):
    """How a command ended, for scripts and schedulers. `meaning` is the sentence in the docs."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    STALE = 3
    UNVERIFIED = 4
    UNFINISHED = 5
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """What the code says to whoever called the command."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "something failed",
    ExitCode.USAGE: "wrong usage or configuration; nothing was begun",
    ExitCode.STALE: "out of date, moved, locked, or (`--exit-code`) changed",
    ExitCode.UNVERIFIED: "verification failed; nothing was published",
    ExitCode.UNFINISHED: "stopped in the middle of publishing; run the command again",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C",
}


class Problem(NamedTuple):
    """One mistake in the user's input, with the place it stands at.

    ``file`` is relative to the project root where that is possible; ``line``
    and ``column`` count from 1 and are 0 where the place is not known.
    ``path`` leads to the value inside its document (``connections.warehouse.port``).
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = self.file
        if place and self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        text = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{text}; {self.hint}" if self.hint else text


class SeeknalError(Exception):
    """The root of all errors that Seeknal raises on purpose.

    Args:
        message: what is wrong and where, in one sentence, without a secret.
        hint: the next command or the way out; empty where there is none.
    """

    #: Exit code of a command that ends with this error (``docs/commands.md``, "Exit codes").
    exit_code: ExitCode = ExitCode.FAILED
    #: The profile of the command that ended with this error and why it was chosen,
    #: where a command had come as far as choosing one.
    profile: tuple[str | None, str] | None = None

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigError(SeeknalError):
    """The project's files, a profile or the command line hold mistakes.

    ``problems`` lists all of them; the message is their text, one a line.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[Problem] | str, hint: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem(problems)]
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint)


class OptionError(SeeknalError):
    """A mapping given to a backend holds mistakes.

    Raised by ``resolve_profile`` and the structuring helper, which know the
    path inside the mapping but not the file; the core adds file and line and
    raises `ConfigError`. Each of ``problems`` has ``path`` filled in.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[Problem], hint: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint)


class GraphError(ConfigError):
    """The nodes do not form a graph: a cycle, a missing or an ambiguous reference."""


class PluginError(SeeknalError):
    """A plugin cannot be used."""

    exit_code = ExitCode.USAGE


class BackendNotInstalled(PluginError):
    """No installed plugin provides a type; the hint names the distribution."""


class BackendBroken(PluginError):
    """A plugin is installed and cannot be imported or registered."""


class HookContractError(PluginError):
    """A plugin breaks the hook contract: a missing hook, a wrong result type."""

    exit_code = ExitCode.FAILED


class EnvironmentStateError(SeeknalError):
    """An environment is not in the state that the command needs."""

    exit_code = ExitCode.STALE


class UnknownEnvironment(EnvironmentStateError):
    """No environment of that name is recorded."""

    exit_code = ExitCode.USAGE


class NotApplied(EnvironmentStateError):
    """An environment is not applied wholly, so it cannot be promoted."""


class StalePlan(EnvironmentStateError):
    """What a plan was made for has moved since: definitions, bindings or the base."""


class PromotionFailed(EnvironmentStateError):
    """Something failed before anything was published."""

    exit_code = ExitCode.FAILED


class VerificationFailed(EnvironmentStateError):
    """What was staged is not what it should be; nothing was published."""

    exit_code = ExitCode.UNVERIFIED


class PromotionInterrupted(EnvironmentStateError):
    """A promotion stopped between the stores; the same command goes on with it."""

    exit_code = ExitCode.UNFINISHED


class CollisionRefused(EnvironmentStateError):
    """Two targets share one physical table, or a target is another environment's."""

    exit_code = ExitCode.USAGE


class ProtectedEnvironment(EnvironmentStateError):
    """The environment is protected and the folder's definitions are not its own."""


class StateError(SeeknalError):
    """State on disk is locked, unreadable, or was written by a newer version."""


class EngineError(SeeknalError):
    """The engine could not compute a node: bad SQL, a cast, memory, disk.

    Args:
        message: as for every error; where ``line`` is known it says ``line 3``.
        hint: what to fix.
        line: the line of the node's SQL, from 1; 0 where it is not known.
    """

    def __init__(self, message: str, hint: str = "", *, line: int = 0) -> None:
        super().__init__(message, hint)
        self.line = line

    def placed(self, file: str, first: int) -> str:
        """Return the message with file and line in place of the line of the SQL.

        Args:
            first: the line of the file that the SQL starts on.
        """
        if not self.line:
            return self.message
        return self.message.replace(f"line {self.line}", f"{file}:{first + self.line - 1}", 1)


class DamagedSource(EngineError):
    """A source's stored rows were damaged on the disk, and reading it again may bring others."""

    exit_code = ExitCode.UNVERIFIED


class DamagedOutput(EngineError):
    """A stored output's bytes are not those that were stored; nothing of it counts.

    Args:
        node: whose output it is.
    """

    exit_code = ExitCode.UNVERIFIED

    def __init__(self, message: str, hint: str = "", *, node: str = "") -> None:
        super().__init__(message, hint)
        self.node = node


class AuditFailed(SeeknalError):
    """An audit of severity ``error`` failed; no target of the node was written."""


class Interrupted(SeeknalError):
    """The user asked to stop (Ctrl-C)."""

    exit_code = ExitCode.INTERRUPTED


class BackendError(SeeknalError):
    """A store refused or could not do what it was asked.

    Args:
        message: what the store could not do, and its own words, without a secret.
        hint: the next command.
        target: the target's final name, or the connection's, where it is known.
    """

    def __init__(self, message: str, hint: str = "", *, target: str = "") -> None:
        super().__init__(message, hint)
        self.target = target


class Unreachable(BackendError):
    """The store does not answer; trying again may help."""


class WriteRefused(BackendError):
    """The store or a rule of the mode refuses the write; nothing was changed."""


class StaleStage(BackendError):
    """The target moved since it was staged; somebody else wrote it."""

    exit_code = ExitCode.STALE


class NamespaceRefused(BackendError):
    """The target's namespace cannot be created or used."""


class ResourcesExhausted(SeeknalError):
    """The machine has no memory, file descriptors, threads or disk space left for the command."""


_MORE_MEMORY = (
    "give the command more memory, or lower memory_limit and threads under engine: in "
    "seeknal_project.yml"
)

#: What the operating system says when it has no more of something, and the way out.
_EXHAUSTED = {
    errno.ENOMEM: ("out of memory", _MORE_MEMORY),
    errno.EMFILE: ("too many open files", "raise the limit, then run again: ulimit -n 4096"),
    errno.ENFILE: ("too many open files on this machine", "close other programs, then run again"),
    errno.ENOSPC: ("no space left on device", "free space on the disk, then run again"),
    errno.EDQUOT: ("the disk quota is used up", "free space on the disk, then run again"),
}


def exhausted(error: BaseException | None) -> ResourcesExhausted | None:
    """Return the error to show where an exception means that a resource ran out.

    Looks at the exception and at what caused it. Libraries wrap the operating system's
    errors in their own, or keep nothing of them but the text.

    Returns:
        None where it means something else.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ResourcesExhausted):
            return error
        # The loader says the latter of a library for which there was no memory.
        if isinstance(error, MemoryError) or "failed to map segment" in str(error):
            return ResourcesExhausted("out of memory", _MORE_MEMORY)
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            return ResourcesExhausted(*_EXHAUSTED[error.errno])
        text = str(error)
        if "can't start new thread" in text:
            return ResourcesExhausted(
                "no more threads can be started",
                "raise the limits on processes and memory, or use fewer: --threads 1",
            )
        for code in (errno.EMFILE, errno.ENOMEM, errno.ENOSPC):
            if os.strerror(code) in text:
                return ResourcesExhausted(*_EXHAUSTED[code])
        error = error.__cause__ or error.__context__
    return None
