"""Stored bytes are what was stored: nobody changes them, or what they are for, unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pyarrow.parquet as pq
import pytest

from seeknal_core.contract.errors import DamagedOutput
from seeknal_core.contract.types import Snapshot
from seeknal_core.contract.types.digests import ContentKey, Definition
from seeknal_core.contract.verified import PIECE
from seeknal_core.engine import snapshotdoc
from seeknal_core.engine.snapshots import SnapshotStore
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.state.store import StateStore
from support.engines import Lab, open_lab, rows

#: Numbers with equal sums of both hashes; `test_chosen_rows` has them, too.
ONE = (-236789280463325354, 3318390530747014767)
CHOSEN = (-4185407945267059516, 8294927919167980328)

KEY, OTHER = "ab" + "0" * 62, "cd" + "0" * 62


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def put(lab: Lab, sql: str, key: str = KEY) -> Snapshot:
    with lab.store.staging() as staging:
        lab.engine.compute_sql("source.a", [sql], {}, staging)
        return lab.store.commit(staging, "source.a", key, "")


def forge(lab: Lab, sql: str, key: str = KEY) -> None:
    """Put other rows in a snapshot's place, with a document that is right about them."""
    found = put(lab, sql, "ef" + "0" * 62)
    files = [Path(file) for file in found.files]
    folder = lab.store.root / key[:2] / key
    for file in files:
        target = folder / file.name
        target.unlink()
        shutil.copy(file, target)
    content = snapshotdoc.write(
        key,
        node="source.a",
        row_count=found.row_count,
        files=[folder / file.name for file in files],
        digest="",
        notes=(),
    )
    (folder / snapshotdoc.NAME).write_bytes(content)


def recorded(lab: Lab, key: str, document: str) -> StateStore:
    """Return a state whose production has a snapshot."""
    state = StateStore(lab.root / "target" / "state")
    node = NodeRecord(
        definition=Definition("d"), content_key=ContentKey(key), rows=1, stored=document
    )
    state.save(EnvironmentRecord(name="prod", nodes={"source.a": node}))
    return state


# --- digests of rows


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"SELECT unnest({list(ONE)}) AS x", f"SELECT unnest({list(CHOSEN)}) AS x"),
        ("SELECT {'a': NULL::INT} AS x", "SELECT NULL::STRUCT(a INT) AS x"),
        ("SELECT 0.0::DOUBLE AS x", "SELECT -0.0::DOUBLE AS x"),
        ("SELECT [0.0::FLOAT] AS x", "SELECT [-0.0::FLOAT] AS x"),
    ],
)
def test_a_change_that_the_former_digest_did_not_see(lab: Lab, one: str, other: str) -> None:
    """Each pair of rows had one digest, so the change went unnoticed."""
    assert lab.former_digest(one) == lab.former_digest(other)
    assert lab.digest(one) != lab.digest(other)


def test_values_do_not_run_into_one_another(lab: Lab) -> None:
    texts = [
        "SELECT 'ab' AS a, 'c' AS b", "SELECT 'a' AS a, 'bc' AS b", "SELECT 'abc' AS a, '' AS b",
        "SELECT 'abc' AS a, NULL::VARCHAR AS b", "SELECT chr(0) AS a, 'bc' AS b",
        "SELECT '' AS a, chr(0) || 'bc' AS b", "SELECT 'A' AS a, 'bc' AS b",
        "SELECT 'ab' AS a, 'c' AS b UNION ALL SELECT 'ab', 'c'",
    ]  # fmt: skip
    assert len({lab.digest(sql) for sql in texts}) == len(texts)
    lists = ["[['a'], ['b']]", "[['a', 'b']]", "[['a', 'b'], []]", "[[], ['a', 'b']]", "[['ab']]"]
    assert len({lab.digest(f"SELECT {value} AS x") for value in lists}) == len(lists)


