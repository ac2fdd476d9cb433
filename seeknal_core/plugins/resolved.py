"""Targets and sources that are ready for hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.types import (
    Connection,
    Source,
    SourceSpec,
    Target,
    TargetSpec,
    problem_at,
)

if TYPE_CHECKING:
    pass


@attrs.frozen(kw_only=True)
class ResolvedTarget:
    """A target ready for hooks: what was written, its connection, its final name."""

    spec: TargetSpec
    connection: Connection
    target: Target


@attrs.frozen(kw_only=True)
class ResolvedSource:
    """A backend's source ready for hooks."""

    spec: SourceSpec
    connection: Connection
    source: Source


def mistake_at(
    spec: TargetSpec | SourceSpec, path: str, message: str, hint: str = ""
) -> ConfigError:
    """Return a mistake in what the user wrote, with its place."""
    return ConfigError([problem_at(spec.location, message, path=f"{spec.node}.{path}", hint=hint)])
