"""Which modules of the core a plugin may import, and which ones a text of Python does."""

from __future__ import annotations

import ast

CONTRACT = "seeknal_core.contract"
MODULES = frozenset(
    f"{CONTRACT}.{name}"
    for name in ("checksums", "errors", "hooks", "modes", "names", "options", "rules", "types")
)
#: What the modules were called before: these stay until 1.0, since backends import them.
OLDER = frozenset(
    f"seeknal_core.{name}"
    for name in ("checksums", "errors", "hookspecs", "naming", "rules", "structure", "types")
)
#: For plugins; their tests may import `TESTING`, too.
PUBLIC = frozenset({CONTRACT}) | MODULES | OLDER
TESTING = "seeknal_core.testing"


def imported(source: str) -> frozenset[str]:
    """Return the modules of the core that a module imports, wherever it does.

    Raises:
        ValueError: it imports something relative to itself, which could be anything.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"a relative import in line {node.lineno}")
            whole = node.module == "seeknal_core"
            found |= {
                f"{node.module}.{one.name}" if whole else str(node.module) for one in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return frozenset(name for name in found if name.partition(".")[0] == "seeknal_core")
