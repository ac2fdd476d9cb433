"""A plugin that kills its process at a step of a promotion, or of its undoing.

``SEEKNAL_DIES="after:stage"`` names a step by its function (`seeknal_core.promote.promote.STEPS`),
``before:`` or ``after:`` it. ``after:revert`` is when the stores have undone a promotion and
nothing else is done.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import attrs

from seeknal_core.promote import promote, rollback

_WHEN, _, _STEP = os.environ.get("SEEKNAL_DIES", "").partition(":")


def _dying(does: Callable[..., Any]) -> Callable[..., Any]:
    def dies(*args: Any, **options: Any) -> Any:
        if _WHEN == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        does(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return dies


if _STEP == "revert":
    rollback.revert_all = _dying(rollback.revert_all)
elif _STEP:
    promote.STEPS = [
        attrs.evolve(step, does=_dying(step.does)) if step.does.__name__ == _STEP else step
        for step in promote.STEPS
    ]
