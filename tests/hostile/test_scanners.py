"""Texts made to take long, and characters that only look like blanks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.graph.references import analyze
from seeknal_core.graph.templates import find
from seeknal_core.graph.tokens import canonical, tokenize
from support.cli import Cli, write

Text = Callable[[int], str]

TEXTS: dict[str, tuple[int, Text]] = {
    "braces": (2_000, lambda n: "SELECT " + "{{" * n),
    "braces before a quote": (2_000, lambda n: "SELECT " + "{{" * n + "'}}"),
    "braces and escaped quotes": (2_000, lambda n: "SELECT " + "{{\\'" * n),
    "nested calls": (8_000, lambda n: "SELECT " + "f(" * n + "1" + ")" * n + " FROM source.a"),
    "brackets that stay open": (20_000, lambda n: "SELECT " + "(" * n),
    "joins": (4_000, lambda n: "SELECT * FROM source.a" + " JOIN source.a USING (id)" * n),
    "columns": (6_000, lambda n: "SELECT " + ", ".join(["a.b.c"] * n) + " FROM source.a"),
    "tables": (4_000, lambda n: "FROM " + ", ".join(f"source.t{i}" for i in range(n))),
    "common table expressions": (
        2_000,
        lambda n: (
            "WITH "
            + ", ".join(f"c{i} AS (SELECT * FROM source.a, c{i - 1})" for i in range(n))
            + " SELECT 1"
        ),
    ),
    "comments": (20_000, lambda n: "SELECT 1 " + "/*" * n),
    "dollar signs": (20_000, lambda n: "SELECT " + "$a" * n),
}


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_twice_the_size_takes_about_twice_the_time(name: str) -> None:
    size, text = TEXTS[name]

    def taken(size: int) -> float:
        sql = text(size)

        def read() -> None:
            analyze.cache_clear()
            find(sql)
            canonical(tokenize(sql, templates=True))
            analyze(sql)

        return min(seconds(read) for _ in range(2))

    once, twice = taken(size), taken(2 * size)
    assert twice < 3.2 * once + 0.05


@pytest.mark.parametrize("between", [" ", "\n", "\t---", "\n \n", "--- "])
def test_a_header_that_does_not_end_is_refused_at_once(between: str, tmp_path: Path) -> None:
    text = "/*---" + between * 40_000
    write(
        tmp_path,
        {"seeknal_project.yml": "name: long\n", "seeknal/t.sql": text, "profiles.yml": "{}\n"},
    )
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path / "home")}, warm=True)
    assert "is not closed by */" in seeknal("check", code=2).said


def test_a_header_with_many_blanks_is_read(tmp_path: Path) -> None:
    text = "/* ---" + " \n" * 40_000 + "tags: [gold]" + "\n " * 40_000 + "--- */ SELECT 1 AS one"
    write(tmp_path, {"seeknal_project.yml": "name: long\n", "seeknal/t.sql": text})
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path / "home")}, warm=True)
    seeknal("check")


LOOKING_BLANK = sorted(
    {chr(code) for code in range(0x110000) if chr(code).isspace()}
    | set("\u180e\u200b\u200c\u200d\u2060\u2061\ufeff\u00ad\u115f\u3164\x00\x08\x1b\x7f")
)


@pytest.mark.parametrize("character", LOOKING_BLANK, ids=lambda each: f"U+{ord(each):04X}")
def test_only_blanks_of_the_engine_set_names_apart(character: str) -> None:
    def parses(sql: str) -> bool:
        try:
            duckdb.extract_statements(sql)
        except duckdb.Error:
            return False
        return True

    # Between a number and AS: no name could hold it.
    is_blank = parses(f"SELECT{character}1 AS a")
    ours = [token.text for token in tokenize(f"SELECT{character}1 AS a")]
    assert (ours == ["SELECT", "1", "AS", "a"]) is is_blank
    if not is_blank:
        names = (f"SELECT a{character}b", "SELECT a b")
        assert canonical(tokenize(names[0])) != canonical(tokenize(names[1]))


def test_a_template_of_any_reasonable_length_is_found() -> None:
    default = "x" * 900
    assert len(find(f"SELECT {{{{ var('a', '{default}') }}}}", sql=True)) == 1


def test_a_template_in_error_is_named_whatever_its_depth() -> None:
    nested = "SELECT {{ var(" + "(" * 400 + "1" + ")" * 400 + ") }}"
    try:
        (found,) = find(nested, sql=True)
    except ConfigError:
        return
    assert found.problem
