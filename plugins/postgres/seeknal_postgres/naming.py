"""Table names: from what the user wrote to what the server gets."""

from __future__ import annotations

from seeknal_core.errors import NamespaceRefused, OptionError, Problem
from seeknal_core.naming import fit
from seeknal_core.types import QualifiedName

#: Bytes that the server keeps of an identifier (``NAMEDATALEN - 1``).
LIMIT = 63


def quote(identifier: str) -> str:
    """Return `identifier` as the server quotes it, for printing only."""
    return '"' + identifier.replace('"', '""') + '"'


def split(table: str) -> tuple[str, ...]:
    """Split ``table`` or ``schema.table``; double quotes hold dots.

    A part is taken literally, with its case; ``"a.b"."c""d"`` is the table
    ``c"d`` in the schema ``a.b``.

    Raises:
        OptionError: with path ``table``.
    """
    parts: list[str] = []
    rest = table
    while True:
        if rest.startswith('"'):
            part, rest = _quoted(rest, table)
        else:
            part, dot, tail = rest.partition(".")
            rest = dot + tail
        parts.append(part)
        if not rest:
            break
        rest = rest[1:]
    if len(parts) > 2:
        raise _wrong(table, "has more than two parts", 'write schema.table; quote a dot: "a.b".c')
    if any(not part or "\0" in part for part in parts):
        raise _wrong(table, "has an empty part", "write table or schema.table")
    return tuple(parts)


def _quoted(text: str, table: str) -> tuple[str, str]:
    part = ""
    position = 1
    while (end := text.find('"', position)) >= 0:
        part += text[position:end]
        position = end + 1
        if text[position : position + 1] != '"':
            if text[position : position + 1] not in ("", "."):
                raise _wrong(table, "has text after a closing quote", 'write "schema"."table"')
            return part, text[position:]
        part += '"'
        position += 1
    raise _wrong(table, "has a quote that is not closed", 'write "schema"."table"')


def _wrong(table: str, what: str, hint: str) -> OptionError:
    return OptionError([Problem(f"{table!r} {what}", path="table", hint=hint)])


def final_name(parts: tuple[str, ...], default_schema: str, prefix: str) -> QualifiedName:
    """Return the name of a target in an environment.

    Raises:
        NamespaceRefused: the prefix makes a schema that the server reserves.
    """
    schema, table = parts if len(parts) == 2 else (default_schema, parts[0])
    schema = fit(prefix + schema, LIMIT)
    if schema.startswith("pg_"):
        raise NamespaceRefused(
            f"schema {quote(schema)} is reserved: names that begin with pg_ are the server's",
            "choose another environment name, or a namespace prefix in the profile",
            target=f"{quote(schema)}.{quote(table)}",
        )
    return qualified(schema, fit(table, LIMIT))


def qualified(schema: str, table: str) -> QualifiedName:
    """Return the value for a schema and a table."""
    return QualifiedName(parts=(schema, table), quoted=f"{quote(schema)}.{quote(table)}")


def ledger_schema(stem: str, environment: str) -> str:
    """Return the private schema of an environment: ``_seeknal_dev``."""
    return fit(f"{stem}_{environment.replace('-', '_')}", LIMIT)
