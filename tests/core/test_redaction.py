"""Secrets are masked however a driver, a format or a table writes them."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seeknal_core.contract import redaction
from seeknal_core.contract.redaction import MASK, redact

#: A secret with everything that some encoder changes.
ODD = "p4 s\t\ts%w&'\"\\<é/π🔑+=|x"

Encode = Callable[[str], str]


def percent_all(text: str) -> str:
    return "".join(f"%{octet:02x}" for octet in text.encode())


def entities(text: str) -> str:
    return "".join(f"&#{ord(each)};" for each in text)


def conninfo(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def wrapped(text: str) -> str:
    return "\n   ".join(text[at : at + 5] for at in range(0, len(text), 5))


def bordered(text: str) -> str:
    return " │\n│ ".join(text[at : at + 7] for at in range(0, len(text), 7))


def basic(text: str) -> str:
    return base64.b64encode(f"etl:{text}".encode()).decode()


ESCAPES: dict[str, Encode] = {
    "as it is": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, slashes kept": quote,
    "percent, all of it": percent_all,
    "form": quote_plus,
    "json": lambda text: json.dumps(text)[1:-1],
    "json, not ascii": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "bytes": lambda text: repr(text.encode())[2:-1],
    "xml": lambda text: escape(text, {'"': "&quot;", "'": "&apos;"}),
    "html": html.escape,
    "entities": entities,
    "conninfo": conninfo,
    "sql": lambda text: text.replace("'", "''"),
    "identifier": lambda text: text.replace('"', '""'),
    "shell": lambda text: text.replace("'", "'\"'\"'"),
}
WHOLE: dict[str, Encode] = {
    "basic": basic,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for urls": lambda text: base64.urlsafe_b64encode(f"ab{text}z".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
}
SHAPES: dict[str, Encode] = {
    "one blank": lambda text: " ".join(text.split()),
    "blanks for tabs": lambda text: text.replace("\t", "    "),
    "wrapped": wrapped,
    "bordered": bordered,
}

secrets = (
    st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\t\n"), min_size=8)
    .map(lambda text: text.strip(" \t\r\n\v\f\xa0│┃|"))
    .filter(lambda text: len(text.strip("*").translate(redaction._FILLER)) >= 8)
)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Leave the secrets of other tests alone."""
    before = set(redaction._known)
    yield
    set_known(before)


def set_known(values: set[str]) -> None:
    redaction._known.clear()
    redaction._known.update(values)
    redaction._forms.cache_clear()


def masked(secret: str, shown: str) -> str:
    set_known(set())
    redaction.remember(secret)
    found = redact(f"cannot log in: [{shown}] was refused")
    # Blanks at a secret's ends, and what a table puts there, may stay.
    return re.sub(r"\[[\s│┃|]*\*\*\*[\s│┃|]*\]", f"[{MASK}]", found)


GONE = f"cannot log in: [{MASK}] was refused"


@pytest.mark.parametrize("name", [*ESCAPES, *WHOLE, *SHAPES])
def test_an_odd_secret_is_masked_in_each_form(name: str) -> None:
    encode = (ESCAPES | WHOLE | SHAPES)[name]
    assert masked(ODD, encode(ODD)) == GONE


@settings(max_examples=150, deadline=None)
@given(secret=secrets, name=st.sampled_from([*ESCAPES, *WHOLE, *SHAPES]))
def test_any_secret_is_masked_in_any_form(secret: str, name: str) -> None:
    encode = (ESCAPES | WHOLE | SHAPES)[name]
    assert masked(secret, encode(secret)) == GONE


@settings(max_examples=150, deadline=None)
@given(
    secret=secrets,
    inner=st.sampled_from(["percent", "json", "repr", "xml", "conninfo"]),
    outer=st.sampled_from(["json", "repr", "percent", "xml", "wrapped"]),
)
def test_forms_within_forms_are_masked(secret: str, inner: str, outer: str) -> None:
    every = ESCAPES | SHAPES
    assert masked(secret, every[outer](ESCAPES[inner](secret))) == GONE


@settings(max_examples=200, deadline=None)
@given(text=st.text(), secret=st.text(min_size=1))
def test_what_holds_no_secret_is_left_as_it_is(text: str, secret: str) -> None:
    set_known(set())
    assert redact(text) == text
    redaction.remember(secret)
    found = redact(text)
    if len(secret) >= 3:
        assert secret not in found or secret in MASK
    if MASK not in found:
        assert found == text


def test_each_line_of_a_key_is_masked() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n"
    set_known(set())
    redaction.remember(key)
    assert redact("line 2: hkiG9w0BAQEFAASC") == f"line 2: {MASK}"
    assert "hkiG9" not in redact(json.dumps({"key": key}))
    assert redact("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_words_that_look_like_parts_of_a_secret_stay() -> None:
    set_known(set())
    redaction.remember("the cat sat")
    assert redact("the\n  cat\tsat down") == f"{MASK} down"
    assert redact("the cats at thecatsat") == "the cats at thecatsat"
    redaction.remember("abc")
    assert redact("a\nb\nc, ab c") == "a\nb\nc, ab c"


def test_large_texts_are_looked_through_in_time_that_grows_with_them() -> None:
    import time

    set_known(set())
    for number in range(10):
        redaction.remember(f"s3cret-word-{number}-é")

    def took(size: int) -> float:
        text = json.dumps(
            [{"name": f"transform.m{n}", "sql": 'a "b"\n%41 &amp;'} for n in range(size)]
        )
        start = time.perf_counter()
        assert redact(text) == text
        return time.perf_counter() - start

    took(1000)
    assert min(took(8000) for _ in range(3)) < 30 * min(took(1000) for _ in range(3))
