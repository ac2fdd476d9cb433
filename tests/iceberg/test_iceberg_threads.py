"""Catalogs opened by threads of a command and closed at its end, by its own thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.iceberg import Bench


@pytest.mark.parametrize("made", [False, True])
def test_a_catalog_of_a_thread_is_closed_without_a_word(
    bench: Bench, made: bool, caplog: pytest.LogCaptureFixture
) -> None:
    target = bench.target()
    if made:
        bench.write(target, {"a": [1]})
    promotion = bench.promotion()
    promotion.targets = [target]
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda _: promotion.discard(), range(2)):
            pass
    bench.close()
    # SQLAlchemy logs what goes wrong while it closes; the command line prints that.
    assert caplog.records == []
