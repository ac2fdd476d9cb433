"""Commands in hints that name the profile again which the user named for this one.

A hint is written where nothing is known of the command line. Whoever worked with
``--profile`` must not be sent to another store by the command that goes on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

_COMMAND = re.compile(
    r"\bseeknal (?:"
    r"(?:run|check|state recover)(?: --env (?P<env>[\w-]+))?"
    r"|(?:env )?(?P<verb>plan|apply|status|delete|rollback|promote) (?P<name>[A-Za-z][\w-]*)"
    r")(?![\w-])"
)
#: Where a command ends and the sentence goes on.
_END = re.compile(r"[;:,(\n]|&&")


def with_profiles(text: str, given: Mapping[str, str], production: str) -> str:
    """Return a text whose commands name the profiles that were given.

    Args:
        given: environment -> the file that the user named for it on the command line.
        production: the name of the environment that a command without one works on.
    """
    if not given or "seeknal " not in text:
        return text
    result = ""
    at = 0
    for found in _COMMAND.finditer(text):
        end, options = found.end(), _options(found, text, given, production)
        rest = text[end:]
        if found["verb"] == "promote":
            for name in given:
                if re.match(rf" {re.escape(name)}(?![\w-])", rest):
                    end += len(name) + 1
                    break
        stop = _END.search(rest)
        if options and "--profile" not in (rest[: stop.start()] if stop else rest):
            result += f"{text[at:end]} {shlex.join(options)}"
            at = end
    return result + text[at:]


def _options(
    found: re.Match[str], text: str, given: Mapping[str, str], production: str
) -> list[str]:
    """Return the options that a command lacks."""
    if found["verb"] != "promote":
        name = found["name"] or found["env"] or production
        return ["--profile", given[name]] if name in given else []
    following = re.match(r" ([A-Za-z][\w-]*)", text[found.end() :])
    destination = following[1] if following and following[1] in given else production
    options = ["--profile", given[destination]] if destination in given else []
    if found["name"] in given:
        options += ["--source-profile", given[found["name"]]]
    return options
