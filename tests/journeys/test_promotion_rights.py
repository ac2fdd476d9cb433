"""A right or the room on a disk that goes away in the middle of a promotion."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.promotions import Place, Shop, make_shop, wait_for

#: Dies when all is staged and verified, and nothing is published.
BEFORE_PUBLISH = {"SEEKNAL_KILL_HOOKS": "publish", "SEEKNAL_KILL_AT": "before:1"}


@pytest.fixture
def shop(tmp_path: Path, postgres_dsn: Mapping[str, Any], killer: Path) -> Iterator[Shop]:
    """Version 1 in production, written by a role that owns not every table."""
    boss = Place(name="boss", dsn=postgres_dsn)
    role = f"etl_{postgres_dsn['dbname']}"
    password = postgres_dsn["password"]
    boss.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    boss.execute(f"GRANT CREATE ON DATABASE {postgres_dsn['dbname']} TO {role}")
    places = [
        Place(name="warehouse", dsn={**postgres_dsn, "user": role}),
        Place(name="lake", warehouse=tmp_path / "lake"),
    ]
    made = make_shop(tmp_path, places, str(killer))
    boss.execute("ALTER TABLE shop.keyed OWNER TO CURRENT_USER")
    boss.execute(f"GRANT ALL ON shop.keyed TO {role}")
    yield made
    boss.execute(f"DROP OWNED BY {role} CASCADE")
    boss.execute(f"DROP ROLE {role}")


@pytest.fixture
def staged(shop: Shop, postgres_dsn: Mapping[str, Any]) -> Place:
    """A verified promotion of version 2 whose process died; then the role loses a right."""
    shop.become(2)
    shop.apply()
    shop.promote(code=-9, **BEFORE_PUBLISH)
    boss = Place(name="boss", dsn=postgres_dsn)
    boss.execute(f"REVOKE ALL ON shop.keyed FROM {shop.database.dsn['user']}")  # type: ignore[index]
    return boss


def restore(shop: Shop, boss: Place) -> None:
    """Give the right back."""
    boss.execute(f"GRANT ALL ON shop.keyed TO {shop.database.dsn['user']}")  # type: ignore[index]


def test_abort_needs_no_right_on_tables_that_were_not_touched(shop: Shop, staged: Place) -> None:
    assert "unfinished" in shop.seeknal("run", code=5).said
    shop.promote("--abort")
    restore(shop, staged)
    shop.expect(1)
    assert shop.leftovers(undo=True) == []
    shop.seeknal("run", code=None)
    shop.promote("--force")
    shop.expect(2)


def test_a_promotion_that_lacks_a_right_publishes_nothing_and_frees_production(
    shop: Shop, staged: Place
) -> None:
    said = shop.promote(code=1).said
    assert "keyed" in said
    restore(shop, staged)
    shop.expect(1)
    assert shop.leftovers(undo=True) == []
    shop.promote()
    shop.expect(2)


@pytest.mark.root
@pytest.mark.mounts
def test_a_disk_that_fills_up_after_publishing_ends_with_5_and_the_repeat_finishes(
    promoted_shop: Shop, tmp_path: Path
) -> None:
    shop = promoted_shop
    shop.become(2)
    shop.apply()
    with small_disk(shop.root / "target" / "state") as fill:
        command = ["env", "promote", "dev"]
        err = full_at(shop, tmp_path / "promoting", "publish", fill, *command)
        assert "no space left" in err and "seeknal env promote dev prod --resume" in err
        shop.promote()
        shop.expect(2)
        assert shop.leftovers() == []
        command = ["env", "rollback", "prod"]
        err = full_at(shop, tmp_path / "undoing", "revert", fill, *command)
        assert "no space left" in err and "seeknal env rollback prod" in err
        shop.seeknal("env", "rollback", "prod")
        shop.expect(1)
        assert shop.leftovers(undo=True) == []


def full_at(shop: Shop, go: Path, hook: str, fill: Callable[[], Path], *command: str) -> str:
    """Fill the disk up when a hook has returned; return what the command says, which exits 5."""
    running = shop.seeknal.start(*command, SEEKNAL_WAIT=f"{hook}:{go}")
    wait_for(Path(f"{go}.reached"))
    filler = fill()
    go.touch()
    out, err = running.communicate(timeout=60)
    filler.unlink()
    assert running.returncode == 5, out + err
    return err


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], Path]]:
    """Put a folder on a disk of its own; yield what fills it up with a file."""
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    try:
        for path, data in content.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        def fill() -> Path:
            filler = folder / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            return filler

        yield fill
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
