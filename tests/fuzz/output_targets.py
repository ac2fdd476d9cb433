"""What is printed: without secrets, and without what steers a terminal."""

from __future__ import annotations

import base64
import importlib.util
import json
import unicodedata
import urllib.parse
from collections.abc import Callable

from fuzz.target import Target, argument, parts, plain, text
from seeknal_core.contract import types
from seeknal_core.contract.shown import shown, shown_json, shown_line


def _given(data: bytes) -> tuple[str, str, str]:
    secret, before, after = (text(part) for part in parts(data, 3))
    return secret, before, after


#: How a secret may be written by formats, drivers and servers.
ENCODERS: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "json": lambda secret: json.dumps(secret)[1:-1],
    "json as utf-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "repr": lambda secret: repr(secret)[1:-1],
    "percent": lambda secret: urllib.parse.quote(secret, safe=""),
    "plus": urllib.parse.quote_plus,
    "sql": lambda secret: secret.replace("'", "''"),
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "hex": lambda secret: secret.encode().hex(),
}
_ALL = importlib.util.find_spec("seeknal_core.contract.redaction") is not None


def _redactor(data: bytes) -> None:
    secret, before, after = _given(data)
    if not 4 <= len(secret) <= 200 or not secret.strip("* \t\r\n"):
        return
    if len(set(secret)) < 4 or "***" in secret:
        return
    types.Secret(secret)
    for name, encode in ENCODERS.items():
        if not _ALL and name != "as it is":
            continue
        written = encode(secret)
        if len(written) < 8 and name in ("base64", "hex"):
            continue
        shown = types.redact(f"{before} {written} {after}")
        assert written not in shown.replace(before, "").replace(after, ""), (name, shown)


def _escaper(data: bytes) -> None:
    written = argument(data)
    for escape in (shown, shown_line):
        printed = escape(written)
        kept = "\n\t" if escape is shown else ""
        for character in set(printed).difference(kept):
            assert unicodedata.category(character) not in _STEERING, (escape, character)
    document = json.dumps([written], ensure_ascii=False)
    printed = shown_json(document)
    assert json.loads(printed) == [written]
    assert not any(unicodedata.category(each) in _STEERING for each in printed)


#: Controls, lines and paragraphs, halves of pairs.
_STEERING = ("Cc", "Zl", "Zp", "Cs")

TARGETS = (
    Target(
        name="escaper",
        open=plain(_escaper),
        longest=200,
        words=(
            "\x1b[2J",
            "\x1b]52;c;",
            "\x07",
            "\u202e",
            "\u2066",
            "\u2028",
            "\x9b",
            "\ufeff",
            "\\x1b",
        ),
    ),
    Target(
        name="redactor",
        open=plain(_redactor),
        longest=400,
        words=("\n=====\n", "%", "\\", "'", "&amp;"),
    ),
)
