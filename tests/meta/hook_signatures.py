"""Write down the hook contract: ``python tests/meta/hook_signatures.py``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import attrs

from seeknal_core.contract import hooks as hookspecs
from seeknal_core.contract import types
from seeknal_core.plugins.host import HOOKS

GOLDEN = Path(__file__).with_name("hook_signatures.txt")


def text() -> str:
    """Return the contract: its version, its hooks, its groups, and the values that cross it."""
    lines = [f"HOOK_API {hookspecs.HOOK_API}", ""]
    lines += [f"hook {name}{_signature(getattr(hookspecs, name))}" for name in HOOKS]
    lines += ["", f"required {', '.join(hookspecs.REQUIRED)}"]
    lines += [f"all or none {', '.join(group)}" for group in hookspecs.GROUPS]
    lines += [f"{hook} needs {needed}" for hook, needed in hookspecs.NEEDS]
    lines.append("")
    for name, value in sorted(vars(types).items()):
        if (
            inspect.isclass(value)
            and attrs.has(value)
            and value.__module__.startswith(types.__name__)
        ):
            fields = [
                f"{field.name}{'' if field.default is attrs.NOTHING else '?'}: {field.type}"
                for field in attrs.fields(value)
            ]
            lines.append(f"value {name}({', '.join(fields)})")
    return "\n".join(lines) + "\n"


def _signature(hook: object) -> str:
    assert callable(hook)
    return str(inspect.signature(hook)).replace("'", "")


def hooks_of(contract: str) -> dict[str, list[str]]:
    """Return the arguments of each hook of a contract that was written down."""
    found = {}
    for line in contract.splitlines():
        match = re.fullmatch(r"hook (\w+)\((.*)\) -> .*", line)
        if match:
            found[match[1]] = re.findall(r"(\w+): ", match[2])
    return found


if __name__ == "__main__":
    GOLDEN.write_text(text(), encoding="utf-8")
