"""Find known secrets in a text, however a driver, a format or a table has written them.

A secret is looked for as it is, in the forms that encoders give it (base64, hexadecimal,
doubled quotes), and in what is left of the text when its escapes are undone: percent
encoding, backslashes of JSON, Python and libpq, and XML's entities, also one within another.
Blanks and line breaks count as one, and lines may break anywhere.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence

import attrs

MASK = "***"

#: What is shorter is shown: it would stand in every other word.
_SHORTEST = 3
#: Characters that a secret needs for being found where a line breaks in it.
_BREAKABLE = 6
#: Characters of a line of a secret, and of an encoded form, that count alone.
_LINE = 8
#: How many escapes within one another are undone.
_DEPTH = 3

#: What tables and lines put between the parts of a text that they break.
_FILLER = {ord(character): None for character in " \t\r\n\v\f\xa0│┃|"}
_BREAK = re.compile(r"[\r\n]")
_BASE64 = re.compile(r"[A-Za-z0-9+/_=-]*")

_known: set[str] = set()


def remember(value: str) -> None:
    """Have a secret, and each line of one that has several, masked by `redact`."""
    lines = [line.strip() for line in value.splitlines()]
    parts = {value, value.strip()}
    if len(lines) > 1:
        # A key's first and last line say what it is.
        parts |= {line for line in lines if len(line) >= _LINE and not line.startswith("-----")}
    new = {part for part in parts if len(part) >= _SHORTEST} - _known
    if new:
        _known.update(new)
        _forms.cache_clear()


def redact(text: str) -> str:
    """Return `text` with every known secret replaced by ``***``."""
    if not _known or len(text) < _SHORTEST:
        return text
    spans = sorted(_found(text))
    if not spans:
        return text
    pieces: list[str] = []
    end = 0
    for start, stop in spans:
        if start > end or not pieces:
            pieces += [text[end:start], MASK]
        end = max(end, stop)
    return "".join(pieces) + text[end:]


def _found(text: str) -> Iterator[tuple[int, int]]:
    """Yield where secrets are, in places of the text as it is."""
    plain, encoded, blank = _forms()
    for view in _views(text):
        seen = view.text
        for form in plain:
            if form in seen and not (view.is_joined and len(form) < _BREAKABLE):
                yield from view.in_place(_occurrences(seen, form))
        for form in encoded:
            if form in seen:
                yield from view.in_place(_words(seen, form))
        # In one line only what has blanks can have others.
        changed = (*plain, *encoded) if _BREAK.search(seen) else blank
        if changed:
            yield from view.in_place(_broken(seen, changed, joined=view.is_joined))


def _words(text: str, part: str) -> Iterator[tuple[int, int]]:
    """Yield where a part of a word of base64 is: the rest of the word is the secret's, too."""
    for start, stop in _occurrences(text, part):
        tail = _BASE64.match(text, stop)
        assert tail is not None
        while start and _BASE64.fullmatch(text[start - 1]):
            start -= 1
        yield start, tail.end()


def _occurrences(text: str, part: str) -> Iterator[tuple[int, int]]:
    start = text.find(part)
    while start >= 0:
        yield start, start + len(part)
        start = text.find(part, start + 1)


def _broken(text: str, forms: Sequence[str], *, joined: bool) -> Iterator[tuple[int, int]]:
    """Yield where forms are that blanks, line breaks or a table's borders have changed."""
    bare = text.translate(_FILLER)
    if len(bare) == len(text) and not joined:
        return
    kept: list[int] = []
    for form in forms:
        squeezed = form.translate(_FILLER)
        if len(squeezed) < _SHORTEST:
            continue
        for start, stop in _occurrences(bare, squeezed):
            kept = kept or [i for i, each in enumerate(text) if ord(each) not in _FILLER]
            first, last = kept[start], kept[stop - 1] + 1
            if _is_same(text[first:last], form, len(squeezed), joined=joined):
                yield first, last


def _is_same(shown: str, form: str, characters: int, *, joined: bool) -> bool:
    """Return whether what differs between two texts is how blanks are written, or a break."""
    here, there = 0, 0
    while there < len(form):
        gap_here, gap_there = _filler(shown, here), _filler(form, there)
        breaks = joined or bool(_BREAK.search(shown[here:gap_here]))
        if (gap_here > here) != (gap_there > there) and not (breaks and characters >= _BREAKABLE):
            return False
        here, there = gap_here + 1, gap_there + 1
    return True


def _filler(text: str, start: int) -> int:
    while start < len(text) and ord(text[start]) in _FILLER:
        start += 1
    return start


