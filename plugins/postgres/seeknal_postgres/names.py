"""Table names: from what the user wrote to what the server gets."""

from __future__ import annotations

import re

from seeknal_core.contract.errors import NamespaceRefused, OptionError, Problem
from seeknal_core.contract.names import fit
from seeknal_core.contract.types import QualifiedName

#: Bytes that the server keeps of an identifier (``NAMEDATALEN - 1``).
LIMIT = 63


#: Words that stand for a name only in quotes (the manual's appendix C, "reserved").
_RESERVED = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "between",
        "bigint",
        "binary",
        "bit",
        "boolean",
        "both",
        "case",
        "cast",
        "char",
        "character",
        "check",
        "coalesce",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "dec",
        "decimal",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "exists",
        "extract",
        "false",
        "fetch",
        "float",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "greatest",
        "group",
        "grouping",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "inout",
        "int",
        "integer",
        "intersect",
        "interval",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "least",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "national",
        "natural",
        "nchar",
        "none",
        "normalize",
        "not",
        "notnull",
        "null",
        "nullif",
        "numeric",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "out",
        "outer",
        "overlaps",
        "overlay",
        "placing",
        "position",
        "precision",
        "primary",
        "real",
        "references",
        "returning",
        "right",
        "row",
        "select",
        "session_user",
        "setof",
        "similar",
        "smallint",
        "some",
        "substring",
        "symmetric",
        "system_user",
        "table",
        "tablesample",
        "then",
        "time",
        "timestamp",
        "to",
        "trailing",
        "treat",
        "trim",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "values",
        "varchar",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
        "xmlattributes",
        "xmlconcat",
        "xmlelement",
        "xmlexists",
        "xmlforest",
        "xmlnamespaces",
        "xmlparse",
        "xmlpi",
        "xmlroot",
        "xmlserialize",
        "xmltable",
    ]
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


def quote(identifier: str) -> str:
    """Return `identifier` for printing only, quoted where the server wants it quoted."""
    if _PLAIN.fullmatch(identifier) and identifier not in _RESERVED:
        return identifier
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


#: How the schemas of an environment's records begin, unless the profile says otherwise.
STATE_SCHEMA = "_seeknal"


def final_name(
    parts: tuple[str, ...], default_schema: str, prefix: str, own: str = ""
) -> QualifiedName:
    """Return the name of a target in an environment.

    Args:
        own: the schema of this environment's records.

    Raises:
        NamespaceRefused: the schema is one that the server reserves, or keeps records of
            Seeknal's: a target there could be taken for them.
    """
    schema, table = parts if len(parts) == 2 else (default_schema, parts[0])
    schema = fit(prefix + schema, LIMIT)
    if schema == own or schema.startswith(f"{STATE_SCHEMA}_"):
        raise NamespaceRefused(
            f"schema {quote(schema)} is Seeknal's own: it keeps records there",
            "write the table to another schema",
            target=f"{quote(schema)}.{quote(table)}",
        )
    if schema.startswith("pg_"):
        raise NamespaceRefused(
            f"schema {quote(schema)} is reserved: names that begin with pg_ are the server's",
            "write to another schema, or choose another prefix: another environment's name, or "
            "namespace: {prefix: …} in the profile",
            target=f"{quote(schema)}.{quote(table)}",
        )
    return qualified(schema, fit(table, LIMIT))


def qualified(schema: str, table: str) -> QualifiedName:
    """Return the value for a schema and a table."""
    return QualifiedName(parts=(schema, table), quoted=f"{quote(schema)}.{quote(table)}")


def ledger_schema(stem: str, environment: str) -> str:
    """Return the private schema of an environment: ``_seeknal_dev``."""
    return fit(f"{stem}_{environment.replace('-', '_')}", LIMIT)
