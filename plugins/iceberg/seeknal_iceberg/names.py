"""Names: how a ``table`` splits, which connection it means, what it is called here.

Pure functions. The rules are in ``plugins/iceberg/README.md``, "Targets", and in
``docs/environments.md``, "Names".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from seeknal_core.contract.errors import OptionError, Problem
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Binding, Profile, QualifiedName, SourceSpec, TargetSpec

#: The type that this backend's connections have in a profile.
TYPE = "iceberg"

#: Keys of a source's ``params`` that are connection options.
INLINE_KEYS = frozenset({"catalog", "catalog_uri", "warehouse"})

_PLAIN = re.compile(r"[^\W\d][\w-]*\Z")


class BadName(ValueError):
    """A table's name cannot be split; the message says why."""


def split(table: str) -> tuple[str, ...]:
    """Split a dotted name; ``"..."`` quotes a part, ``""`` inside is one quote.

    Raises:
        BadName: an empty part, an unclosed quote, or text beside a quoted part.
    """
    parts: list[str] = []
    position = 0
    while True:
        if table[position : position + 1] == '"':
            match = re.compile(r'"((?:[^"]|"")*)"').match(table, position)
            if match is None:
                raise BadName(f"{table!r} has a quote that is not closed")
            part, position = match.group(1).replace('""', '"'), match.end()
        else:
            end = table.find(".", position)
            end = len(table) if end < 0 else end
            part, position = table[position:end].strip(), end
        if not part:
            raise BadName(f"{table!r} has an empty part")
        parts.append(part)
        if position == len(table):
            return tuple(parts)
        if table[position] != ".":
            raise BadName(f"{table!r} has text beside a quoted part")
        position += 1


def quote(parts: Sequence[str]) -> str:
    """Write parts as a user would: dotted, quoted only where that is needed."""
    return ".".join(
        part if _PLAIN.match(part) else '"' + part.replace('"', '""') + '"' for part in parts
    )


def _problem(path: str, message: str, hint: str = "") -> OptionError:
    return OptionError([Problem(message, path=path, hint=hint)])


def split_label(table: str) -> tuple[str | None, tuple[str, ...]]:
    """Split a table's name into the catalog's label, if written, and the rest.

    Returns:
        The label (the first of three or more parts) or None, and the namespace's
        levels with the table's name at the end.

    Raises:
        OptionError: the name does not split, or has no namespace.
    """
    try:
        parts = split(table)
    except BadName as error:
        raise _problem("table", str(error), "write catalog.namespace.table") from None
    if len(parts) < 2:
        raise _problem(
            "table",
            f"{table!r} has no namespace",
            f"write namespace.{quote(parts)} or catalog.namespace.{quote(parts)}",
        )
    return (parts[0], parts[1:]) if len(parts) > 2 else (None, parts)


def bind(profile: Profile, connection: str | None, table: str) -> Binding:
    """Choose the connection of a table by the rule in ``plugins/iceberg/README.md``, "Targets".

    Raises:
        OptionError: the name is wrong, or no or several connections are meant.
    """
    label, parts = split_label(table)
    return Binding(connection=_choose(profile, connection, label), parts=parts)


def _choose(profile: Profile, named: str | None, label: str | None) -> str:
    candidates = profile.of_type(TYPE)
    if named is not None:
        if named not in candidates:
            other = profile.connections.get(named)
            what = (
                f"the connection {named!r} is of type {other.type}, not {TYPE}"
                if other is not None
                else f"the profile has no connection {named!r}"
            )
            raise _problem("connection", what, nearest(named, candidates) or _listed(candidates))
        return named
    if label is not None and label in candidates:
        return label
    if profile.catalog_connection is not None:
        return profile.catalog_connection
    if len(candidates) == 1:
        return candidates[0]
    what = "several connections" if candidates else "no connection"
    raise _problem("connection", f"{what} of type {TYPE} could be meant", _listed(candidates))


def _listed(candidates: Sequence[str]) -> str:
    if not candidates:
        return f"add a connection of type {TYPE} to the profile"
    return "write connection: " + " or ".join(candidates)


def bind_source(profile: Profile, source: SourceSpec) -> Binding:
    """Choose the connection of a source; empty if its options stand inline.

    Raises:
        OptionError: as `bind`; also where a ``query`` is given without its table.
    """
    if not source.table:
        why = (
            "a query on iceberg is run over one table, which needs to be named, too"
            if source.params.get("query")
            else "a source of type iceberg needs a table"
        )
        raise _problem("table", why, "write table: namespace.table")
    label, parts = split_label(source.table)
    if source.connection is None and INLINE_KEYS & set(source.params):
        return Binding(connection="", parts=parts)
    return Binding(connection=_choose(profile, source.connection, label), parts=parts)


def final_name(target: TargetSpec, prefix: str) -> QualifiedName:
    """Put an environment's prefix before the first level of the namespace.

    The catalog's label, where one was written, is shown but is no part of the
    name: it chose the connection already.
    """
    label, written = split_label(target.table)
    parts = target.parts or written
    final = (prefix + parts[0], *parts[1:])
    return QualifiedName(parts=final, quoted=quote((label, *final) if label else final))
