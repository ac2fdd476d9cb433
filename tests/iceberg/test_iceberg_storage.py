"""An object store that does not answer: the user hears of it, and it ends."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seeknal_core.types import Mode
from support.iceberg import Bench
from support.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from support.lake import LakeServer


class Woken(logging.Handler):
    """Lets the storage answer again once the user was told."""

    def __init__(self, proxy: SilentProxy) -> None:
        super().__init__()
        self.proxy = proxy
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Wake it."""
        self.said.append(record.getMessage())
        threading.Thread(target=self.proxy.silent.clear, daemon=True).start()


@pytest.mark.parametrize("writes", [False, True])
def test_the_user_hears_of_a_storage_that_does_not_answer(
    lake: LakeServer,
    tmp_path: Path,
    lake_namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    writes: bool,
) -> None:
    monkeypatch.setattr("seeknal_iceberg.connection.patience.TOLD_AFTER", 0.5)
    monkeypatch.setattr("seeknal_iceberg.connection.storage.object_store._told", [0.0])
    proxy = SilentProxy(int(lake.s3_endpoint.rpartition(":")[2]))
    options = {
        **lake.catalog_options(),
        "s3.endpoint": f"http://127.0.0.1:{proxy.port}",
        "s3.request-timeout": "1",
    }
    bench = Bench({"catalog": options}, tmp_path)
    woken = Woken(proxy)
    logging.getLogger("seeknal").addHandler(woken)
    try:
        target = bench.target(f"{lake_namespace}.t", mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
        bench.write(target, {"id": [1], "v": [1]})
        assert woken.said == []
        proxy.silent.set()
        if writes:
            bench.write(target, {"id": [1, 2], "v": [3, 4]})
        rows = bench.rows(target)
        assert rows == ([{"id": 1, "v": 3}, {"id": 2, "v": 4}] if writes else [{"id": 1, "v": 1}])
        assert len(woken.said) == 1
        assert woken.said[0].startswith("waiting for the storage to ")
        assert lake_namespace in woken.said[0]
    finally:
        logging.getLogger("seeknal").removeHandler(woken)
        bench.close()
        proxy.stop()
