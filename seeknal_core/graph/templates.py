"""Templates: ``{{ today }}`` and its few siblings, in SQL, params and a source's table.

There is no template language. What stands between the braces is parsed as a
Python expression by `ast`, and must be one of the names below, a call of ``var``
or ``env_var`` with constants, or a constant text (``{{ "{{" }}`` gives two braces).
Expansion is one pass: what a variable holds is never expanded again. In SQL,
comments are left alone.
"""

from __future__ import annotations

import ast
import functools
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import NamedTuple

import attrs

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Location
from seeknal_core.graph.tokens import Kind, templates_in, tokenize
from seeknal_core.project.allowed_variables import ListedVariables

_NAMES = ("today", "yesterday", "env_name", "run_id")
_CALLS = ("var", "env_var")


@attrs.frozen(kw_only=True)
class Variables:
    """What templates give in one command.

    ``env_var`` reads those of the process's variables that are ``listed``.
    """

    today: date
    run_id: str
    env_name: str
    vars: Mapping[str, object] = attrs.field(factory=dict)
    listed: ListedVariables = ListedVariables()


class Expression(NamedTuple):
    """What stands between the braces.

    ``name`` is one of the names, ``var``, ``env_var``, or empty for a constant,
    which is then ``default``.
    """

    name: str
    key: str = ""
    default: object = None
    has_default: bool = False

    def __str__(self) -> str:
        if self.name in _NAMES:
            return f"{{{{ {self.name} }}}}"
        if not self.name:
            return f"{{{{ {self.default!r} }}}}"
        default = f", {self.default!r}" if self.has_default else ""
        return f"{{{{ {self.name}({self.key!r}{default}) }}}}"


class Template(NamedTuple):
    """A template at ``text[start:end]``; ``problem`` is what is wrong with it, or empty."""

    start: int
    end: int
    expression: Expression
    problem: str = ""


class _Wrong(Exception):
    """What is wrong with an expression."""


