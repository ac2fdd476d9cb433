"""What a run tells: events while it goes on, one value when it is over."""

from __future__ import annotations

import enum
from typing import Protocol

import attrs

from seeknal_core.contract.errors import DamagedOutput, DamagedSource, ExitCode


class NodeStatus(enum.Enum):
    """How a node ended."""

    COMPUTED = "computed"
    REUSED = "reused"
    FAILED = "failed"
    SKIPPED = "skipped"


class TargetStatus(enum.Enum):
    """How a target ended."""

    WRITTEN = "written"
    LINKED = "linked"
    COPIED = "copied"
    CURRENT = "unchanged"
    LEFT_OUT = "left out"
    ADOPTED = "taken over as it is"
    REFUSED = "refused"
    FAILED = "failed"
    SKIPPED = "skipped"


@attrs.frozen(kw_only=True)
class NodeOutcome:
    """A node's end.

    ``seconds`` is wall time; ``detail`` is the reason or the error, whose family is
    ``error``. ``notes`` are sentences about the rows: what was left out, what was guessed.
    """

    id: str
    status: NodeStatus
    rows: int | None = None
    seconds: float = 0.0
    detail: str = ""
    hint: str = ""
    error: str = ""
    content_key: str = ""
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class TargetOutcome:
    """A target's end.

    ``rows_written`` and ``rows_after`` are the store's own counts; ``reason`` is
    why it was written or not; ``detail`` is the error, whose family is ``error``.
    """

    key: str
    node: str
    type: str
    name: str
    mode: str
    status: TargetStatus
    rows_written: int | None = None
    rows_after: int | None = None
    reason: str = ""
    seconds: float = 0.0
    detail: str = ""
    hint: str = ""
    error: str = ""


@attrs.frozen(kw_only=True)
class RunReport:
    """The whole run."""

    run_id: str
    environment: str
    profile: str
    profile_reason: str
    nodes: tuple[NodeOutcome, ...]
    targets: tuple[TargetOutcome, ...]
    seconds: float
    interrupted: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command (``docs/commands.md``, "Exit codes")."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        errors = [*(node.error for node in self.nodes), *(each.error for each in self.targets)]
        if {DamagedOutput.__name__, DamagedSource.__name__} & set(errors):
            return ExitCode.UNVERIFIED
        if self.failed:
            return ExitCode.FAILED
        return ExitCode.STALE if self.refused else ExitCode.DONE

    @property
    def failed(self) -> bool:
        """Whether a node or a target failed."""
        return any(node.status is NodeStatus.FAILED for node in self.nodes) or any(
            target.status is TargetStatus.FAILED for target in self.targets
        )

    @property
    def refused(self) -> bool:
        """Whether a target was left alone because somebody else changed it."""
        return any(target.status is TargetStatus.REFUSED for target in self.targets)


class Reporter(Protocol):
    """Hears of a run while it goes on. Called from the main thread only."""

    def started(self, nodes: int) -> None:
        """The run begins; `nodes` will be looked at."""

    def node_started(self, id: str) -> None:
        """A node is being looked at or computed."""

    def node_ended(self, outcome: NodeOutcome) -> None:
        """A node ended."""

    def target_started(self, name: str) -> None:
        """A target is being written."""

    def target_ended(self, outcome: TargetOutcome) -> None:
        """A target ended."""

    def warn(self, message: str) -> None:
        """Something the user should see."""
