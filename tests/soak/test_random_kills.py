"""Two hundred kills at random moments: nothing is lost, nothing is left, nothing is half.

Not part of the default run: ``tox run -e soak``. ``SEEKNAL_SOAK_KILLS`` sets the number,
``SEEKNAL_SOAK_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Result
from support.distributions import install
from support.postgres import PostgresServer
from support.promotions import Place, Shop, make_shop

KILLS = int(os.environ.get("SEEKNAL_SOAK_KILLS", "200"))
#: Each in a project of its own: every version adds a table, so one project grows slow.
PARTS = 8
SEED = int(os.environ.get("SEEKNAL_SOAK_SEED", str(time.time_ns() % 10**9)))


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that syncs, and that is killed as well."""
    running = PostgresServer(fsync=True)
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def shop(tmp_path: Path, server: PostgresServer) -> Shop:
    """Version 1 in production, over a database and an embedded catalog."""
    source = (Path(__file__).parents[1] / "support" / "seeknal_killer.py").read_text("utf-8")
    site = install(
        tmp_path / "site",
        distribution="seeknal-killer",
        module="seeknal_killer",
        source=source,
        entry_points={"seeknal.plugins": {"killer": "seeknal_killer"}},
    )
    places = [
        Place(name="warehouse", dsn=server.create_database()),
        Place(name="lake", warehouse=tmp_path / "lake"),
    ]
    return make_shop(tmp_path, places, str(site))


@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_kills_at_random_moments_lose_nothing(
    part: int, shop: Shop, server: PostgresServer
) -> None:
    wanted = KILLS // PARTS + (part < KILLS % PARTS)
    chance = random.Random(SEED + part)
    number, kills = 2, 0
    shop.become(number)
    shop.apply()
    started = time.monotonic()
    shop.promote()
    longest = time.monotonic() - started
    while kills < wanted:
        number += 1
        shop.become(number)
        shop.apply()
        old = shop.seen()
        command = ("env", "promote", "dev")
        while True:
            started = time.monotonic()
            # Beyond what a whole promotion takes, or a series of kills would never end.
            wait = chance.uniform(0.02, longest * 1.3)
            if chance.random() < 0.15:
                ended = with_server_killed(shop, server, wait, *command)
                # The server may have died when the command had ended.
                killed = ended.code != 0
            else:
                ended = shop.seeknal.killed_after(wait, *command)
                killed = ended.code == -9
            kills += killed
            if ended.code == 0:
                longest = max(longest, min(wait, time.monotonic() - started))
                break
            assert killed, (SEED, part, kills, ended)
            assert ended.code in (-9, 1, 5), (SEED, part, kills, ended)
            for place in shop.places:
                seen = place.seen()
                if f"shop.new{number}" not in seen:
                    assert seen == old[place.name], (SEED, part, kills, place.name)
        sys.stdout.write(f"part {part}, version {number}: {kills} kills\n")
        shop.expect(number)
        assert shop.leftovers() == [], (SEED, part, kills)
        if chance.random() < 0.2:
            shop.seeknal("env", "rollback", "prod")
            assert shop.seen() == old, (SEED, part, kills)
            assert shop.leftovers(undo=True) == [], (SEED, part, kills)
    assert kills >= wanted


def with_server_killed(shop: Shop, server: PostgresServer, wait: float, *command: str) -> Result:
    """Run a command whose database dies after `wait` seconds, and start it again after that."""
    killer = threading.Timer(wait, server.kill9)
    killer.start()
    ended = shop.seeknal(*command, code=None)
    killer.join()
    server.start()
    return ended
