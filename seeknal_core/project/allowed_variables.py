"""Which environment variables a project's templates may read.

What ``{{ env_var(...) }}`` gives goes into the project's files in clear: caches, plans,
manifests, stored rows. So the project file lists the names, and no secret is among them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

import attrs

#: Parts of a name, and whole words of it, that say that the value is a secret.
_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|private|apikey|accesskey|bearer|cookie|jwt"
    r"|(?<![a-z])(pass|pwd|pw|key|keys|auth|dsn|sas|pat)(?![a-z])",
    re.IGNORECASE,
)
#: Folders of a shell, which are no passwords.
_HARMLESS = frozenset({"PWD", "OLDPWD"})
_USERINFO = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def is_secret_name(name: str) -> bool:
    """Return whether a variable holds a secret, by the words in its name."""
    return name.upper() not in _HARMLESS and _SECRET.search(name) is not None


def wrong_name(name: str) -> tuple[str, str]:
    """Return what is wrong with a name in ``env_vars`` and what to do; empty if nothing."""
    if not _NAME.fullmatch(name):
        return f"{name!r} is not a variable's name", "write names: env_vars: [REGION]"
    if is_secret_name(name):
        return (
            f"{name} looks like a secret, and templates write values in clear",
            f"use ${{{name}}} in a profile; what is no secret needs another name",
        )
    return "", ""


@attrs.frozen(kw_only=True)
class ListedVariables:
    """The variables that templates may read.

    ``names`` are those of the project file; ``ignored`` are those among them that do not
    count, since the project is untrusted; ``used`` are those that the project's templates
    name, for messages.
    """

    names: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Iterable[str], counts: Iterable[str]) -> ListedVariables:
        """Return the variables that templates may read.

        Args:
            names: ``env_vars`` of the project file.
            counts: those of them that count.
        """
        known, taken = frozenset(names), frozenset(counts)
        return cls(names=known & taken, ignored=known - taken)

    def problem(self, name: str, *, has_default: bool) -> tuple[str, str]:
        """Return why a template gets no value of a variable, and what to do.

        Returns:
            Empty texts where it gets one, or its default.
        """
        if is_secret_name(name):
            return wrong_name(name)
        if name in self.ignored:
            return (
                f"the project is untrusted, and the machine does not let it read {name!r}",
                f"set SEEKNAL_ENV_VARS={','.join(sorted({*self.ignored} & {*self.used} | {name}))}"
                " where the command runs",
            )
        if name not in self.names:
            return (
                f"the project file does not list the environment variable {name!r}",
                f"write in seeknal_project.yml: {self.line(name)}",
            )
        value = os.environ.get(name)
        if value is None:
            hint = f"set it, or give env_var({name!r}, default)"
            return (
                ("", "") if has_default else (f"the environment variable {name!r} is not set", hint)
            )
        if _USERINFO.search(value):
            return (
                f"the environment variable {name!r} holds a password, and templates write"
                " values in clear",
                f"use ${{{name}}} in a profile",
            )
        return "", ""

    def line(self, name: str) -> str:
        """Return the line of the project file that lists a variable and all others in use."""
        more = (each for each in self.used if not is_secret_name(each) and _NAME.fullmatch(each))
        return f"env_vars: [{', '.join(sorted({*self.names, *more, name}))}]"

    def value(self, name: str, default: object) -> object:
        """Return a variable's value, the default where it has none or may not be read."""
        if name not in self.names or self.problem(name, has_default=True)[0]:
            return default
        return os.environ.get(name, default)
