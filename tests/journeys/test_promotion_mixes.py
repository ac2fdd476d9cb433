"""Promotion over one store, two of a kind, and two ways into one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.postgres import PostgresStore
from support.promotions import Place, Shop, make_shop

MIXES = {
    "one database": ("warehouse",),
    "one catalog": ("lake",),
    "two databases": ("warehouse", "annex"),
    "two catalogs": ("lake", "pond"),
    "two connections to one database": ("warehouse", "side"),
}


@pytest.fixture(params=MIXES, ids=lambda mix: mix.replace(" ", "-"))
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_server: PostgresStore,
    postgres_dsn: dict[str, object],
    killer: Path,
) -> Iterator[Shop]:
    """Version 1 in production over a mix of stores."""
    second = postgres_server.create_database()
    known = {
        "warehouse": Place(name="warehouse", dsn=postgres_dsn),
        "annex": Place(name="annex", dsn=second),
        "side": Place(name="side", dsn=postgres_dsn, schema="side"),
        "lake": Place(name="lake", warehouse=tmp_path / "lake"),
        "pond": Place(name="pond", warehouse=tmp_path / "pond"),
    }
    places = [known[name] for name in MIXES[request.param]]
    yield make_shop(tmp_path, places, str(killer))
    postgres_server.drop_database(second)


@pytest.mark.timeout(300)
def test_all_stores_of_a_mix_are_promoted_aborted_and_rolled_back_together(shop: Shop) -> None:
    old = shop.seen()
    shop.become(2)
    shop.apply()
    publishing = "prepare_publish,publish"
    # After the first call is before the second.
    for moment, point in (("before", 1), ("after", 1), ("after", 2)):
        died = shop.promote(
            code=None, SEEKNAL_KILL_AT=f"{moment}:{point}", SEEKNAL_KILL_HOOKS=publishing
        )
        if died.code == 0:
            # One catalog has one call.
            shop.seeknal("env", "rollback", "prod")
            shop.apply()
            continue
        assert died.code == -9, died.said
        shop.promote("--abort")
        assert shop.seen() == old, (moment, point)
        assert shop.leftovers(undo=True) == []
    died = shop.promote(code=None, SEEKNAL_KILL_AT="after:1", SEEKNAL_KILL_HOOKS="publish")
    assert died.code == -9, died.said
    shop.promote()
    shop.expect(2)
    assert shop.leftovers() == []
    shop.seeknal("env", "rollback", "prod")
    assert shop.seen() == old
    assert shop.leftovers(undo=True) == []
