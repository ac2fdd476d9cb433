"""The hook contract changes where somebody means it to, and never under a plugin that works."""

from __future__ import annotations

from meta import hook_signatures
from seeknal_core.plugins.host import HOOKS

_HELP = """\
the hook contract is not what tests/meta/hook_signatures.txt says.
Plugins that are installed somewhere were written for what it says. If this is meant:
  a new hook, or a new argument at the end of one: write it down with
    python tests/meta/hook_signatures.py
  an argument that goes, moves or is renamed, or a value that loses a field: such plugins
  break; raise HOOK_API in seeknal_core/contract/hooks.py first, and say so in CHANGELOG.md.
"""


def test_the_hook_contract_is_written_down() -> None:
    assert hook_signatures.text() == hook_signatures.GOLDEN.read_text("utf-8"), _HELP


def test_hooks_of_one_api_gain_arguments_only_at_their_end() -> None:
    written = hook_signatures.GOLDEN.read_text("utf-8")
    now = hook_signatures.text()
    if written.partition("\n")[0] != now.partition("\n")[0]:
        return  # another API: it may do as it likes
    before, after = hook_signatures.hooks_of(written), hook_signatures.hooks_of(now)
    assert sorted(after) == sorted(HOOKS)
    for name, arguments in before.items():
        assert after.get(name, [])[: len(arguments)] == arguments, f"{name}: {_HELP}"