@functools.lru_cache(maxsize=1024)
def _parse(inside: str) -> Expression:
    try:
        body = ast.parse(inside.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise _Wrong(f"{inside.strip()!r} is no template; write one of {_known()}") from None
    match body:
        case ast.Constant(value=str(text)):
            return Expression("", default=text)
        case ast.Name(id=name) if name in _NAMES:
            return Expression(name)
        case ast.Name(id=name):
            raise _Wrong(_unknown(name))
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            return _call(name, body)
        case ast.Call(func=ast.Name(id="ref")):
            raise _Wrong("ref(...) is written without braces: FROM ref('source.x')")
        case ast.Call(func=ast.Name(id=name)):
            raise _Wrong(_unknown(name))
    raise _Wrong(f"{inside.strip()!r} is no template; write one of {_known()}")


def _call(name: str, call: ast.Call) -> Expression:
    usage = f'write {name}("name") or {name}("name", "default")'
    try:
        arguments = [ast.literal_eval(argument) for argument in call.args]
        keywords = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except (ValueError, TypeError):
        raise _Wrong(f"{name}(...) takes constants only; {usage}") from None
    if "default" in keywords and len(arguments) == 1:
        arguments.append(keywords.pop("default"))
    if keywords or not 1 <= len(arguments) <= 2 or not isinstance(arguments[0], str):
        raise _Wrong(f"{name}(...) is used wrongly; {usage}")
    if len(arguments) == 2 and not isinstance(arguments[1], (str, int, float, type(None))):
        raise _Wrong(f"the default of {name}({arguments[0]!r}) is no text, number or boolean")
    return Expression(name, arguments[0], arguments[1] if len(arguments) == 2 else None,
                      len(arguments) == 2)  # fmt: skip


def _known() -> str:
    return ", ".join([*_NAMES, *(f'{name}("name", default)' for name in _CALLS)])


def _unknown(name: str) -> str:
    return f"unknown template {name!r}; {nearest(name, [*_NAMES, *_CALLS]) or 'known: ' + _known()}"


def find(text: str, *, sql: bool = False) -> tuple[Template, ...]:
    """Find the templates of `text`, in order; in SQL not those inside comments."""
    if "{{" not in text:
        return ()
    if not sql:
        spans = list(templates_in(text))
    else:
        spans = []
        for token in tokenize(text, templates=True):
            if token.kind is Kind.TEMPLATE:
                spans.append((token.start, token.end))
            elif token.kind in (Kind.STRING, Kind.QUOTED):
                spans += templates_in(text, token.start, token.end)
    return tuple(_template(text, start, end) for start, end in spans)


def _template(text: str, start: int, end: int) -> Template:
    try:
        return Template(start, end, _parse(text[start + 2 : end - 2]))
    except _Wrong as wrong:
        return Template(start, end, Expression(""), str(wrong))


def variables_in(text: str, *, sql: bool = False) -> frozenset[str]:
    """Return the names of the environment variables that the templates of `text` read."""
    if "env_var" not in text:
        return frozenset()
    found = (template.expression for template in find(text, sql=sql))
    return frozenset(each.key for each in found if each.name == "env_var")


def place(location: Location | None, text: str, offset: int) -> Location:
    """Return where ``text[offset]`` stands in the file that `text` starts at `location` of.

    Every line of `text` is taken to start at the column of its first one, as the
    lines of a YAML block do.
    """
    if location is None:
        return Location(file="")
    before = text[:offset]
    column = offset - (before.rfind("\n") + 1)
    start = max(location.column, 1)
    return Location(
        file=location.file, line=max(location.line, 1) + before.count("\n"), column=start + column
    )


def problems(
    text: str,
    vars: Mapping[str, object],
    listed: ListedVariables,
    *,
    location: Location | None = None,
    sql: bool = False,
    path: str = "",
) -> list[Problem]:
    """List what is wrong with the templates of `text`.

    Args:
        location: where the text starts (SQL), or the node it belongs to.
        path: leads to the text in its document.
    """
    result = []
    for template in find(text, sql=sql):
        wrong, hint = template.problem, ""
        if not wrong:
            wrong, hint = _missing(template.expression, vars, listed)
        if wrong:
            at = place(location, text, template.start) if sql else location or Location(file="")
            result.append(Problem(wrong, at.file, at.line, at.column, path, hint))
    return result


def _missing(
    expression: Expression, vars: Mapping[str, object], listed: ListedVariables
) -> tuple[str, str]:
    key = expression.key
    if expression.name == "var" and key in vars:
        if isinstance(vars[key], (list, tuple, dict)):
            return f"the variable {key!r} is a list or a mapping; a template takes one value", ""
    elif expression.name == "var" and not expression.has_default:
        known = nearest(key, vars)
        hint = f"pass --vars '{{\"{key}\": …}}', or give var({key!r}, default)"
        return f"the variable {key!r} is not set" + (f", {known}" if known else ""), hint
    if expression.name == "env_var":
        return listed.problem(key, has_default=expression.has_default)
    return "", ""


def _value(expression: Expression, variables: Variables) -> object:
    match expression.name:
        case "today":
            return variables.today.isoformat()
        case "yesterday":
            return (variables.today - timedelta(days=1)).isoformat()
        case "env_name":
            return variables.env_name
        case "run_id":
            return variables.run_id
        case "var":
            return variables.vars.get(expression.key, expression.default)
        case "env_var":
            return variables.listed.value(expression.key, expression.default)
        case _:
            return expression.default


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class Expanded(NamedTuple):
    """Expanded text; `original` leads back to the text as written."""

    text: str
    #: (offset in the expanded text, offset as written, whether it is a template's), ascending.
    pieces: tuple[tuple[int, int, bool], ...]

    def original(self, offset: int) -> int:
        """Return where the character at `offset` stands in the text as written."""
        index = bisect_right(self.pieces, offset, key=lambda piece: piece[0]) - 1
        start, written, is_template = self.pieces[max(index, 0)]
        return written if is_template else written + offset - start


def substitute(text: str, give: Callable[[Expression], str], *, sql: bool) -> Expanded:
    """Replace each template of `text` by what `give` returns for it."""
    parts: list[str] = []
    pieces: list[tuple[int, int, bool]] = []
    at = size = 0
    for template in find(text, sql=sql):
        parts.append(text[at : template.start])
        pieces.append((size, at, False))
        size += template.start - at
        given = give(template.expression)
        parts.append(given)
        pieces.append((size, template.start, True))
        size += len(given)
        at = template.end
    parts.append(text[at:])
    pieces.append((size, at, False))
    return Expanded("".join(parts), tuple(pieces))


def expand_sql(text: str, variables: Variables) -> Expanded:
    """Expand SQL whose templates are known to be right, keeping track of places."""
    return substitute(text, lambda found: _text(_value(found, variables)), sql=True)


def expand(
    text: str, variables: Variables, *, location: Location | None = None, sql: bool = False
) -> str:
    """Expand the templates of `text`.

    Args:
        location: where the text stands, for messages.
        sql: whether `text` is SQL, whose comments are left alone.

    Raises:
        ConfigError: unknown templates and missing variables, all of them.
    """
    wrong = problems(text, variables.vars, variables.listed, location=location, sql=sql)
    if wrong:
        raise ConfigError(wrong)
    return substitute(text, lambda found: _text(_value(found, variables)), sql=sql).text


def expand_value(
    value: object, variables: Variables, location: Location | None = None, path: str = ""
) -> object:
    """Expand the templates of all text inside nested mappings and lists.

    A text that is one template and nothing else becomes the variable's own value:
    ``skip: "{{ var('skip') }}"`` gives the number.

    Raises:
        ConfigError: unknown templates and missing variables.
    """
    match value:
        case str():
            found = find(value)
            alone = len(found) == 1 and found[0].start == 0 and found[0].end == len(value)
            if alone and found[0].expression.name == "var":
                wrong = problems(
                    value, variables.vars, variables.listed, location=location, path=path
                )
                if wrong:
                    raise ConfigError(wrong)
                return _value(found[0].expression, variables)
            return expand(value, variables, location=location)
        case Mapping():
            return {
                key: expand_value(item, variables, location, f"{path}.{key}" if path else str(key))
                for key, item in value.items()
            }
        case list() | tuple():
            return [expand_value(item, variables, location, path) for item in value]
        case _:
            return value


def fill_vars(text: str, vars: Mapping[str, object], *, sql: bool = False) -> str:
    """Fill in ``var(...)`` only, and write the other templates in one way: the definition.

    A ``var`` that is missing, or a template that is wrong, stays as it is written.
    """

    def give(expression: Expression) -> str:
        if expression.name != "var":
            return str(expression)
        if expression.key in vars:
            return _text(vars[expression.key])
        return _text(expression.default) if expression.has_default else str(expression)

    return substitute(text, give, sql=sql).text


def fill_vars_in(value: object, vars: Mapping[str, object]) -> object:
    """Do what `fill_vars` does for all text inside nested mappings and lists."""
    match value:
        case str():
            return fill_vars(value, vars)
        case Mapping():
            return {key: fill_vars_in(item, vars) for key, item in value.items()}
        case list() | tuple():
            return [fill_vars_in(item, vars) for item in value]
        case _:
            return value


def texts(value: object, path: str) -> list[tuple[str, str]]:
    """List the texts inside nested mappings and lists, each with its path."""
    match value:
        case str():
            return [(path, value)]
        case Mapping():
            return [found for key, item in value.items() for found in texts(item, f"{path}.{key}")]
        case list() | tuple():
            return [found for i, item in enumerate(value) for found in texts(item, f"{path}[{i}]")]
        case _:
            return []