#: Every type that is stored. Another digest of these rows means other content keys: then
#: `seeknal_core.engine.rowdigest` needs a new form, and the former one has to be found.
_TYPES = """
SELECT 1::TINYINT AS a, 2::SMALLINT AS b, 3 AS c, 4::BIGINT AS d, 5::HUGEINT AS e, 1::UTINYINT AS f,
 2::UINTEGER AS g, 3::UBIGINT AS h, 1.5::DECIMAL(10,2) AS i, 1.25::FLOAT AS j, -0.0::DOUBLE AS k,
 true AS l, 'tëxt' AS m, 'a\\x00'::BLOB AS n, DATE '2026-01-02' AS o, TIME '03:04:05.678' AS p,
 TIMESTAMP '2026-01-02 03:04:05.678' AS q, TIMESTAMPTZ '2026-01-02 03:04:05+02' AS r,
 'x' AS s, [1, NULL] AS t, {'a': 'x', 'b': [1.5::DOUBLE]} AS u,
 MAP {'k': 1} AS v, 'b6b0f6f0-0000-4000-8000-000000000001'::UUID AS w
UNION ALL SELECT * FROM (SELECT NULL::TINYINT, NULL::SMALLINT, NULL::INTEGER, NULL::BIGINT,
 NULL::HUGEINT, NULL::UTINYINT, NULL::UINTEGER, NULL::UBIGINT, NULL::DECIMAL(10,2), NULL::FLOAT,
 'nan'::DOUBLE, NULL::BOOLEAN, '', NULL::BLOB, NULL::DATE, NULL::TIME, NULL::TIMESTAMP,
 NULL::TIMESTAMPTZ, NULL, NULL::INTEGER[], NULL::STRUCT(a VARCHAR, b DOUBLE[]),
 NULL::MAP(VARCHAR, INTEGER), NULL::UUID)
"""


def test_the_digest_of_rows_stays_what_it_is(lab: Lab) -> None:
    assert (
        lab.digest(_TYPES) == "2:44ed5967183fe52fa4ced2ac4bd9e5aec4723097fa8d2684d610e2b95b854de6"
    )
    assert (
        lab.digest("SELECT 1::BIGINT AS id WHERE false")
        == "2:0a2bb90bf6ff965b46bd475aa7455aac41eb1465b4dbac5fd2717679e48beac0"
    )


# --- a snapshot and its document


def test_a_file_and_its_document_cannot_be_changed_together(lab: Lab) -> None:
    found = put(lab, "SELECT 1 AS a")
    state = recorded(lab, KEY, found.document)
    forge(lab, "SELECT 666 AS a")
    assert rows(SnapshotStore(lab.store.root).find("source.a", KEY, verify=True)) == [{"a": 666}]  # type: ignore[arg-type]
    store = SnapshotStore(lab.store.root, state)
    assert store.find("source.a", KEY) is None
    assert KEY in store.damaged


def test_what_another_command_stored_anew_is_taken(lab: Lab) -> None:
    state = recorded(lab, KEY, "0" * 64)
    store = SnapshotStore(lab.store.root, state)
    assert store.find("source.a", KEY) is None
    found = put(lab, "SELECT 2 AS a")
    recorded(lab, KEY, found.document)
    assert store.find("source.a", KEY) is not None


def test_two_snapshots_cannot_be_exchanged(lab: Lab) -> None:
    put(lab, "SELECT 1 AS a")
    put(lab, "SELECT 2 AS a", OTHER)
    one, other = (lab.store.root / key[:2] / key for key in (KEY, OTHER))
    one.rename(lab.root / "aside")
    other.rename(one)
    (lab.root / "aside").rename(other)
    assert lab.store.find("source.a", KEY) is None
    assert lab.store.find("source.a", OTHER) is None


def test_an_alias_that_somebody_wrote_leads_nowhere(lab: Lab) -> None:
    found = put(lab, "SELECT 1 AS a")
    store = SnapshotStore(lab.store.root, recorded(lab, KEY, found.document))
    store.aliases.put(OTHER, KEY, "they say so")
    assert store.find("transform.b", OTHER) is None
    assert store.find("source.a", OTHER) is not None
    # Nor does it say where lost rows are stored again.
    store = SnapshotStore(lab.store.root, recorded(lab, KEY, found.document))
    shutil.rmtree(store.root / KEY[:2] / KEY)
    assert store.named_by("transform.b", OTHER) == OTHER
    assert store.named_by("source.a", OTHER) == KEY


# --- what is read is what was checked


def big(lab: Lab) -> Snapshot:
    """Store more than one piece."""
    found = put(lab, f"SELECT i, hash(i) AS a, hash(i + 7) AS b FROM range({PIECE // 12}) t(i)")
    assert found.bytes > PIECE + 4096
    anew = SnapshotStore(lab.store.root).find("source.a", KEY)
    assert anew is not None
    return anew


