"""What each command does to an environment whose promotion is in each state: one table.

`state_of` tells the state from the two documents, and `TABLE` what a command does then. The
commands look it up: nothing else decides. `tests/core/test_promotion_table.py` brings a project
into each state and types each command; ``docs/architecture.md`` draws the same table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from seeknal_core.contract.errors import ExitCode
from seeknal_core.state.promotions import Phase, Promotion


class State(enum.Enum):
    """Where an environment stands as the destination of promotions. The value explains it."""

    IDLE = "nothing is unfinished, and there is nothing to undo"
    STAGING = "a promotion is being staged and verified: no reader sees anything of it"
    VERIFIED = "all is verified: any store may have published, or none"
    PUBLISHED = "every store has published: the record has still to follow"
    REVERTING = "a promotion is being undone"
    DONE = "the last promotion is done, and can be rolled back"
    ROLLING_BACK = "the last promotion is being rolled back"
    LEFT = "a rollback was ended half-way, and can be asked for again"

    @property
    def is_unfinished(self) -> bool:
        """Whether a command has to go on with something, or undo it."""
        return self not in (State.IDLE, State.DONE, State.LEFT)


class Abort(enum.StrEnum):
    """How an unfinished promotion or rollback is ended; the values are those of ``--abort``."""

    #: Undo it, unless somebody wrote its tables since.
    UNDO = "undo"
    #: Leave the tables as they are.
    KEEP = "keep"
    #: Undo it, also where somebody wrote since.
    OVERWRITE = "overwrite"


class Command(enum.Enum):
    """A command as the user types it, for a destination ``stage``."""

    PROMOTE = "env promote dev stage"
    RESUME = "env promote dev stage --resume"
    ABORT = "env promote dev stage --abort"
    ABORT_OVERWRITE = "env promote dev stage --abort=overwrite"
    ABORT_KEEP = "env promote dev stage --abort=keep"
    DRY_RUN = "env promote dev stage --dry-run"
    ANOTHER = "env promote qa stage"
    ROLLBACK = "env rollback stage"
    ROLLBACK_OVERWRITE = "env rollback stage --abort=overwrite"
    ROLLBACK_KEEP = "env rollback stage --abort=keep"
    RUN = "run --env stage"
    PLAN = "env plan stage"
    APPLY = "env apply stage"
    DELETE = "env delete stage"
    STATUS = "env status stage"
    RECOVER = "state recover --env stage"
    GC = "gc"


class Does(enum.Enum):
    """What a command does in a state. The value explains it."""

    BEGIN = "begins a promotion"
    BEGIN_AGAIN = "discards what was staged, and begins a promotion"
    PUBLISH = "publishes what is left, and finishes"
    FINISH = "lets the record follow"
    UNDO = "undoes it, unless somebody wrote a table since"
    OVERWRITE = "undoes it, and what somebody wrote since is lost"
    LEAVE = "ends it, and leaves the tables as they are"
    SHOW = "shows what it would do"
    ROLL_BACK = "rolls the last promotion back"
    NAME = "names what is unfinished, and the commands that end it"
    WORK = "does its work: nothing stands in its way"
    DELETE = "deletes the environment, and what undoes its last promotion"
    REFUSE = "is refused: something is unfinished"
    NOTHING = "is refused: there is nothing to go on with"

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with where no store fails."""
        return _EXIT.get(self, ExitCode.DONE)

    @property
    def leads_to(self) -> State | None:
        """The state afterwards; None where it stays as it was.

        What was undone was the destination's only promotion: an earlier one can be rolled back
        as before.
        """
        return _LEADS_TO.get(self)


_EXIT = MappingProxyType(
    {
        Does.REFUSE: ExitCode.UNFINISHED,
        Does.NAME: ExitCode.UNFINISHED,
        Does.NOTHING: ExitCode.USAGE,
    }
)
_LEADS_TO = MappingProxyType(
    {
        Does.BEGIN: State.DONE,
        Does.BEGIN_AGAIN: State.DONE,
        Does.PUBLISH: State.DONE,
        Does.FINISH: State.DONE,
        Does.UNDO: State.IDLE,
        Does.OVERWRITE: State.IDLE,
        Does.ROLL_BACK: State.IDLE,
        Does.DELETE: State.IDLE,
    }
)

