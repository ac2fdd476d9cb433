"""Make ``docs/hooks.md`` of the hook specifications: ``python tests/meta/hooks_page.py``."""

from __future__ import annotations

import inspect
from pathlib import Path

from seeknal_core.contract import hooks as hookspecs
from seeknal_core.plugins.host import HOOKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hooks.md"

_INTRODUCTION = f"""\
# Hooks

A backend is a module with functions marked `@hookimpl`, under the entry-point group
`seeknal.backends`; the entry point's name is the type that users write:

```toml
[project.entry-points."seeknal.backends"]
clickhouse = "seeknal_clickhouse.plugin"
```

```python
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import ExecutionContext, QualifiedName, TargetSpec


@hookimpl
def namespace_for(context: ExecutionContext, target: TargetSpec) -> QualifiedName: ...
```

`seeknal plugins new clickhouse` writes such a distribution, with every hook working on a toy store.

A plugin under `seeknal.plugins` wraps the same hooks (`@hookimpl(wrapper=True)`) and sees every
call of every backend. `SEEKNAL_TRACE_HOOKS=1` prints each call; `SEEKNAL_DISABLE_PLUGINS=a,b`
leaves plugins out. This is hook API {hookspecs.HOOK_API}; a plugin may state the one it was
written for as `SEEKNAL_HOOK_API`. New arguments come at the end, so an older plugin keeps working.

A backend imports `seeknal_core.contract` and its modules: `.hooks`, `.types`, `.modes`, `.errors`,
`.options`, `.rules`, `.names` and `.checksums`, and nothing else of the core. Their older names
(`seeknal_core.hookspecs`, `.types`, `.errors`, `.structure`, `.naming`, `.rules`, `.checksums`) stay
until 1.0. This page is made from `seeknal_core/contract/hooks.py`.
"""


def page() -> str:
    """Return the page's text."""
    sections = [_INTRODUCTION]
    for name in HOOKS:
        spec = getattr(hookspecs, name)
        required = "required" if name in hookspecs.REQUIRED else "optional"
        signature = str(inspect.signature(spec)).replace("'", "")
        text = inspect.cleandoc(spec.__doc__ or "")
        sections.append(f"## {name}\n\n`{name}{signature}` ({required})\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
