"""Kills of the tool and of the catalog at random moments: nothing is lost, nothing is half.

``SEEKNAL_CATALOG_KILLS`` sets their number for each server, ``SEEKNAL_CATALOG_SEED`` repeats
a run.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.catalog_journey import CommandJourney, Look

if TYPE_CHECKING:
    from support.cli import Result
    from support.java_servers import CatalogServer

KILLS = int(os.environ.get("SEEKNAL_CATALOG_KILLS", "5"))
SEED = int(os.environ.get("SEEKNAL_CATALOG_SEED", str(time.time_ns() % 10**9)))


def with_server_killed(
    journey: CommandJourney, server: CatalogServer, wait: float, *command: str
) -> Result:
    """Run a command whose catalog dies after `wait` seconds, and starts again after that."""
    killer = threading.Timer(wait, server.kill9)
    killer.start()
    ended = journey.seeknal(*command, code=None)
    killer.join()
    server.start()
    return ended


@pytest.mark.timeout(6 * 3600)
def test_kills_at_random_moments_lose_nothing(server: CatalogServer, tmp_path: Path) -> None:
    options = server.catalog_options()
    journey = CommandJourney(options, tmp_path, Look(options))
    chance = random.Random(SEED)
    version, kills = 2, 0
    journey.become(1)
    journey.seeknal("run")
    journey.become(2)
    journey.seeknal("run", "--env", "dev")
    started = time.monotonic()
    journey.seeknal("env", "promote", "dev")
    longest = time.monotonic() - started
    while kills < KILLS:
        version += 1
        journey.become(version)
        journey.node(f"new{version}", f"SELECT {version} AS version")
        journey.seeknal("env", "plan", "dev")
        journey.seeknal("env", "apply", "dev")
        while True:
            started = time.monotonic()
            # Beyond what a whole promotion takes, or a series of kills would never end.
            wait = chance.uniform(0.02, longest * 1.3) if kills < KILLS else 300.0
            command = ("env", "promote", "dev")
            if kills < KILLS and chance.random() < 0.25:
                ended = with_server_killed(journey, server, wait, *command)
                killed = ended.code != 0
            else:
                ended = journey.seeknal.killed_after(wait, *command)
                killed = ended.code == -9
            kills += killed
            sys.stdout.write(f"{server.name}, version {version}: exit {ended.code}\n")
            if ended.code == 0:
                longest = max(longest, min(wait, time.monotonic() - started))
                break
            assert killed and ended.code in (-9, 1, 5), f"{SEED}, {kills}: {ended.said}"
            _each_table_is_whole(journey, version)
        journey.expect(version)
        assert journey.look.rows(journey.namespace, f"new{version}") == [(version,)]
        sys.stdout.write(f"{server.name}, version {version}: {kills} kills\n")
    sys.stdout.write(f"seed {SEED}\n")


def _each_table_is_whole(journey: CommandJourney, version: int) -> None:
    """Check that no table holds anything but the old version's rows or the new one's."""
    versions = (version - 1, version)
    for table in ("kept", "keyed"):
        rows = journey.look.rows(journey.namespace, table)
        assert rows in [[(n, n * one) for n in range(5)] for one in versions], (SEED, table, rows)