@functools.cache
def _forms() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return what is looked for: secrets as they are or quoted, as base64, and those with blanks."""
    # Only where there is a secret: this module is imported at start-up.
    import shlex
    from urllib.parse import quote_plus

    plain: dict[str, None] = {}
    encoded: dict[str, None] = {}
    for value in sorted(_known, key=len, reverse=True):
        octets = value.encode("utf-8", "surrogatepass")
        forms = [value, quote_plus(octets), shlex.quote(value)[1:-1] if "'" in value else value]
        for mark in "'\"":
            forms += [value.replace(mark, mark * 2), value.replace(mark, f"\\{mark}")]
        if not value.isascii():
            # What is written as bytes, and what is read by another encoding.
            forms += [octets.decode("latin-1"), octets.decode("cp1252", "replace")]
        if len(octets) * 2 >= _LINE:
            forms += [octets.hex(), octets.hex().upper()]
        plain |= dict.fromkeys(form for form in forms if len(form) >= _SHORTEST)
        encoded |= dict.fromkeys(_in_base64(octets))
    blank = tuple(form for form in plain if len(form.translate(_FILLER)) < len(form))
    return tuple(plain), tuple(encoded), blank


def _in_base64(octets: bytes) -> Iterator[str]:
    """Yield what of a secret's base64 doesn't depend on what stands around it."""
    import base64

    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * before + octets).decode("ascii").rstrip("=")
            whole = (before + len(octets)) // 3 * 4
            core = text[(before * 8 + 5) // 6 : whole]
            if len(core) >= _LINE:
                yield core


# Undoing escapes. Each decoder gives a text and, for each of its characters, where the
# character's escape begins in the text before.

_Decode = Callable[[re.Match[str]], str]
_SIMPLE = {
    "n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0",
}  # fmt: skip
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def _percent(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace")


def _backslash(match: re.Match[str]) -> str:
    word = match[1]
    if word[0] in "uU" and len(word) > 1:
        pair = re.fullmatch(r"u(d[89ab]..)\\u(d[c-f]..)", word, re.IGNORECASE)
        if pair:
            high, low = (int(half, 16) for half in pair.groups())
            return chr(0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF))
        code = int(word[1:], 16)
        return chr(code) if code < 0x110000 else match[0]
    if word[0] == "x" and len(word) > 1:
        octets = bytes.fromhex(word.replace("\\x", "").replace("x", ""))
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            return octets.decode("latin-1")
    if len(word) == 3:
        return chr(int(word, 8))
    return _SIMPLE.get(word, word)


def _joined(match: re.Match[str]) -> str:
    return ""


def _entity(match: re.Match[str]) -> str:
    name = match[1]
    if name[0] != "#":
        return _NAMED[name]
    code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
    return chr(code) if code < 0x110000 else match[0]


_H = "[0-9A-Fa-f]"
_UTF8 = (
    f"%[0-7]{_H}|%[CDcd]{_H}%{_H}{{2}}|%[Ee]{_H}(?:%{_H}{{2}}){{2}}|%[Ff]{_H}(?:%{_H}{{2}}){{3}}"
)
_X8 = rf"x[c-dC-D]{_H}\\x[89abAB]{_H}|x[eE]{_H}(?:\\x[89abAB]{_H}){{2}}|x[fF]{_H}(?:\\x[89abAB]{_H}){{3}}"
_PAIR = rf"u[dD][89abAB]{_H}{{2}}\\u[dD][c-fC-F]{_H}{{2}}"
_REST = rf"u{_H}{{4}}|U{_H}{{8}}|x{_H}{{2}}|[0-3][0-7]{{2}}|."
_DECODERS: tuple[tuple[str, re.Pattern[str], _Decode], ...] = (
    ("%", re.compile(_UTF8), _percent),
    ("\\", re.compile(rf"\\({_PAIR}|{_X8}|{_REST})", re.DOTALL), _backslash),
    # What the bytes of an UTF-8 character look like may as well be characters.
    ("\\x", re.compile(rf"\\({_PAIR}|{_REST})", re.DOTALL), _backslash),
    (
        "&",
        re.compile(rf"&(amp|lt|gt|quot|apos|#[0-9]{{1,7}}|#[xX]{_H}{{1,6}});"),
        _entity,
    ),
    # A break in the middle of an escape; elsewhere `_broken` finds them.
    ("\n", re.compile(r"[ \t│┃|]*[\r\n][\s│┃|]*"), _joined),
)
#: Characters of a text that is a message or a table, whose lines may be broken: a document's
#: are not.
_MESSAGE = 100_000


@attrs.define(kw_only=True, eq=False)
class _View:
    """A text, or what it is when some escapes in it are undone.

    ``is_joined`` tells that its lines were put together: words may meet that are none.
    """

    text: str
    above: _View | None = None
    pattern: re.Pattern[str] | None = None
    decode: _Decode | None = None
    is_joined: bool = False

    def undone(self, pattern: re.Pattern[str], decode: _Decode) -> _View:
        """Return the view in which one kind of escapes is undone."""
        return _View(
            text=pattern.sub(decode, self.text),
            above=self,
            pattern=pattern,
            decode=decode,
            is_joined=self.is_joined or decode is _joined,
        )

    def in_place(self, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield where spans of this view are in the text as it is."""
        found = list(spans)
        view = self
        while found and view.above is not None:
            places = view.places()
            found = [(places[start], places[stop]) for start, stop in found]
            view = view.above
        yield from found

    def places(self) -> list[int]:
        """Return for each character where it begins in the view above; at the end its length."""
        assert self.above is not None
        assert self.pattern is not None
        assert self.decode is not None
        text, made, end = self.above.text, list[int](), 0
        for match in self.pattern.finditer(text):
            made.extend(range(end, match.start()))
            made.extend([match.start()] * len(self.decode(match)))
            end = match.end()
        made.extend(range(end, len(text) + 1))
        return made


def _views(text: str) -> Iterator[_View]:
    """Yield the text, and what it is when escapes are undone."""
    seen = {text}
    level = [_View(text=text)]
    yield level[0]
    for _ in range(_DEPTH):
        deeper: list[_View] = []
        for view in level:
            for mark, pattern, decode in _DECODERS:
                if mark not in view.text or (decode is _joined and len(text) > _MESSAGE):
                    continue
                made = view.undone(pattern, decode)
                if made.text not in seen:
                    seen.add(made.text)
                    deeper.append(made)
        yield from deeper
        level = deeper
