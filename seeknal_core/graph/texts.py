"""What is known of a SQL text, found out once and remembered between commands.

Everything here is a pure function of the text, so it may be remembered under the
text's digest, whatever the environment or profile. What remembers is a file in the
project's ``target``; without it (or where it is damaged, or of another version of
the tool or the parser) everything is found out again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.files.cache import Cache, key_of
from seeknal_core.graph.forms import Reference
from seeknal_core.graph.references import analyze_tokens
from seeknal_core.graph.tokens import TOKENIZER_VERSION, canonical, split, tokenize
from seeknal_core.graph.volatility import volatile_parts

#: Raised when the meaning of anything remembered changes.
_VERSION = 2


@attrs.frozen(kw_only=True)
class SqlText:
    """A text of SQL, templates expanded.

    ``canonical`` is what stands for it in fingerprints; ``statements`` are the places
    of its statements; ``volatile`` the functions that answer otherwise next time.
    """

    canonical: str
    statements: tuple[tuple[int, int], ...]
    volatile: tuple[str, ...]
    references: tuple[Reference, ...]


class Texts:
    """The memory of one process. Thread-safe: entries are only ever added."""

    def __init__(self) -> None:
        self._cache = Cache()

    def open(self, path: Path) -> None:
        """Take what an earlier command remembered; nothing is written before `save`."""
        self._cache = Cache()
        self._cache.open(path, _versions())

    def save(self, write: Callable[[Path, str], None]) -> None:
        """Remember for the next command what this one used, as `Cache.save` does."""
        self._cache.save(write)

    def sql(self, text: str) -> SqlText:
        """Return what is known of SQL whose templates are expanded."""
        key = key_of("sql", text)
        known = _read(self._cache.get(key))
        if known is None:
            tokens = tokenize(text)
            statements = split(tokens)
            known = SqlText(
                canonical=canonical(tokens),
                statements=tuple((each[0].start, each[-1].end) for each in statements),
                volatile=volatile_parts(tokens),
                references=analyze_tokens(text, statements).references,
            )
            self._cache.put(key, _written(known))
        return known

    def recall(self, *parts: str) -> Any:
        """Return what `remember` kept of these texts, None if nothing."""
        return self._cache.get(key_of(*parts))

    def remember(self, entry: Any, *parts: str) -> None:
        """Keep JSON values that are a pure function of these texts."""
        self._cache.put(key_of(*parts), entry)

    def definition(self, text: str) -> str:
        """Return the canonical text of SQL whose templates are left in."""
        if "{{" not in text:
            return self.sql(text).canonical
        key = key_of("definition", text)
        found = self._cache.get(key)
        if not isinstance(found, str):
            found = canonical(tokenize(text, templates=True))
            self._cache.put(key, found)
        return found


#: One project is open in a process at a time.
texts = Texts()


def _versions() -> list[str]:
    """Return what must be the same for anything remembered to hold, beside the core."""
    from importlib.metadata import version

    return [str(_VERSION), str(TOKENIZER_VERSION), version("sqlglot")]


def _written(text: SqlText) -> list[Any]:
    references = [
        [one.form, one.parts, one.start, one.end, one.alias, one.qualifiers]
        for one in text.references
    ]
    return [text.canonical, text.statements, text.volatile, references]


def _read(found: Any) -> SqlText | None:
    """Return what an entry says; None where there is none, or it is damaged."""
    try:
        canonical, statements, volatile, references = found
        return SqlText(
            canonical=canonical,
            statements=tuple((start, end) for start, end in statements),
            volatile=tuple(volatile),
            references=tuple(
                Reference(
                    form=form,
                    parts=tuple(parts),
                    start=start,
                    end=end,
                    alias=alias,
                    qualifiers=tuple((first, last) for first, last in qualifiers),
                )
                for form, parts, start, end, alias, qualifiers in references
            ),
        )
    except (TypeError, ValueError):
        return None
