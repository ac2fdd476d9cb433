"""A journey through each way of answering that Iceberg catalogs have.

``tox -e catalog-modes`` runs the other tests of a REST catalog in every mode, too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.catalog_in_mode import (
    MISSING,
    MODES,
    ModedCatalog,
    in_mode,
    rest_backing,
    seaweedfs_backing,
)
from support.catalog_journey import CommandJourney, HooksJourney, Look

if TYPE_CHECKING:
    from support.lake import LakeServer


def _modes(*, whole: bool) -> list[object]:
    return [
        pytest.param(name, marks=[pytest.mark.xfail(reason=MISSING[name], strict=True)])
        if name in MISSING
        else name
        for name, mode in MODES.items()
        if mode.whole == whole
    ]


@contextlib.contextmanager
def catalog(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[ModedCatalog]:
    """Put a mode before the tests' own REST server, with S3 where the mode needs it."""
    lake: LakeServer | None = None
    if MODES[name].on_s3:
        lake = request.getfixturevalue("lake")
    with (
        rest_backing(folder / "server", lake, tokens=name == "expiring-tokens") as backing,
        in_mode(name, backing) as made,
    ):
        yield made


@pytest.mark.parametrize("name", _modes(whole=False))
def test_tables_are_promoted_rolled_back_and_deleted(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with catalog(name, request, tmp_path) as made:
        journey = HooksJourney(made.catalog_options(), tmp_path, Look(made.direct_options()))
        try:
            journey.go()
        finally:
            journey.close()


@pytest.mark.parametrize("name", _modes(whole=True))
def test_all_commands_work_on_a_catalog(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with catalog(name, request, tmp_path) as made:
        CommandJourney(made.catalog_options(), tmp_path, Look(made.direct_options())).go()


def test_commands_work_on_seaweedfs_too(lake: LakeServer, tmp_path: Path) -> None:
    with seaweedfs_backing(lake) as backing, in_mode("plain", backing) as made:
        CommandJourney(made.catalog_options(), tmp_path, Look(made.direct_options())).go()


def test_the_page_has_a_column_for_each_way_of_answering() -> None:
    file = Path(__file__).parents[2] / "docs" / "catalog-modes.json"
    columns = json.loads(file.read_text("utf-8"))
    journeys = {name: f"not yet: {MISSING[name]}" if name in MISSING else "yes" for name in MODES}
    assert {name: one["journey"] for name, one in columns.items()} == journeys, (
        "run: python tests/meta/compatibility_page.py --modes FOLDER"
    )
    assert {name: one["says"] for name, one in columns.items()} == {
        name: mode.says for name, mode in MODES.items()
    }
