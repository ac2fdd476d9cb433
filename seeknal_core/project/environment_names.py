"""The names of environments and the prefixes that come of them."""

from __future__ import annotations

import re

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.types import Environment, Profile
from seeknal_core.project.specs import ProjectSettings

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,38}", re.ASCII)
#: What an environment may be called, for messages.
NAME_RULE = "write a letter, then letters, digits, '_' or '-', 39 characters at most"
#: Nobody may mistake a development environment for production.
_RESERVED = "prod"


def is_environment_name(text: str) -> bool:
    """Return whether `text` follows the rule for environments' names."""
    return _NAME.fullmatch(text) is not None


def parse_environment_name(text: str | None, settings: ProjectSettings) -> str:
    """Return the canonical, lower-case name of an environment.

    Args:
        text: as the user wrote it; None means production.

    Raises:
        ConfigError: the name breaks the rule, or is ``prod`` where production
            has another name.
    """
    if text is None:
        return settings.production
    if not is_environment_name(text):
        raise ConfigError(f"{text!r} is not an environment's name", NAME_RULE)
    name = text.lower()
    if name == _RESERVED != settings.production:
        raise ConfigError(
            f"'{_RESERVED}' is not the name of production here",
            f"write --env {settings.production}, or another name",
        )
    return name


def conventional_prefix(name: str) -> str:
    """Return the prefix that convention gives environment `name`: ``dev_``, ``pr_7_`` for ``pr-7``.

    Two environments with one prefix would share their tables; they can't both exist.
    """
    return name.replace("-", "_") + "_"


def environment_for(settings: ProjectSettings, name: str, profile: Profile) -> Environment:
    """Return environment `name` with the prefix that `profile` asks for.

    Convention (the default profile, not in production) gives ``dev_``; so does an
    explicit ``namespace: {prefix: true}``, which never applies to production;
    a text is taken as it is, in production too; false or empty text means none.

    Args:
        name: canonical, as `parse_environment_name` gives it.
    """
    is_production = name == settings.production
    wanted = profile.convention if profile.prefix is None else profile.prefix
    if isinstance(wanted, str):
        prefix = wanted
    else:
        prefix = conventional_prefix(name) if wanted and not is_production else ""
    return Environment(name=name, is_production=is_production, prefix=prefix)
