"""A plan in text: what ``seeknal env plan`` and ``seeknal run --dry-run`` print."""

from __future__ import annotations

from collections.abc import Sequence

from seeknal_core.cli.output import say, say_below
from seeknal_core.cli.tables import counted, print_table
from seeknal_core.contract.shown import first_few
from seeknal_core.contract.types import redact
from seeknal_core.plan.decide import Action, Writing
from seeknal_core.plan.document import Change, NodeStep, Plan, TargetStep

_SHOWN = (
    Change.ADDED,
    Change.CHANGED,
    Change.REMOVED,
    Change.AFFECTED,
    Change.UNAFFECTED,
    Change.REBOUND,
    Change.CONTENT,
    Change.METADATA,
)


def render_plan(made: Plan) -> None:
    """Print what a plan does to nodes and targets."""
    for warning in made.warnings:
        say_below("warning", str(warning), err=True)
    shown = [step for step in made.nodes if step.change in _SHOWN or step.action.works]
    if shown:
        print_table(
            ("node", "change", "what happens", "why"),
            [
                (step.id, _change(step), _action(step), redact(step.reason))
                for step in sorted(shown, key=lambda step: list(Change).index(step.change))
            ],
        )
    rest = len(made.nodes) - len(shown)
    if rest:
        say(f"{rest} more unchanged, reused")
    for step in made.nodes:
        if step.diff:
            say("\n" + step.diff.rstrip())
    for source in made.rebound:
        say(f"{source} is read from another place than in {made.base}")
    quiet = (Writing.KEEP, Writing.LINK, Writing.LEFT_OUT, Writing.SHARED)
    written = [target for target in made.targets if target.writing not in quiet]
    if written:
        say()
        print_table(
            ("target", "store", "mode", "what happens", "guarantee"),
            [
                (
                    target.name,
                    target.connection,
                    target.mode,
                    target.writing.value + (f": {target.reason}" if target.reason else ""),
                    target.guarantee,
                )
                for target in written
            ],
        )
    for note, names in _noted(written).items():
        say(f"{first_few(names, at_most=3)}: {note}")
    for target in written:
        if target.refused:
            say(f"will be refused: {target.refused}")
            say(f"  {target.hint}")
    for writing, said in (
        (Writing.LINK, "the same as production's: linked to its tables"),
        (Writing.COPY, "the same as production's: copied"),
        (Writing.LEFT_OUT, "the same as production's: left out"),
        (Writing.SHARED, "the same as production's: linked, copied or left out"),
    ):
        same = [target for target in made.targets if target.writing is writing]
        if same:
            size = sum(target.bytes for target in same)
            known = "" if writing is Writing.SHARED else f" ({size:,} bytes)"
            say(f"{counted(len(same), 'target')} {said}{known}")


def render_next(made: Plan, apply_command: str) -> None:
    """Print that a plan is saved, and the command that applies it, where there is work."""
    shared = any(target.writing in (Writing.LINK, Writing.COPY) for target in made.targets)
    if made.has_changes or shared:
        what = "" if made.has_changes else "no changes; its targets are not there yet\n"
        say(f"\n{what}plan {made.id} is saved")
        say(f"Next: {apply_command}")
    else:
        say("no changes")


def _noted(targets: Sequence[TargetStep]) -> dict[str, list[str]]:
    """Return what is noted of targets, and of which: of a catalog the same for all of its own."""
    found: dict[str, list[str]] = {}
    for target in targets:
        for note in target.notes:
            found.setdefault(note, []).append(target.name)
    return found


def _change(step: NodeStep) -> str:
    if step.breaking is None:
        return step.change.value
    kind = "breaking" if step.breaking else "additive"
    columns = f": {', '.join(step.columns)}" if step.columns else ""
    return f"{step.change.value}, {kind}{columns}"


def _action(step: NodeStep) -> str:
    if step.action is Action.REUSE and step.reused_from:
        return f"reuse {step.reused_from}'s"
    return step.action.value
