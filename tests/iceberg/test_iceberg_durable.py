"""What a commit names is on the disk before the catalog is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from seeknal_core.types import Mode
from support.iceberg import Bench


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The paths that were synced, and how long they were then."""
    found: dict[str, int] = {}
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        found[path] = length(path)

    monkeypatch.setattr(os, "fsync", noted)
    return found


@pytest.fixture
def unsynced(bench: Bench, synced: dict[str, int]) -> Iterator[list[set[str]]]:
    """What was not on the disk at each commit of a SQLite catalog."""
    found: list[set[str]] = []

    def committed(connection: object) -> None:
        found.append({path for path in everything(bench) if synced.get(path) != length(path)})

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", committed)
    yield found
    sqlalchemy.event.remove(sqlalchemy.Engine, "commit", committed)


def length(path: str) -> int:
    """Return a file's length; folders have none."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def everything(bench: Bench) -> set[str]:
    """Return all files and folders of the warehouse but for SQLite's own, which it syncs itself."""
    root = bench.root / "warehouse"
    below = {str(path) for path in root.rglob("*") if not path.name.startswith("catalog.db")}
    return below | {str(root)} if below else set()


def test_files_and_their_folders_are_synced_before_the_catalog(
    bench: Bench, unsynced: list[set[str]]
) -> None:
    plain, parted = bench.target("new.t"), bench.target("new.p", partition_by=("id",))
    for rows in ({"id": [1, 2]}, {"id": [2, 3, 4]}):
        bench.write(plain, rows)
        bench.write(parted, rows)
    bench.write(bench.target("new.t", mode=Mode.UPSERT_BY_KEY, unique_keys=("id",)), {"id": [9]})
    written = everything(bench)
    assert {Path(path).suffix for path in written} >= {".parquet", ".avro", ".json"}
    assert len(unsynced) > 5
    assert set().union(*unsynced) == set()


def test_so_are_the_folders_of_the_catalog_itself(tmp_path: Path, synced: dict[str, int]) -> None:
    bench = Bench({"warehouse": "./far/away/warehouse"}, tmp_path)
    bench.write(bench.target(), {"id": [1]})
    bench.close()
    above = [tmp_path / "far" / "away", tmp_path / "far", tmp_path]
    assert {str(folder) for folder in above} <= set(synced)


def test_so_are_those_of_a_promotion(bench: Bench, unsynced: list[set[str]]) -> None:
    target = bench.target("shop.t")
    bench.write(target, {"id": [1]})
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2]})
    promotion.publish()
    assert promotion.revert()
    promotion.discard()
    assert set().union(*unsynced) == set()
