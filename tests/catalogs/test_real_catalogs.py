"""Stories of a project on real catalog servers, told with the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from support.catalog_journey import CommandJourney, Look

if TYPE_CHECKING:
    from support.java_servers import CatalogServer

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def journey(server: CatalogServer, tmp_path: Path) -> CommandJourney:
    options = server.catalog_options()
    return CommandJourney(options, tmp_path, Look(options))


def test_all_commands_work(journey: CommandJourney) -> None:
    journey.go()


def test_what_others_change_is_seen(journey: CommandJourney) -> None:
    journey.become(1)
    journey.seeknal("run")
    assert journey.seeknal("env", "status", "prod", "--exit-code").code == 0
    with journey.look.catalog() as catalog:
        table = catalog.load_table((journey.namespace, "kept"))
        table.append(
            pa.table({"id": pa.array([99], pa.int64()), "amount": pa.array([1], pa.int64())})
        )
        catalog.drop_table((journey.namespace, "keyed"))
    said = journey.seeknal("env", "status", "prod", "--exit-code", code=3).said
    assert "kept" in said and "keyed" in said


def test_a_dropped_table_is_made_again(journey: CommandJourney) -> None:
    journey.become(1)
    journey.seeknal("run")
    with journey.look.catalog() as catalog:
        catalog.drop_table((journey.namespace, "kept"))
    journey.seeknal("run", "--full-refresh", "--yes", code=None)
    journey.seeknal("run")
    journey.expect(1)


def test_two_environments_have_their_own_tables(journey: CommandJourney) -> None:
    journey.become(1)
    journey.seeknal("run")
    journey.become(2)
    journey.seeknal("run", "--env", "dev")
    journey.expect(2, f"dev_{journey.namespace}")
    assert journey.look.rows(journey.namespace, "new") is None
    journey.seeknal("env", "delete", "dev", "--yes")
    assert journey.look.tables(f"dev_{journey.namespace}") == []
    journey.seeknal("run", "--env", "dev")
    journey.expect(2, f"dev_{journey.namespace}")
