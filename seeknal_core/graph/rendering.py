"""Make the statements that the engine runs, out of a node's SQL."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from seeknal_core.contract.errors import GraphError, Problem
from seeknal_core.graph import templates
from seeknal_core.graph.forms import Reference
from seeknal_core.graph.lookup import Lookup
from seeknal_core.graph.texts import texts
from seeknal_core.project.specs import SqlNode


@attrs.frozen(kw_only=True)
class RenderedSql:
    """SQL ready to run.

    ``statements`` are the user's own text, the last one gives the output; each name
    of a node is replaced by the view of that name, ``"kind.name"``. ``lines_before``
    are the lines of the whole text above each of them. ``tokens`` is the canonical
    text of the expanded SQL, for the content key.
    """

    statements: tuple[str, ...]
    lines_before: tuple[int, ...]
    tokens: str

    def placed(self) -> tuple[str, ...]:
        """Return the statements below as many empty lines as stand above them."""
        pairs = zip(self.lines_before, self.statements, strict=True)
        return tuple("\n" * lines + text for lines, text in pairs)


def render(node: SqlNode, inputs: Sequence[str], variables: templates.Variables) -> RenderedSql:
    """Expand a node's templates and replace what it names by views.

    Args:
        inputs: the node's inputs as the graph has them.

    Raises:
        ConfigError: a template that is wrong or lacks its variable.
        GraphError: the SQL names what is no input, or ends before it begins.
    """
    templates_wrong = templates.problems(
        node.sql, variables.vars, variables.listed, location=node.sql_location, sql=True
    )
    if templates_wrong:
        raise GraphError(templates_wrong)
    expanded = templates.expand_sql(node.sql, variables)
    sql = expanded.text
    lookup = Lookup(inputs)
    replacements: list[tuple[int, int, str]] = []
    known = texts.sql(sql)
    for reference in known.references:
        found = _meant(node, reference, lookup)
        if found is not None:
            replacements += _replacements(reference, found)
        elif reference.form not in ("soft", "whole", "bare"):
            at = templates.place(node.sql_location, node.sql, expanded.original(reference.start))
            written = sql[reference.start : reference.end]
            message = f"{written} is no input of {node.id}"
            hint = (
                "a name must not depend on the day, the run or the environment: list it in inputs"
            )
            raise GraphError([Problem(message, at.file, at.line, at.column, hint=hint)])
    replacements.sort()
    return RenderedSql(
        statements=tuple(
            _replaced(sql, start, end, replacements) for start, end in known.statements
        ),
        lines_before=tuple(sql.count("\n", 0, start) for start, _ in known.statements),
        tokens=known.canonical,
    )


def quote(name: str) -> str:
    """Quote a name for the engine's SQL."""
    return '"' + name.replace('"', '""') + '"'


def _meant(node: SqlNode, reference: Reference, lookup: Lookup) -> str | None:
    position = reference.position
    if reference.form == "bare":
        return lookup.find_bare(reference.parts[0], inside=node.id)
    if position is None:
        return lookup.find(reference.parts)
    if position >= len(node.inputs):
        return None
    return lookup.find(node.inputs[position].split(".", 1))


def _replacements(reference: Reference, id: str) -> list[tuple[int, int, str]]:
    view = quote(id)
    called = view if reference.alias is None else quote(reference.alias)
    alias = "" if reference.alias is None else f" AS {called}"
    return [
        (reference.start, reference.end, view + alias),
        *((start, end, called) for start, end in reference.qualifiers),
    ]


def _replaced(sql: str, start: int, end: int, replacements: Sequence[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    at = start
    for low, high, text in replacements:
        if start <= low and high <= end:
            parts += (sql[at:low], text)
            at = high
    parts.append(sql[at:end])
    return "".join(parts)
