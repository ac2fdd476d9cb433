"""The one rule for ``${VAR}`` in profiles.

``${VAR}`` is the variable's value, ``${VAR:default}`` and ``${VAR:-default}`` the
default where the variable is unset or empty; ``$$`` is a dollar; any other ``$``
stays. Values are inserted after YAML was parsed and are not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from seeknal_core.contract.errors import OptionError, Problem
from seeknal_core.contract.options import Filled, join
from seeknal_core.contract.types import Secret
from seeknal_core.project.yaml import Expand, Scalar, resolve_plain

_REFERENCE = re.compile(r"\$\$|\$\{(?:(\w+)(?::-?([^}]*))?\})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SECRET_KEY = re.compile(
    r"passw(or)?d|passphrase|token|secret|credential"
    r"|(private|access|api|account|sas|encryption|shared)[-_.]?key",
    re.IGNORECASE,
)
#: Characters that a variable's value has if it is taken for a secret by its name alone.
_LONG = 12
_USERINFO = re.compile(r"://[^/@:\s]*:([^/@\s]+)@")


def looks_secret(key: str) -> bool:
    """Return whether a key by that name holds a secret, by the words in it."""
    return _SECRET_KEY.search(key) is not None


def expand_text(text: str, variables: Mapping[str, str]) -> str:
    """Return `text` with its references filled in.

    Raises:
        OptionError: a variable is missing, or a reference is malformed; the
            messages name variables, never values. Paths are empty.
    """
    problems: list[Problem] = []

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, default = match[1], match[2]
        if name is None or not _NAME.fullmatch(name):
            hint = "write ${NAME} or ${NAME:default}; for a dollar before a brace, $${"
            problems.append(Problem("'${' that starts no reference to a variable", hint=hint))
            return ""
        if default is not None and "${" in default:
            problems.append(Problem(f"the default of ${{{name}}} holds another reference"))
            return ""
        value = variables.get(name)
        if value and looks_secret(name):
            Secret(value)
        if value is None and default is None:
            hint = f"set it in the environment or in .env, or write ${{{name}:default}}"
            problems.append(Problem(f"environment variable {name} is not set", hint=hint))
            return ""
        return (value or default) if default is not None else value or ""

    result = _REFERENCE.sub(fill, text)
    if problems:
        raise OptionError(problems)
    return result


def expander(variables: Mapping[str, str]) -> Expand:
    """Return the function that expands the scalars of a profile.

    A scalar without quotes that is one reference and nothing else is read as
    YAML reads it (``port: ${PGPORT:5432}`` is a number); in quotes it is text, which
    may be a number where one is meant (`Filled`).
    Values under a key that `looks_secret` are remembered for redaction.
    """

    def expand(scalar: Scalar) -> object:
        text = scalar.text
        value = expand_text(text, variables) if "$" in text else text
        remember(scalar.path, value)
        match = _REFERENCE.fullmatch(text)
        if match is None or not match[1] or looks_secret(_last(scalar.path)):
            return value
        return resolve_plain(value) if scalar.plain else Filled(value)

    return expand


def is_clear_secret(path: str, text: str) -> bool:
    """Return whether a scalar, as written, is or holds a secret itself, not a reference to one."""
    if "${" in text or not text:
        return False
    return looks_secret(_last(path)) or _USERINFO.search(text) is not None


def remember(path: str, value: str) -> None:
    """Have `value` redacted in all output if it is, or holds, a secret by its key."""
    if looks_secret(_last(path)):
        Secret(value)
        # key:secret pairs, as OAuth2's client credentials are written
        Secret(value.rpartition(":")[2])
    for match in _USERINFO.finditer(value):
        Secret(match[1])


def remember_variables(variables: Mapping[str, str]) -> None:
    """Have the values of secret-looking variables redacted that a driver may take by itself.

    What is short, or a place, is no secret, whatever its variable is called.
    """
    for name, value in variables.items():
        if looks_secret(name) and len(value) >= _LONG and not value.startswith(("/", "http")):
            Secret(value)


def remember_all(value: object, path: str = "") -> None:
    """Call `remember` for every text in a mapping or list, whatever its depth."""
    if isinstance(value, str):
        remember(path, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            # What stands below a secret's name is secret, too.
            remember_all(item, path if looks_secret(_last(path)) else join(path, str(key)))
    elif isinstance(value, list | tuple):
        for item in value:
            remember_all(item, path)


def _last(path: str) -> str:
    # Keys may hold dots themselves (s3.secret-access-key): the last word tells.
    return path.rpartition(".")[2]
