from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seeknal_core.contract.errors import EngineError, StateError
from seeknal_core.engine.snapshots import SnapshotStore
from support.engines import Lab, open_lab, rows

KEY = "ab" + "0" * 62


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def put(lab: Lab, value: int = 1, key: str = KEY, digest: str = "") -> None:
    with lab.store.staging() as staging:
        lab.engine.compute_sql("source.a", [f"SELECT {value} AS a"], {}, staging)
        lab.store.commit(staging, "source.a", key, digest)


def test_what_was_stored_is_found_under_its_key(lab: Lab) -> None:
    assert lab.store.find("source.a", KEY) is None
    put(lab, digest="d1")
    found = lab.store.find("transform.other", KEY)
    assert found is not None
    assert (found.node, found.content_key, found.row_count) == ("transform.other", KEY, 1)
    assert found.bytes == Path(found.files[0]).stat().st_size
    assert rows(found) == [{"a": 1}]
    assert lab.store.digest_of(KEY) == "d1"
    assert lab.store.contains(KEY)


def test_files_are_read_only(lab: Lab) -> None:
    put(lab)
    found = lab.store.find("a", KEY)
    assert found is not None
    assert stat.S_IMODE(os.stat(found.files[0]).st_mode) == 0o400


def test_the_first_output_under_a_key_stays(lab: Lab) -> None:
    put(lab, 1)
    put(lab, 2)
    found = lab.store.find("a", KEY)
    assert found is not None
    assert rows(found) == [{"a": 1}]
    assert [path.name for path in (lab.store.root / "ab").iterdir()] == [KEY]


def test_what_is_not_committed_leaves_nothing(lab: Lab) -> None:
    with lab.store.staging() as staging:
        staging.file().write_bytes(b"half")
    assert not staging.path.exists()


@pytest.mark.parametrize("damage", ["cut", "gone", "scrambled", "footer", "rows", "document"])
def test_a_damaged_snapshot_counts_as_absent_and_can_be_stored_again(lab: Lab, damage: str) -> None:
    put(lab, 1)
    found = lab.store.find("a", KEY)
    assert found is not None
    path = Path(found.files[0])
    content = path.read_bytes()
    path.chmod(0o644)
    match damage:
        case "cut":
            path.write_bytes(content[:-10])
        case "gone":
            path.unlink()
        case "scrambled":
            path.write_bytes(b"X" * len(content))
        case "footer":
            path.write_bytes(content[:-20] + b"\xff" * 12 + content[-8:])
        case "rows":
            document = path.parent / "snapshot.json"
            document.write_text(document.read_text().replace('"row_count": 1', '"row_count": 2'))
        case "document":
            (path.parent / "snapshot.json").write_text("{")
    assert damage == "footer" or not lab.store.contains(KEY)
    assert lab.store.find("a", KEY) is None
    assert not path.parent.exists()
    put(lab, 2)
    again = lab.store.find("a", KEY)
    assert again is not None
    assert rows(again) == [{"a": 2}]


def test_a_damaged_snapshot_nobody_looked_at_is_replaced_by_the_next_commit(lab: Lab) -> None:
    put(lab, 1)
    (lab.store.root / "ab" / KEY / "snapshot.json").unlink()
    put(lab, 2)
    found = lab.store.find("a", KEY)
    assert found is not None
    assert rows(found) == [{"a": 2}]


def test_nothing_is_written_by_looking(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "none")
    assert store.find("a", KEY) is None
    assert not store.contains(KEY)
    assert store.digest_of(KEY) is None
    assert not (tmp_path / "none").exists()


def test_looking_for_a_key_imports_no_heavy_library(lab: Lab) -> None:
    put(lab)
    code = (
        "import sys; from pathlib import Path\n"
        "from seeknal_core.engine.snapshots import SnapshotStore\n"
        "store = SnapshotStore(Path(sys.argv[1]))\n"
        "with store.shared_lock():\n    assert store.contains(sys.argv[2])\n"
        "assert not {'duckdb', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(lab.store.root), KEY], check=True)


def test_a_key_that_is_none_makes_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no content key"):
        SnapshotStore(tmp_path).find("a", "../../etc")


def test_folders_of_dead_processes_are_removed_and_those_of_living_ones_stay(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from seeknal_core.engine.snapshots import SnapshotStore\n"
        "store = SnapshotStore(Path(sys.argv[1]))\n"
        "with store.staging() as staging:\n"
        "    (staging.path / 'data_0.parquet').write_bytes(b'x')\n"
        "    print(staging.path, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        living = SnapshotStore(tmp_path)
        with living.staging():
            assert folder.is_dir()
        living.close()
        process.kill()
        process.wait()
        assert folder.is_dir()
        later = SnapshotStore(tmp_path)
        with later.staging():
            assert not folder.exists()
        later.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_two_threads_may_store_one_key(lab: Lab) -> None:
    threads = [threading.Thread(target=put, args=(lab, n)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = lab.store.find("a", KEY)
    assert found is not None
    assert found.row_count == 1


def test_removal_waits_for_no_user_and_a_user_tells_of_a_removal(tmp_path: Path) -> None:
    first, second = SnapshotStore(tmp_path), SnapshotStore(tmp_path)
    with (
        first.shared_lock(),
        second.shared_lock(),
        pytest.raises(StateError, match="another command"),
        second.exclusive_lock(),
    ):
        pass
    with (
        first.exclusive_lock(),
        pytest.raises(StateError, match="being removed"),
        second.shared_lock(wait=0),
    ):
        pass


def test_a_disk_full_while_staging_is_told(lab: Lab) -> None:
    with (
        pytest.raises(EngineError, match="no space left on device"),
        lab.store.staging() as staging,
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert not staging.path.exists()


def test_a_snapshot_that_is_committed_while_another_looks_for_it_stays(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SnapshotStore._document

    def late(folder: Path) -> object:
        # Another thread's commit falls between the look and the check for damage.
        found = real(folder)
        if found is None and not folder.exists():
            monkeypatch.setattr(SnapshotStore, "_document", staticmethod(real))
            put(lab)
        return found

    monkeypatch.setattr(SnapshotStore, "_document", staticmethod(late))
    lab.store.find("source.a", KEY)
    assert lab.store.contains(KEY)


@pytest.mark.ordinary_user
def test_a_snapshot_that_cannot_be_read_is_not_taken_for_damaged(lab: Lab) -> None:
    put(lab)
    folder = next(lab.store.root.glob("ab/*"))
    folder.chmod(0)
    try:
        with pytest.raises(StateError, match="cannot read the stored output"):
            lab.store.find("source.a", KEY)
    finally:
        folder.chmod(0o755)
    assert lab.store.contains(KEY)
