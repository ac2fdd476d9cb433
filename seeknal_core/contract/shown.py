"""How text that others wrote is shown: what steers a terminal, or hides, is written out.

Names, rows and what a server says may hold sequences that clear the screen, set the
clipboard, or change the order in which characters are shown.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from seeknal_core.contract.types import redact

#: Controls but the line end and the tab, marks of direction, separators of lines, what has no
#: width, halves of surrogate pairs (Unicode's categories Cc, Cf, Zl, Zp, Cs, and its "Default
#: Ignorable Code Point"); not the signs for numbers among Cf, which are seen, nor the
#: selectors that choose a character's variant.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_IN_TEXT = re.compile(f"[{_HIDDEN}]")
_IN_A_LINE = re.compile(f"[{_HIDDEN}\t\n]")

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def shown(text: str) -> str:
    """Return text as it is safe to print; line ends and tabs stay."""
    return text if _is_plain(text) else _IN_TEXT.sub(_escape, text)


def shown_line(text: str) -> str:
    """Return text as it is safe to print in one line: of a table's cell, or a name."""
    if _is_plain(text) and "\n" not in text and "\t" not in text:
        return text
    return _IN_A_LINE.sub(_escape, text)


def shown_json(text: str) -> str:
    """Return a JSON text that means the same and is safe to print."""
    plain = text.isascii() and "\x7f" not in text
    return text if plain else _IN_TEXT.sub(_escape_json, text)


def first_few(names: Iterable[object], *, at_most: int = 5, separator: str = ", ") -> str:
    """Return the first of some names in one sentence, and how many more there are."""
    listed = [str(name) for name in names]
    more = len(listed) - at_most
    return separator.join(listed[:at_most]) + (f" and {more:,} more" if more > 0 else "")


def trace(text: str) -> None:
    """Print a line for whoever develops a plugin, to standard error.

    Commands print by `seeknal_core.cli.output`.
    """
    sys.stderr.write(f"{shown_line(redact(text))}\n")


def _is_plain(text: str) -> bool:
    # Most text is, and these two ask at C's speed.
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else (
        f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )  # fmt: skip


def _escape_json(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
