"""Examples are written against the public surface, and every page names the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from meta.public_surface import MODULES, PUBLIC, TESTING, imported
from support.examples import EXAMPLES

ROOT = EXAMPLES.parent
EXAMPLE_MODULES = sorted(EXAMPLES.glob("*/*/*.py"))


@pytest.mark.parametrize(
    "module", EXAMPLE_MODULES, ids=lambda path: str(path.relative_to(EXAMPLES))
)
def test_an_example_imports_the_public_surface_and_nothing_else_of_the_core(module: Path) -> None:
    allowed = PUBLIC | {TESTING} if module.parent.name == "tests" else PUBLIC
    assert imported(module.read_text("utf-8")) <= allowed


def test_all_examples_are_looked_at() -> None:
    assert {path.parts[len(EXAMPLES.parts)] for path in EXAMPLE_MODULES} == {
        path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")
    }
    assert any(imported(path.read_text("utf-8")) for path in EXAMPLE_MODULES)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from seeknal_core import rules, types as t", {"rules", "types"}),
        ("from seeknal_core.state.files import x", {"state.files"}),
        ("def f():\n    import seeknal_core.run, os", {"run"}),
        ("import seeknal_core_else; from os import path", set()),
    ],
)
def test_every_way_to_import_is_seen(source: str, found: set[str]) -> None:
    assert imported(source) == {f"seeknal_core.{name}" for name in found}
    with pytest.raises(ValueError, match="relative"):
        imported(source + "\nfrom . import x")


@pytest.mark.parametrize(
    "page",
    [
        "docs/writing-a-backend.md",
        "docs/hooks.md",
        "seeknal_core/templates/backend/README.md.tmpl",
    ],
)
def test_every_page_names_the_whole_surface(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    start = text.index("`seeknal_core.contract` and its modules")
    named = text[start : text.index(".\n", text.index("`.checksums`", start))]
    assert not [name for name in sorted(MODULES) if f"`.{name.rpartition('.')[2]}`" not in named]