def flip(path: str, place: int) -> None:
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def test_a_file_that_changes_between_the_check_and_its_use(lab: Lab) -> None:
    snapshot = big(lab)
    [path] = snapshot.files
    whole = Path(path).read_bytes()
    with snapshot.open(0) as file:
        flip(path, PIECE + 100)
        assert file.read(PIECE) == whole[:PIECE]
        with pytest.raises(DamagedOutput, match=r"source\.a was damaged"):
            file.read()
    with pytest.raises(DamagedOutput):
        snapshot.reader().read_all()


def test_a_copy_of_a_file_has_the_bytes_that_were_stored_or_fails(lab: Lab) -> None:
    snapshot = big(lab)
    [path] = snapshot.files
    whole = Path(path).read_bytes()
    assert b"".join(snapshot.chunks(0, len(whole) - 10)) == whole[:-10]
    flip(path, len(whole) - 5000)
    with pytest.raises(DamagedOutput):
        list(snapshot.chunks(0, len(whole)))


def test_a_checked_file_that_changes_while_it_is_read(lab: Lab) -> None:
    snapshot = put(lab, "SELECT i FROM range(100) t(i)")
    reader = snapshot.reader(batch_rows=10)
    reader.read_next_batch()
    flip(snapshot.files[0], 40)
    with pytest.raises(DamagedOutput):
        reader.read_all()


def test_a_file_that_is_exchanged_for_one_of_the_same_size(lab: Lab) -> None:
    snapshot = put(lab, "SELECT i FROM range(100) t(i)")
    [path] = snapshot.files
    content = bytearray(Path(path).read_bytes())
    content[40] ^= 1
    (lab.root / "other").write_bytes(content)
    times = os.stat(path)
    os.utime(lab.root / "other", ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(lab.root / "other", path)
    with pytest.raises(DamagedOutput):
        snapshot.reader().read_all()


def test_whoever_reads_the_files_by_their_names_is_checked_afterwards(lab: Lab) -> None:
    put(lab, "SELECT i FROM range(100) t(i)")
    snapshot = SnapshotStore(lab.store.root).find("source.a", KEY)
    assert snapshot is not None
    with snapshot.confirmed() as given:
        pq.read_table(given.files[0])
    for read in (
        lambda given: Path(given.files[0]).read_bytes(),
        lambda given: given.reader().read_all(),
    ):
        with pytest.raises(DamagedOutput):
            read_while_it_changes(snapshot, read)


def read_while_it_changes(snapshot: Snapshot, read: Callable[[Snapshot], object]) -> None:
    """Read what somebody changes before and changes back afterwards."""
    with snapshot.confirmed() as given:
        flip(given.files[0], 40)
        try:
            read(given)
        finally:
            flip(given.files[0], 40)


def test_a_file_that_changed_after_it_was_checked_is_checked_again(lab: Lab) -> None:
    found = put(lab, "SELECT i FROM range(100) t(i)")
    assert lab.store.find("source.a", KEY, verify=True) is not None
    flip(found.files[0], 40)
    assert lab.store.find("source.a", KEY, verify=True) is None


def test_a_hard_link_does_not_keep_a_changed_file_from_being_noticed(lab: Lab) -> None:
    found = put(lab, "SELECT i FROM range(100) t(i)")
    os.link(found.files[0], lab.root / "link")
    assert rows(lab.store.find("source.a", KEY, verify=True)) == rows(found)  # type: ignore[arg-type]
    flip(str(lab.root / "link"), 40)
    assert lab.store.find("source.a", KEY, verify=True) is None


def test_what_an_earlier_version_stored_is_checked_as_well(lab: Lab) -> None:
    found = put(lab, "SELECT i FROM range(100) t(i)")
    folder = Path(found.files[0]).parent
    document = json.loads((folder / "snapshot.json").read_text("utf-8"))
    document["version"] = 3
    for name in ("key", "check"):
        document.pop(name)
    for file in document["files"]:
        file.pop("pieces")
    text = json.dumps(document, sort_keys=True)
    document["check"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "snapshot.json").write_text(json.dumps(document), "utf-8")
    store = SnapshotStore(lab.store.root)
    earlier = store.find("source.a", KEY)
    assert earlier is not None and rows(earlier) == rows(found)
    flip(found.files[0], 40)
    with pytest.raises(DamagedOutput):
        attrs.evolve(earlier).reader().read_all()
    assert store.find("source.a", KEY, verify=True) is None
