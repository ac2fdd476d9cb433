"""A journey through each way of answering that Iceberg catalogs have.

``tox -e catalog-modes`` runs the other tests of a REST catalog in every mode, too.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seeknal_core.errors import BackendError
from support.catalog_asking import Asked, body_of, refusal, with_table
from support.catalog_journey import CommandJourney, HooksJourney, Look
from support.catalog_modes import (
    MODES,
    ModedCatalog,
    in_mode,
    rest_backing,
    seaweedfs_backing,
    without_keys,
)
from support.catalog_proxy import Answer, CatalogProxy, Request, Send
from support.distributions import install
from support.iceberg import Bench
from support.vending import Guard, Vending

if TYPE_CHECKING:
    from support.lake import LakeServer


def _modes(*, whole: bool) -> list[str]:
    return [name for name, mode in MODES.items() if mode.whole == whole]


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


class _WholeWarehouse(Vending):
    """Gives keys to the whole warehouse with each table, as R2 does."""

    def __init__(self, guard: Guard, endpoint: str, keys: tuple[str, str], warehouse: str) -> None:
        super().__init__(guard, endpoint, keys, ("config",))
        self._warehouse = warehouse

    def _config(self, location: str) -> Mapping[str, str]:
        return super()._config(self._warehouse)


@pytest.mark.parametrize("whole", [True, False])
def test_staged_files_in_a_place_of_chance_are_read_by_keys_to_the_whole_warehouse(
    whole: bool, lake: LakeServer, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as closing:
        backing = closing.enter_context(rest_backing(tmp_path / "server", lake))

        def by_chance(request: Request, send: Send) -> Answer:
            asked, body = Asked.of(request), body_of(request)
            if request.method != "POST" or asked.what != "tables":
                return send(request)
            if body.get("location"):
                return refusal(400, "a location can't be chosen")
            body["location"] = f"{backing.warehouse}/{uuid.uuid4().hex}"
            return send(with_table(request, body))

        guard = Guard(lake.s3_endpoint)
        closing.callback(guard.close)
        options = lake.s3_options()
        keys = (options["s3.access-key-id"], options["s3.secret-access-key"])
        vending = Vending(guard, lake.s3_endpoint, keys, ("config",))
        if whole:
            vending = _WholeWarehouse(guard, lake.s3_endpoint, keys, backing.warehouse)
        proxy = closing.enter_context(CatalogProxy(backing.uri, [vending, by_chance]))
        profile = {"catalog": without_keys({**backing.options, "uri": proxy.uri})}
        bench, other = Bench(profile, tmp_path), Bench(profile, tmp_path)
        closing.callback(bench.close)
        closing.callback(other.close)
        promotion = bench.promotion()
        target = promotion.stage(bench.target("sales.new"), {"id": [1, 2]})
        if whole:
            assert other.count(target) == 2
            promotion.discard(other)
            assert backing.is_empty(backing.warehouse)
        else:
            with pytest.raises(BackendError, match="gives no keys for the files at"):
                other.count(target)


def _killer(folder: Path) -> str:
    source = (Path(__file__).parents[1] / "support" / "seeknal_killer.py").read_text("utf-8")
    made = install(
        folder / "site",
        distribution="seeknal-killer",
        module="seeknal_killer",
        source=source,
        entry_points={"seeknal.plugins": {"killer": "seeknal_killer"}},
    )
    return str(made)


def test_an_aborted_promotion_leaves_no_files_of_a_new_table_where_places_must_be_empty(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with catalog("polaris", request, tmp_path) as made:
        journey = CommandJourney(made.catalog_options(), tmp_path, Look(made.direct_options()))
        journey.promotion_is_killed_and_finished("--abort", _killer(tmp_path), "stage", "after:3")
        files = made.backing.files()
    assert files and not [file for file in files if f"/{journey.namespace}/new/" in file]


def test_an_aborted_promotion_ends_where_the_storage_deletes_nothing(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with catalog("s3tables", request, tmp_path) as made:
        journey = CommandJourney(made.catalog_options(), tmp_path, Look(made.direct_options()))
        journey.promotion_is_killed_and_finished("--abort", _killer(tmp_path), "stage", "after:3")
        tables = journey.look.tables(journey.namespace)
    assert tables == ["kept", "keyed"]


def test_commands_work_on_seaweedfs_too(lake: LakeServer, tmp_path: Path) -> None:
    with seaweedfs_backing(lake) as backing, in_mode("plain", backing) as made:
        CommandJourney(made.catalog_options(), tmp_path, Look(made.direct_options())).go()


def test_the_page_has_a_column_for_each_way_of_answering() -> None:
    file = Path(__file__).parents[2] / "docs" / "catalog-modes.json"
    columns = json.loads(file.read_text("utf-8"))
    assert {name: one["journey"] for name, one in columns.items()} == dict.fromkeys(MODES, "yes"), (
        "run: python tests/meta/compatibility_page.py --modes FOLDER"
    )
    assert {name: one["says"] for name, one in columns.items()} == {
        name: mode.says for name, mode in MODES.items()
    }
