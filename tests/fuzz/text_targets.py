"""Texts: templates, SQL as tokens, selections, names, variables."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from datetime import date

import click

from fuzz.target import Target, argument, parts, plain, text
from seeknal_core.cli.options import shared_options
from seeknal_core.contract.names import fit
from seeknal_core.contract.types import Location
from seeknal_core.graph import build_graph
from seeknal_core.graph.graph import Graph
from seeknal_core.graph.references import analyze
from seeknal_core.graph.selection import select
from seeknal_core.graph.templates import (
    Variables,
    expand,
    expand_sql,
    expand_value,
    fill_vars,
    find,
)
from seeknal_core.graph.tokens import Token, canonical, split, tokenize
from seeknal_core.project.environment_names import conventional_prefix, parse_environment_name
from seeknal_core.project.specs import ProjectSettings, SqlNode

_SQL = (
    "SELECT ", " FROM ", "source.a", "ref('source.a')", "{{ today }}", "{{ var('a', 'b') }}", "{{", "}}",
    "--", "/*", "*/", "$$", "$a$", "E'", "\\'", "''", '""', " AS ", "WITH ", "PARTITION BY ", "OVER (",
    "CREATE TEMP TABLE x AS ", ";", "\u2028", "\u00a0", "1_0e-5", "::", "@>", "|>", "LATERAL ", "JOIN ",
)  # fmt: skip

_VARIABLES = Variables(
    today=date(2026, 1, 2), run_id="r", env_name="dev", vars={"a": 1, "b": "x", "c": None, "d": [1]}
)


def _templates(data: bytes) -> None:
    written = text(data)
    for sql in (False, True):
        end = 0
        for template in find(written, sql=sql):
            assert end <= template.start < template.end
            end = template.end
        fill_vars(written, _VARIABLES.vars, sql=sql)
    expanded = None
    try:
        expanded = expand_sql(written, _VARIABLES)
    finally:
        places = (
            [expanded.original(at) for at in range(len(expanded.text) + 1)] if expanded else [0]
        )
        assert places == sorted(places) and places[-1] <= len(written)
    expand_value({"x": [written]}, _VARIABLES)
    expand(written, _VARIABLES, sql=True)


def _without_comments(sql: str, tokens: tuple[Token, ...], gap: str) -> str:
    out, end = "", 0
    for token in tokens:
        out += (gap if token.start > end else "") + token.text
        end = token.end
    return out


def _tokens(data: bytes) -> None:
    written = text(data)
    for templates in (False, True):
        tokens = tokenize(written, templates=templates)
        assert all(written[token.start : token.end] == token.text for token in tokens)
        meant = canonical(tokens)
        assert canonical(tokenize(meant, templates=templates)) == meant
        # A quote in a comment may close one in braces, and a template's length is bounded.
        gaps = [" "] if templates else [" ", "\n", " /* ' */", " -- x\n"]
        for gap in gaps if len(written) < 900 else ():
            other = _without_comments(written, tokens, gap)
            assert canonical(tokenize(other, templates=templates)) == meant, other
        split(tokens)


def _references(data: bytes) -> None:
    sql = text(data)
    found = analyze(sql).references
    assert all(0 <= each.start < each.end <= len(sql) for each in found)


@functools.cache
def _graph() -> Graph:
    def node(name: str, sql: str, *tags: str) -> SqlNode:
        place = Location(file=f"seeknal/{name}.sql", line=1, column=1)
        return SqlNode(name=name, location=place, sql=sql, sql_location=place, tags=tags)

    return build_graph(
        [
            node("a", "SELECT 1 AS x", "gold"),
            node("b", "SELECT * FROM transform.a", "gold", "new"),
            node("odd name, a+", "SELECT * FROM transform.b"),
            node("stg_c", "SELECT * FROM transform.b"),
        ],
        vars={},
    )


def _selection(data: bytes) -> None:
    chosen, left_out = parts(data, 2)
    found = select(_graph(), [argument(chosen)], [argument(left_out)] if left_out else [])
    assert found <= set(_graph().nodes)


def _names(data: bytes) -> None:
    written = argument(data)
    if not any("\ud800" <= character <= "\udfff" for character in written):
        for limit in (16, 63):
            assert len(fit(written, limit).encode()) <= limit
    for production in ("prod", "live"):
        settings = ProjectSettings(name="p", root="/p", production=production)
        name = parse_environment_name(written, settings)
        assert parse_environment_name(name, settings) == name == name.lower()
        assert conventional_prefix(name).isidentifier()


def _given(data: bytes) -> None:
    given: list[dict[str, object]] = []

    @click.command()
    @shared_options
    def command(
        profile: str | None, variables: dict[str, object], ignore_unsupported: bool
    ) -> None:
        given.append(variables)

    command.main(["--vars", argument(data)], standalone_mode=False)
    (values,) = given
    variables = Variables(today=date(2026, 1, 2), run_id="r", env_name="dev", vars=values)
    for name in values:
        expand(f"{{{{ var({name!r}) }}}}", variables)
        fill_vars(f"{{{{ var({name!r}) }}}}", values)
    json.dumps(values, ensure_ascii=False)
    place = Location(file="seeknal/t.sql", line=1, column=1)
    sql = "SELECT {{ var('a', 1) }} AS x"
    build_graph([SqlNode(name="t", location=place, sql=sql, sql_location=place)], vars=values)


def _scanners(data: bytes) -> None:
    """A text of twice the size takes about twice the time."""
    before, unit, after = (text(part) for part in parts(data, 3))
    if not unit:
        return

    def taken(size: int) -> float:
        sql = before + unit * (size // len(unit)) + after

        def once() -> float:
            start = time.process_time()
            find(sql)
            find(sql, sql=True)
            canonical(tokenize(sql, templates=True))
            analyze.cache_clear()
            analyze(sql)
            return time.process_time() - start

        return once()

    size = 4_000
    once, twice = taken(size), taken(2 * size)
    if twice < 3 * once + 0.2:
        return
    once, twice = (min(taken(each) for _ in range(3)) for each in (size, 2 * size))
    assert twice < 3 * once + 0.2, f"{size}: {once:.2f} s, {2 * size}: {twice:.2f} s"


def _target(name: str, run: Callable[[bytes], None], *words: str, seconds: int = 5) -> Target:
    return Target(name=name, open=plain(run), words=words, seconds=seconds)


TARGETS = (
    _target("templates", _templates, *_SQL),
    _target("tokens", _tokens, *_SQL),
    _target("references", _references, *_SQL),
    _target(
        "selection",
        _selection,
        "tag:",
        "path:",
        "+",
        "2+",
        ",",
        "*",
        "[!",
        "\n=====\n",
        "transform.",
    ),
    _target("names", _names, "prod", "live", "dev", "-", "_"),
    _target("variables", _given, '{"a": ', "1e999", "NaN", "\\ud800", "[", "null", "}"),
    _target("scanners", _scanners, "\n=====\n", *_SQL, seconds=30),
)
