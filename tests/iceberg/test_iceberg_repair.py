"""Tables whose current snapshot cannot be read: refused in one sentence, replaced when asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seeknal_core.errors import BackendError
from seeknal_core.types import Drift, Mode, Since
from seeknal_iceberg import plugin
from support.iceberg import Bench


def lose(pattern: str) -> Callable[[Path], None]:
    def act(warehouse: Path) -> None:
        for path in warehouse.rglob(pattern):
            path.unlink()

    return act


def garble(pattern: str) -> Callable[[Path], None]:
    def act(warehouse: Path) -> None:
        for path in warehouse.rglob(pattern):
            path.write_bytes(b"no longer Avro")

    return act


DAMAGES: dict[str, Callable[[Path], None]] = {
    "manifest lists gone": lose("snap-*.avro"),
    "manifests gone": lose("*-m0.avro"),
    "data files gone": lose("*.parquet"),
    "manifest lists garbled": garble("snap-*.avro"),
}


def damaged(bench: Bench, damage: str) -> tuple[Bench, Bench]:
    """Damage a table; return a bench for it, and one of a command with ``--full-refresh``."""
    target = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    bench.write(target, {"id": [1, 2]})
    bench.write(target, {"id": [2, 3]})
    DAMAGES[damage](bench.root / "warehouse")
    return bench.other(), bench.other(full_refresh=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_write_of_a_damaged_table_is_refused_with_the_way_out(bench: Bench, damage: str) -> None:
    again, refresh = damaged(bench, damage)
    target = again.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    with pytest.raises(BackendError) as caught:
        again.write(target, {"id": [2]})
    if damage != "data files gone":
        assert "--full-refresh" in caught.value.hint
    assert refresh.write(target, {"id": [7, 8]}).rows_after == 2
    assert [row["id"] for row in refresh.rows(target)] == [7, 8]
    assert refresh.count(target) == 2
    again.write(target, {"id": [8, 9]})
    assert [row["id"] for row in again.rows(target)] == [7, 8, 9]
    for each in (again, refresh):
        assert each.notes() == []
        each.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_promotion_replaces_a_damaged_table(bench: Bench, damage: str) -> None:
    again, refresh = damaged(bench, damage)
    target = again.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    version = again.inspect(target).version
    promotion = refresh.promotion()
    staged = promotion.stage(target, {"id": [7, 8]})
    assert refresh.count(staged) == 2
    assert promotion.publish().targets[0].rows_after == 2
    assert [row["id"] for row in refresh.rows(target)] == [7, 8]
    assert promotion.revert()
    assert again.inspect(target).version == version
    promotion.discard()
    assert again.notes() == []
    for each in (again, refresh):
        each.close()


def cut(warehouse: Path) -> None:
    for path in warehouse.rglob("*.parquet"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [*DAMAGES, "data files cut"])
def test_an_exact_look_finds_damage(bench: Bench, damage: str) -> None:
    """``run --exact`` and ``env status`` said "as written"."""
    target = bench.target(mode=Mode.APPEND)
    written = bench.write(target, {"id": [1, 2]})
    since = Since(version=written.version, rows=2, mark=written.mark or "")
    (found,) = plugin.changes_since(bench.context, (target,), (since,))
    assert (found.drift, found.detail) == (Drift.NONE, "")
    DAMAGES.get(damage, cut)(bench.root / "warehouse")
    (found,) = plugin.changes_since(bench.context, (target,), (since,))
    assert found.drift is Drift.CHANGED
    assert found.detail.startswith("its current snapshot cannot be read: ")
    assert "\n" not in found.detail
