"""The tokenizer and the canonical text of SQL."""

from __future__ import annotations

import pytest

from seeknal_core.graph.tokens import Kind, canonical, split, tokenize


def texts(sql: str, *, templates: bool = False) -> list[str]:
    return [token.text for token in tokenize(sql, templates=templates)]


def same(first: str, second: str) -> bool:
    return canonical(tokenize(first, templates=True)) == canonical(tokenize(second, templates=True))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a -- b ' \n c", ["a", "c"]),
        ("a -- b\r c", ["a", "c"]),
        ("a /* b /* c */ d */ e", ["a", "e"]),
        ("'a''b' c", ["'a''b'", "c"]),
        (r"E'a\'b' c", [r"E'a\'b'", "c"]),
        (r"'a\' b", [r"'a\'", "b"]),
        ("x'ab' date'2020-01-01'", ["x'ab'", "date", "'2020-01-01'"]),
        ("$$a;'$$ $tag$ $$ $tag$", ["$$a;'$$", "$tag$ $$ $tag$"]),
        ("a$b $1", ["a$b", "$", "1"]),
        ('"a""b".c', ['"a""b"', ".", "c"]),
        ("1_000 1e-5 .5 1-1", ["1_000", "1e-5", ".5", "1", "-", "1"]),
        ("a=-1 b->>'x' c||d e::int", ["a", "=", "-", "1", "b", "->>", "'x'", "c", "||", "d", "e",
                                      "::", "int"]),
        ("a*/**/b", ["a", "*", "b"]),
        ("größe 🦆", ["größe", "🦆"]),
        ("'open", ["'open"]),
        ("/* open", []),
    ],
)  # fmt: skip
def test_sql_is_cut_as_the_engine_cuts_it(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


def test_a_token_knows_its_place() -> None:
    sql = "select ü /* x */ from \"a b\" where 'é' = 1"
    for token in tokenize(sql):
        assert sql[token.start : token.end] == token.text


def test_a_template_is_one_token_and_opaque_inside_a_string() -> None:
    tokens = tokenize("{{ var('a', \"}}\") }} '{{ var('b') }}' c", templates=True)
    assert [(token.kind, token.text) for token in tokens] == [
        (Kind.TEMPLATE, "{{ var('a', \"}}\") }}"),
        (Kind.STRING, "'{{ var('b') }}'"),
        (Kind.WORD, "c"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("select a from t", "SELECT  a\n-- why\nFROM /* that */ t ;"),
        ("select a from t", ";;select a from t;;"),
        ("select 1;select 2", "select 1 ;\n; select 2"),
        ("select a=-1", "select a = - 1"),
        ("select row_number() over (partition by a order by b)",
         "SELECT row_number() OVER (PARTITION BY a ORDER BY b)"),
        ("create temp table x as select 1", "CREATE temp TABLE x AS SELECT 1"),
        ("select a.b", "select a . b"),
        ("with x as (select 1) from x", "WITH x AS (SELECT 1) FROM x"),
    ],
)  # fmt: skip
def test_layout_comments_and_the_case_of_keywords_do_not_count(first: str, second: str) -> None:
    assert same(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("select a from t", "select A from t"),
        ("select 'a'", "select 'A'"),
        ("select 'a  b'", "select 'a b'"),
        ("select '-- a'", "select '-- b'"),
        ("select 1 as order", "select 1 as ORDER"),
        ("select t.desc from t", "select t.DESC from t"),
        ("select {end: 1}", "select {END: 1}"),
        ("select f(end := 1)", "select f(END := 1)"),
        ('select "from"', 'select "FROM"'),
        ("select 'a' 'b'", "select 'a''b'"),
        ("select x'ab'", "select x 'ab'"),
        ("select 1a", "select 1 a"),
        ("select a - -1", "select a -1"),
        ("select 1; select 2", "select 1 select 2"),
        ("select t_{{ today }}", "select t_ {{ today }}"),
        ("select $$a$$", "select 'a'"),
    ],
)
def test_what_may_change_the_output_counts(first: str, second: str) -> None:
    assert not same(first, second)


@pytest.mark.parametrize(
    "sql",
    [
        "select a=-1, 'x''y', $$ q $$ from \"T\" where b @- 2 and c::int[1:-1] is not null; select 1.5e-3"
    ],
)
def test_the_canonical_text_is_its_own_canonical_text(sql: str) -> None:
    once = canonical(tokenize(sql))
    assert canonical(tokenize(once)) == once


def test_statements_part_at_semicolons_outside_of_quotes_and_comments() -> None:
    sql = "select ';' /* ; */; select $$;$$ -- ;\n; select \";\""
    assert [[token.text for token in found] for found in split(tokenize(sql))] == [
        ["select", "';'"],
        ["select", "$$;$$"],
        ["select", '";"'],
    ]
