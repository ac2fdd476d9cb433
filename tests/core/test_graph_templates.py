"""Templates in SQL and params."""

from __future__ import annotations

import attrs
import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.types import Location
from seeknal_core.graph import templates
from seeknal_core.graph.templates import expand, expand_value, fill_vars
from seeknal_core.project.allowed_variables import ListedVariables
from support.nodes import VARIABLES

WITH_VARS = attrs.evolve(VARIABLES, vars={"n": 3, "on": True, "name": "a b", "list": [1]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ today }} {{yesterday}}", "2026-01-02 2026-01-01"),
        ("{{ env_name }}/{{ run_id }}", "dev/run-7"),
        ("{{ var('n') }}{{ var(\"none\", 'x') }}{{ var('q', default=-1) }}", "3x-1"),
        ("{{ var('on') }} {{ var('null', None) }}", "true NULL"),
        ("{{ '{{' }} {not} {{", "{{ {not} {{"),
    ],
)
def test_templates_expand(text: str, expected: str) -> None:
    assert expand(text, WITH_VARS) == expected


def test_an_environment_variable_wins_over_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{{ env_var('SEEKNAL_TEST_X', 'absent') }}"
    variables = attrs.evolve(VARIABLES, listed=ListedVariables(names=frozenset({"SEEKNAL_TEST_X"})))
    assert expand(text, variables) == "absent"
    monkeypatch.setenv("SEEKNAL_TEST_X", "there")
    assert expand(text, variables) == "there"


def test_what_a_variable_holds_is_not_expanded_again() -> None:
    variables = attrs.evolve(VARIABLES, vars={"a": "{{ today }}"})
    assert expand("{{ var('a') }}", variables) == "{{ today }}"


def test_comments_of_sql_are_left_alone() -> None:
    sql = "select 1 -- {{ nonsense }}\n/* {{ var('x') }} */ + '{{ today }}'"
    assert expand(sql, VARIABLES, sql=True) == sql.replace("{{ today }}", "2026-01-02")


def test_all_mistakes_come_at_once_each_at_its_line_and_column() -> None:
    sql = "select {{ todya }},\n  {{ var('start') }}, {{ env_var('SEEKNAL_NONE') }},\n{{ 1 + 1 }}"
    listed = ListedVariables(names=frozenset({"SEEKNAL_NONE"}))
    variables = attrs.evolve(VARIABLES, listed=listed)
    with pytest.raises(ConfigError) as caught:
        expand(sql, variables, location=Location(file="a.sql", line=5, column=1), sql=True)
    found = [(p.line, p.column, p.message.split(";")[0]) for p in caught.value.problems]
    assert found == [
        (5, 8, "unknown template 'todya'"),
        (6, 3, "the variable 'start' is not set"),
        (6, 23, "the environment variable 'SEEKNAL_NONE' is not set"),
        (7, 1, "'1 + 1' is no template"),
    ]
    assert "did you mean 'today'?" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ ref('source.x') }}", "without braces"),
        ("{{ var() }}", "used wrongly"),
        ("{{ var(today) }}", "constants only"),
        ("{{ var('list') }}", "a list or a mapping"),
        ("{{ __import__('os') }}", "unknown template '__import__'"),
        ("{{ today.year }}", "is no template"),
        ("{{ }}", "is no template"),
    ],
)
def test_nothing_but_names_and_constants_is_a_template(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        expand(text, WITH_VARS)


def test_a_param_that_is_one_variable_keeps_its_type() -> None:
    params = {
        "skip": "{{ var('n') }}",
        "path": "d/{{ var('n') }}.csv",
        "deep": [{"a": "{{ today }}"}],
    }
    expected = {"skip": 3, "path": "d/3.csv", "deep": [{"a": "2026-01-02"}]}
    assert expand_value(params, WITH_VARS) == expected


def test_only_variables_enter_the_definition() -> None:
    text = "{{ var('n') }} {{today}} {{ env_var( \"X\" ,'y') }}"
    assert fill_vars(text, {"n": 3}) == "3 {{ today }} {{ env_var('X', 'y') }}"


def test_a_place_in_expanded_text_leads_back_to_the_text_as_written() -> None:
    text = "a {{ today }} b {{ var('n') }} c"
    expanded = templates.expand_sql(text, WITH_VARS)
    for word in "abc":
        assert expanded.original(expanded.text.index(word)) == text.index(word)
    assert expanded.original(expanded.text.index("2026") + 3) == text.index("{{ today")
