"""New tables in catalogs that begin none in two steps: a kill at every request that changes something.

The whole walk; `tests/iceberg/test_iceberg_begun.py` has a cheap selection.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iceberg.test_iceberg_begun import REQUESTS, Tables, answers_are_lost
from support.catalog_journey import CommandJourney, Look
from support.catalog_modes import ModedCatalog, in_mode, rest_backing
from support.catalog_proxy import Action, answer, drop, twice

if TYPE_CHECKING:
    from support.lake import LakeServer

MODES = ("s3tables", "glue")


@pytest.fixture(params=MODES)
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModedCatalog]:
    with rest_backing(tmp_path / "server") as backing, in_mode(request.param, backing) as made:
        yield made


def is_whole_or_absent(catalog: ModedCatalog, rows: list[tuple[object, ...]] | None) -> bool:
    """Tell whether readers see a new table with all of its rows, or none; or empty on Glue."""
    return rows in (None, *([[]] if catalog.mode.name == "glue" else [])) or len(rows or ()) == 5


def is_tidy(catalog: ModedCatalog, journey: CommandJourney, *namespaces: str) -> None:
    """Check that nothing is in a namespace, or on its disk, but its tables."""
    if catalog.mode.on_s3:
        return  # Lakekeeper keeps what was dropped for a while
    for namespace in namespaces:
        with journey.look.catalog() as opened:
            names = opened.list_tables(namespace) if opened.namespace_exists(namespace) else []
            places = [opened.load_table(name).location() for name in names]
        assert not [name for name in names if "seeknal_new" in name[-1]]
        roots = tuple(f"{place.removeprefix('file://')}/" for place in places)
        files = [file for file in catalog.backing.files() if f"/{namespace}/" in file]
        left = [file for file in files if not f"/{file.lstrip('/')}".startswith(roots)]
        assert not [file for file in left if not file.endswith(".metadata.json")], left


def test_a_first_run_is_killed_at_every_request(catalog: ModedCatalog, tmp_path: Path) -> None:
    """AWS documents that S3 Tables and Glue refuse ``stage-create``."""
    look = Look(catalog.direct_options())
    for number in itertools.count(1):
        killed = False
        for landed in (False, True):
            journey = CommandJourney(
                catalog.catalog_options(), tmp_path / f"{number}-{landed}", look
            )
            journey.node("kept", "SELECT id, id AS amount FROM range(5) AS r(id)")
            ended = journey.seeknal.killed_at(catalog.proxy, number, "run", landed=landed)
            killed = killed or ended.code == -9
            assert is_whole_or_absent(catalog, look.rows(journey.namespace, "kept"))
            journey.seeknal("run")
            assert look.rows(journey.namespace, "kept") == [(n, n) for n in range(5)]
            assert look.tables(journey.namespace) == ["kept"]
            is_tidy(catalog, journey, journey.namespace)
        if not killed:
            assert number > 4
            return


@pytest.mark.parametrize("way", ["--resume", "--abort"])
def test_a_new_table_is_promoted_though_beginning_it_again_makes_another(
    lake: LakeServer, way: str, tmp_path: Path
) -> None:
    """Lakekeeper keeps a table that is begun, and the last one to begin it has it."""
    with (
        rest_backing(tmp_path / "server", lake) as backing,
        in_mode("lakekeeper-sts", backing) as catalog,
    ):
        _kill_everywhere(catalog, way, tmp_path)


@pytest.mark.parametrize("way", ["--resume", "--abort"])
def test_a_promotion_of_a_new_table_is_killed_at_every_request(
    catalog: ModedCatalog, way: str, tmp_path: Path
) -> None:
    """AWS documents that S3 Tables and Glue refuse ``stage-create``."""
    _kill_everywhere(catalog, way, tmp_path)


def _kill_everywhere(catalog: ModedCatalog, way: str, tmp_path: Path) -> None:
    look = Look(catalog.direct_options())
    journey = CommandJourney(catalog.catalog_options(), tmp_path, look)
    seeknal = journey.seeknal
    journey.become(1)
    seeknal("run")
    journey.become(2)
    for number in itertools.count(1):
        for landed in (False, True):
            seeknal("env", "plan", "dev")
            seeknal("env", "apply", "dev")
            args = ("env", "promote", "dev")
            ended = seeknal.killed_at(catalog.proxy, number, *args, landed=landed)
            if ended.code != -9:
                assert ended.code == 0 and number > 4, ended.said
                return
            rows = look.rows(journey.namespace, "new")
            assert rows in (None, [(n, 2) for n in range(3)]) or (
                rows == [] and catalog.mode.name == "glue"
            )
            stuck = seeknal("env", "status", "prod", code=None)
            if stuck.code == 5:
                seeknal("env", "promote", "dev", "prod", way)
            elif way == "--resume":
                seeknal("env", "promote", "dev")
            journey.expect(2 if way == "--resume" else 1)
            is_tidy(catalog, journey, journey.namespace)
            if way == "--resume":
                seeknal("env", "rollback", "prod")
                journey.expect(1)
                is_tidy(catalog, journey, journey.namespace)


@pytest.mark.parametrize("lost", REQUESTS)
@pytest.mark.parametrize(
    "way",
    [
        drop(landed=True),
        drop(landed=False),
        twice,
        answer(409, landed=True),
        *(answer(status, landed=landed) for status in (500, 503, 504) for landed in (True, False)),
    ],
)
@pytest.mark.parametrize("mode", ["no-staged-create", "no-staged-create-no-rename"])
def test_an_answer_about_a_new_table_is_lost(
    mode: str, way: Action, lost: str, tmp_path: Path
) -> None:
    """AWS documents that S3 Tables and Glue refuse ``stage-create``."""
    with rest_backing(tmp_path / "server") as backing, in_mode(mode, backing) as made:
        tables = Tables(made, tmp_path)
        answers_are_lost(tables, REQUESTS[lost], way)
        tables.close()
