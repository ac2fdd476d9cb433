"""--select and --exclude."""

from __future__ import annotations

import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.types import Location
from seeknal_core.graph import select
from support.nodes import graph_of, source, sql

PLACE = Location(file="seeknal/gold/all.yml", line=1)
#  raw -> stg_a -> mid -> top, raw -> stg_b -> mid
GRAPH = graph_of(
    source("raw", tags=("daily",)),
    sql("stg_a", "from source.raw", tags=("silver", "daily")),
    sql("stg_b", "from source.raw", tags=("silver",)),
    sql("mid", "from transform.stg_a, transform.stg_b"),
    sql("top", "from transform.mid", location=PLACE),
    sql("raw", "select 1"),
    sql("odd name", "select 1"),
)


def chosen(text: str, exclude: str = "") -> set[str]:
    ids = select(GRAPH, [text] if text else [], [exclude] if exclude else [])
    return {id.replace("transform.", "") for id in ids}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mid", {"mid"}),
        ("transform.mid", {"mid"}),
        ("raw", {"source.raw", "raw"}),
        ("source.raw", {"source.raw"}),
        ("odd name", {"odd name"}),
        ("+stg_a", {"stg_a", "source.raw"}),
        ("stg_a+", {"stg_a", "mid", "top"}),
        ("+mid+", {"source.raw", "stg_a", "stg_b", "mid", "top"}),
        ("1+mid", {"stg_a", "stg_b", "mid"}),
        ("stg_a+1", {"stg_a", "mid"}),
        ("tag:silver", {"stg_a", "stg_b"}),
        ("tag:silver,tag:daily", {"stg_a"}),
        ("tag:daily+", {"source.raw", "stg_a", "stg_b", "mid", "top"}),
        ("transform.stg_*", {"stg_a", "stg_b"}),
        ("stg_? top", {"stg_a", "stg_b", "top"}),
        ("path:seeknal/gold", {"top"}),
        ("path:seeknal/gold/all.yml", {"top"}),
    ],
)
def test_a_term_chooses_its_nodes(text: str, expected: set[str]) -> None:
    assert chosen(text) == expected


def test_nothing_given_chooses_everything() -> None:
    assert len(chosen("")) == len(GRAPH.nodes)


def test_several_options_are_a_union_and_exclude_takes_away() -> None:
    assert select(GRAPH, ["stg_a", "top"], []) == {"transform.stg_a", "transform.top"}
    assert chosen("+mid", "tag:silver") == {"source.raw", "mid"}
    assert chosen("", "source.raw+") == {"raw", "odd name"}


def test_a_term_that_matches_nothing_is_a_mistake_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        select(GRAPH, ["+midd", "tag:silvre", "tga:x", "path:nowhere"], ["stg_[z]"])
    assert [str(problem) for problem in caught.value.problems] == [
        "--select +midd: no node is called 'midd'; did you mean 'mid'?",
        "--select tag:silvre: no node has the tag 'silvre'; did you mean 'silver'?",
        "--select tga:x: unknown method 'tga'; did you mean 'tag'?",
        "--select path:nowhere: no node stands in 'nowhere'",
        "--exclude stg_[z]: no node is called 'stg_[z]'; did you mean 'stg_b'?",
    ]


@pytest.mark.parametrize("text", ["", "  ", "+", ","])
def test_an_empty_term_never_chooses_everything(text: str) -> None:
    with pytest.raises(ConfigError):
        select(GRAPH, [text], [])
