"""Every hook of a store has its span."""

from __future__ import annotations

from seeknal_core.contract import hooks as hookspecs
from seeknal_opentelemetry import plugin


def test_every_hook_but_the_one_without_a_context_is_wrapped() -> None:
    """A new hook of the core is noticed here."""
    hooks = {name for name, value in vars(hookspecs).items() if hasattr(value, "seeknal_spec")}
    wrapped = {name for name, value in vars(plugin).items() if hasattr(value, "seeknal_impl")}
    assert hooks - wrapped == {"describe_options"}
    assert wrapped <= hooks
