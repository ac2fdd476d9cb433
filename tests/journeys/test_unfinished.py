"""Nothing is stuck: every unfinished state ends while the store allows no more than reading.

The states are the rows of the table in ``docs/unfinished.md``. One walk of each row is here;
``tests/public_cases/test_unfinished.py`` has them in other stores and by other refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.unfinished import Project, projects
from support.unfinished_walks import WALKS

_PAGE = Path(__file__).parents[2] / "docs" / "unfinished.md"
Make = Callable[..., Project]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> Iterator[Make]:
    """Make projects in stores that all tests of the module share."""
    with projects(tmp_path_factory.mktemp("unfinished"), postgres_server) as made:
        yield made


def rows() -> list[tuple[str, str]]:
    """Return the first two cells of each row of the page's table."""
    found = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in _PAGE.read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    return [(cells[0], cells[1]) for cells in found[2:]]


def test_every_row_of_the_page_is_walked_and_no_other() -> None:
    assert rows() == list(WALKS)


@pytest.mark.parametrize(
    ("walk", "stores", "how"),
    [
        pytest.param(*one, id=f"{one[0].__name__}-{'-'.join(one[1])}")
        for row in WALKS.values()
        for one in row.walks
    ],
)
def test_a_row_leads_out(
    walk: Callable[[Project, Mapping[str, str]], None],
    stores: tuple[str, ...],
    how: Mapping[str, str],
    make: Make,
) -> None:
    walk(make(*stores), how)
