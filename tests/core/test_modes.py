"""What each mode means, and that only its rule says so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import seeknal_core
from seeknal_core.contract import Field, Keeps, Mode, ModeRule, rule_of

RULES = {
    Mode.FULL: ModeRule(keeps=Keeps.NOTHING, repairs=True),
    Mode.APPEND: ModeRule(keeps=Keeps.ALL, once=True),
    Mode.UPSERT_BY_KEY: ModeRule(
        keeps=Keeps.OTHERS,
        needs=Field.UNIQUE_KEYS,
        placing=Field.UNIQUE_KEYS,
        unique=True,
        repairs=True,
    ),
    Mode.INCREMENTAL_BY_TIME: ModeRule(
        keeps=Keeps.OTHERS, needs=Field.TIME_COLUMN, placing=Field.TIME_COLUMN
    ),
    Mode.INSERT_OVERWRITE: ModeRule(keeps=Keeps.OTHERS, needs=Field.PARTITION_BY),
}
#: Where the core may name a mode: its rule, the words of older projects, the default.
NAMING = {"contract/modes.py", "project/targets.py", "plugins/resolve.py"}


@pytest.mark.parametrize("mode", Mode)
def test_a_mode_means_what_its_rule_says(mode: Mode) -> None:
    assert rule_of(mode) == mode.rule == RULES[mode]


def test_only_a_mode_that_keeps_nothing_replaces_the_table() -> None:
    assert [mode for mode in Mode if mode.rule.replaces] == [Mode.FULL]


def test_the_core_compares_no_modes() -> None:
    core = Path(seeknal_core.__file__).parent
    named = {
        str(path.relative_to(core))
        for path in core.rglob("*.py")
        if "testing" not in path.parts and "templates" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Mode"
        and node.attr.isupper()
    }
    assert named <= NAMING
