"""Two hundred kills at random moments: nothing is lost, nothing is left, nothing is half.

Not part of the default run: ``tox run -e soak``. ``SEEKNAL_SOAK_KILLS`` sets the number,
``SEEKNAL_SOAK_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.distributions import install
from support.postgres import PostgresServer
from support.promotions import Place, Shop, make_shop

KILLS = int(os.environ.get("SEEKNAL_SOAK_KILLS", "200"))
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
def test_kills_at_random_moments_lose_nothing(shop: Shop, server: PostgresServer) -> None:
    chance = random.Random(SEED)
    number, kills, took = 1, 0, 3.0
    while kills < KILLS:
        number += 1
        shop.become(number)
        shop.apply()
        old = shop.seen()
        command = ("env", "promote", "dev")
        while True:
            started = time.monotonic()
            running = shop.seeknal.start(*command)
            wait = chance.uniform(0.1, took * 1.1)
            try:
                running.communicate(timeout=wait)
            except subprocess.TimeoutExpired:
                kills += 1
                if chance.random() < 0.15:
                    server.kill9()
                    running.communicate(timeout=180)
                    server.start()
                else:
                    running.send_signal(signal.SIGKILL)
                    running.communicate(timeout=60)
            if running.returncode == 0:
                took = time.monotonic() - started
                break
            assert running.returncode in (-9, 1, 5), (SEED, kills, running.returncode)
            for place in shop.places:
                seen = place.seen()
                if f"shop.new{number}" not in seen:
                    assert seen == old[place.name], (SEED, kills, place.name)
        shop.expect(number)
        assert shop.leftovers() == [], (SEED, kills)
        if chance.random() < 0.2:
            shop.seeknal("env", "rollback", "prod")
            assert shop.seen() == old, (SEED, kills)
            assert shop.leftovers(undo=True) == [], (SEED, kills)
    assert kills >= KILLS