#: The states of a promotion that is under way; in these, what any command but those that go on
#: with it does is the same.
_UNDER_WAY = (State.STAGING, State.VERIFIED, State.PUBLISHED, State.REVERTING)
_AT_REST = (State.IDLE, State.DONE, State.LEFT)


def _row(
    at_rest: Does,
    under_way: Does,
    rolling_back: Does,
    besides: Mapping[State, Does] | None = None,
) -> Mapping[State, Does]:
    return MappingProxyType(
        {
            **dict.fromkeys(_AT_REST, at_rest),
            **dict.fromkeys(_UNDER_WAY, under_way),
            State.ROLLING_BACK: rolling_back,
            **(besides or {}),
        }
    )


_GOES_ON = MappingProxyType({State.VERIFIED: Does.PUBLISH, State.PUBLISHED: Does.FINISH})
_NEVER = MappingProxyType({State.IDLE: Does.NOTHING})

#: What each command does in each state.
TABLE: Mapping[Command, Mapping[State, Does]] = MappingProxyType(
    {
        Command.PROMOTE: _row(Does.BEGIN, Does.BEGIN_AGAIN, Does.REFUSE, _GOES_ON),
        Command.RESUME: _row(Does.NOTHING, Does.BEGIN_AGAIN, Does.REFUSE, _GOES_ON),
        Command.ABORT: _row(Does.NOTHING, Does.UNDO, Does.REFUSE),
        Command.ABORT_OVERWRITE: _row(Does.NOTHING, Does.OVERWRITE, Does.REFUSE),
        Command.ABORT_KEEP: _row(Does.NOTHING, Does.LEAVE, Does.REFUSE),
        Command.DRY_RUN: _row(Does.SHOW, Does.REFUSE, Does.REFUSE),
        Command.ANOTHER: _row(Does.BEGIN, Does.REFUSE, Does.REFUSE),
        Command.ROLLBACK: _row(Does.ROLL_BACK, Does.REFUSE, Does.ROLL_BACK, _NEVER),
        Command.ROLLBACK_OVERWRITE: _row(Does.ROLL_BACK, Does.REFUSE, Does.ROLL_BACK, _NEVER),
        Command.ROLLBACK_KEEP: _row(Does.NOTHING, Does.REFUSE, Does.LEAVE),
        Command.RUN: _row(Does.WORK, Does.REFUSE, Does.REFUSE),
        Command.PLAN: _row(Does.WORK, Does.REFUSE, Does.REFUSE),
        Command.APPLY: _row(Does.WORK, Does.REFUSE, Does.REFUSE),
        Command.DELETE: _row(Does.DELETE, Does.REFUSE, Does.REFUSE),
        Command.STATUS: _row(Does.WORK, Does.NAME, Does.NAME),
        Command.RECOVER: _row(Does.WORK, Does.NAME, Does.NAME),
        Command.GC: _row(Does.WORK, Does.WORK, Does.WORK),
    }
)


def state_of(
    current: Promotion | Mapping[str, Any] | None, last: Promotion | Mapping[str, Any] | None = None
) -> State:
    """Return the state that two documents tell, as loaded or as they stand in the folder.

    Args:
        current: of what is under way.
        last: of the last promotion.
    """
    if current is not None:
        phase, rollback = _told(current)
        return State.ROLLING_BACK if rollback else _OF_PHASE.get(phase, State.PUBLISHED)
    if last is None:
        return State.IDLE
    return State.LEFT if _told(last)[0] == Phase.REVERTING.value else State.DONE


def _told(document: Promotion | Mapping[str, Any]) -> tuple[str, bool]:
    if isinstance(document, Promotion):
        return document.step.value, document.rollback
    return str(document.get("step")), bool(document.get("rollback"))


#: By what is written down; whatever is not known here has only to be finished.
_OF_PHASE = MappingProxyType(
    {
        Phase.STAGING.value: State.STAGING,
        Phase.VERIFIED.value: State.VERIFIED,
        Phase.PUBLISHED.value: State.PUBLISHED,
        Phase.REVERTING.value: State.REVERTING,
    }
)
