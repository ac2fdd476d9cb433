"""Every row of ``docs/unfinished.md`` in every store, by every refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from support.unfinished import Project, projects
from support.unfinished_walks import WALKS

Make = Callable[..., Project]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> Iterator[Make]:
    """Make projects in stores that all tests of the module share."""
    with projects(tmp_path_factory.mktemp("unfinished"), postgres_server) as made:
        yield made


@pytest.mark.parametrize(
    ("walk", "stores", "how"),
    [
        pytest.param(
            *one,
            id="-".join([one[0].__name__, *one[1], *(f"{s}:{h}" for s, h in one[2].items())]),
        )
        for row in WALKS.values()
        for one in row.more
    ],
)
def test_a_row_leads_out(
    walk: Callable[[Project, Mapping[str, str]], None],
    stores: tuple[str, ...],
    how: Mapping[str, str],
    make: Make,
) -> None:
    project = make(*stores)
    project.thorough = True
    walk(project, how)
