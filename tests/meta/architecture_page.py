"""Make the parts of ``docs/architecture.md`` that the code decides: run this file."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from seeknal_core.contract.errors import ExitCode
from seeknal_core.promote.promote import STEPS, OnError
from seeknal_core.state.promotion_table import TABLE, Command, Does, State

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


def page(text: str) -> str:
    """Return the page's text with its made parts as they are now."""
    for name, made in (
        ("steps", _steps()),
        ("states", _states()),
        ("diagram", _diagram()),
        ("commands", _commands()),
    ):
        pattern = rf"(<!-- made: {name} -->\n).*?(<!-- end -->)"
        if name == "diagram":
            pattern = r"(```mermaid\n).*?(```)"
        text, found = re.subn(pattern, lambda m, made=made: m[1] + made + m[2], text, flags=re.S)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{PAGE} has {found} places for {name}")
    return text


def _steps() -> str:
    lines = ["| | step | function | phase | an error in it |", "|---|---|---|---|---|"]
    for number, step in enumerate(STEPS, 1):
        module = step.does.__module__.removeprefix("seeknal_core.").replace(".", "/")
        phase = f"`{step.at.value}`" if step.at else ""
        lines.append(
            f"| {number} | {step.name} | `{module}.py` `{step.does.__name__}` "
            f"| {phase} | {step.on_error.name.lower().replace('_', ' ')} |"
        )
    lines.append("")
    lines += [f"*{one.name.lower().replace('_', ' ')}*: {one.value}.  " for one in OnError]
    return "\n".join(lines) + "\n"


def _states() -> str:
    lines = ["| state | meaning |", "|---|---|"]
    lines += [f"| `{state.name}` | {state.value} |" for state in State]
    return "\n".join(lines) + "\n"


def _diagram() -> str:
    """Draw which command leads from which state to which, without those that change nothing."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for command, row in TABLE.items():
        for state, does in row.items():
            leads = _leads(state, does)
            if leads is None:
                continue
            if command is Command.ANOTHER:
                continue
            short = command.value.replace(" dev stage", "").replace(" stage", "")
            arrows.setdefault((state, leads), []).append(short.removeprefix("env "))
    lines = ["stateDiagram-v2", "    [*] --> IDLE"]
    steps = [State.STAGING, State.VERIFIED, State.PUBLISHED, State.DONE]
    lines += [f"    IDLE --> {State.STAGING.name} : promote begins"]
    lines += [f"    {a.name} --> {b.name} : its next step" for a, b in itertools.pairwise(steps)]
    lines += ["    STAGING --> REVERTING : an error", "    VERIFIED --> REVERTING : an error"]
    lines += ["    DONE --> ROLLING_BACK : rollback begins"]
    for (state, leads), names in sorted(
        arrows.items(), key=lambda one: (one[0][0].name, one[0][1].name)
    ):
        lines.append(f"    {state.name} --> {leads.name} : {', '.join(names)}")
    return "\n".join(lines) + "\n"


def _leads(state: State, does: Does) -> State | None:
    if does is Does.LEAVE:
        return State.LEFT if state is State.ROLLING_BACK else State.IDLE
    return does.leads_to


def _commands() -> str:
    lines = []
    for command in Command:
        cells: dict[str, list[str]] = {}
        for state, does in TABLE[command].items():
            code = does.exit_code
            shown = does.value + (f" ({code.value})" if code is not ExitCode.DONE else "")
            cells.setdefault(shown, []).append(f"`{state.name}`")
        told = "; ".join(f"{', '.join(states)}: {shown}" for shown, states in cells.items())
        if len(cells) == 1:
            told = f"any: {next(iter(cells))}"
        lines.append(f"| `{command.value}` | {told} |")
    return "\n".join(["| command | what it does, by state |", "|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), encoding="utf-8")
