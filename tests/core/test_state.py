"""State survives crashes and keeps commands apart."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from seeknal_core.contract.errors import StateError
from seeknal_core.contract.types.digests import (
    BindingDigest,
    ContentKey,
    Definition,
    Fingerprint,
    Identity,
)
from seeknal_core.state.documents import read_document, write_atomically, write_document
from seeknal_core.state.locks import exclusive_lock
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, TargetRecord
from seeknal_core.state.store import StateStore

NODE = NodeRecord(definition=Definition("d"), content_key=ContentKey("key1"), rows=3)
TARGET = TargetRecord(
    node="transform.a",
    name="public.a",
    type="folder",
    connection="c",
    bindings=BindingDigest("b"),
    identity=Identity("i"),
    fingerprint=Fingerprint("f"),
    content_key=ContentKey("key1"),
    version="1",
    rows=3,
    written_at="2026-01-01T00:00:00+00:00",
)


def test_a_record_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    record = EnvironmentRecord(name="dev", nodes={"transform.a": NODE}, targets={"t": TARGET})
    store.save(record)
    assert store.load("dev") == record
    assert store.names() == ("dev",)


def test_what_a_dead_command_journalled_counts(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.save(EnvironmentRecord(name="dev", nodes={"transform.a": NODE}))
    journal = store.journal("dev")
    newer = attrs.evolve(NODE, content_key=ContentKey("key2"))
    journal.node("transform.a", newer)
    journal.target("t", TARGET)
    journal.close()
    path = tmp_path / "environments" / "dev.journal"
    path.write_text(path.read_text() + '{"node": "transform.b", "rec')  # torn by the crash
    loaded = StateStore(tmp_path).load("dev")
    assert loaded is not None
    assert loaded.nodes == {"transform.a": newer}
    assert loaded.targets == {"t": TARGET}


def test_a_line_torn_by_a_crash_hides_none_of_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "environments" / "dev.journal"
    path.parent.mkdir()
    path.write_text('{"node": "transform.b", "rec')
    journal = StateStore(tmp_path).journal("dev")
    journal.target("t", TARGET)
    journal.close()
    loaded = StateStore(tmp_path).load("dev")
    assert loaded is not None and loaded.targets == {"t": TARGET}


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"[]",
        b"7",
        b'{"x": 1}',
        b'{"node": "n"}',
        b'{"target": "t", "record": {}}',
        b"\xff",
    ],
)
def test_a_damaged_line_of_a_journal_is_passed_over(tmp_path: Path, line: bytes) -> None:
    store = StateStore(tmp_path)
    store.save(EnvironmentRecord(name="dev", nodes={"transform.a": NODE}))
    (tmp_path / "environments" / "dev.journal").write_bytes(line + b"\n")
    loaded = store.load("dev")
    assert loaded is not None and loaded.nodes == {"transform.a": NODE}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"schema_version": "x"}',
        b'{"schema_version": 1}',
        b'{"schema_version": 1, "nodes": [], "targets": {}}',
        b'{"schema_version": 1, "name": "dev", "nodes": {"a": 1}, "targets": {}}',
        b'{"schema_version": 1, "name": "dev", "nodes": {}, "targets": {}, "more": 1}',
        b'{"schema_version": 1, "name": "dev", "targets": {}, "nodes": {"a": '
        b'{"definition": "d", "content_key": "../../etc", "rows": 1}}}',
        b'{"schema_version": 1, "name": "dev", "targets": {}, "nodes": {"a": '
        b'{"definition": "d", "content_key": "key1", "rows": "1"}}}',
        b'{"schema_version": 1, "name": "dev", "nodes": {}, "targets": {}, "created_at": "soon"}',
        b'{"schema_version": 1, "name": "dev", "nodes": {}, "targets": {}, '
        b'"last_run_at": "2026-01-01T00:00:00"}',
        b'{"schema_version": 1, "name": "dev", "targets": {}, "nodes": {"a": '
        b'{"definition": "d", "content_key": "key1", "rows": 1, "read_at": "31/12/2026"}}}',
        b'{"schema_version": 1, "nodes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_damaged_record_is_named_with_the_command_that_mends_it(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "environments" / "dev.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"dev\.json is damaged") as raised:
        StateStore(tmp_path).load("dev")
    assert f"mv {path} {path}.bad" in raised.value.hint


@pytest.mark.parametrize("content", [b"", b"\xff", b"../x"])
def test_a_damaged_state_id_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "id").write_bytes(content)
    made = StateStore(tmp_path).state_id(create=True)
    assert len(made) == 32 and StateStore(tmp_path).state_id(create=False) == made


def test_saving_a_record_ends_its_journal(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    journal = store.journal("dev")
    journal.node("transform.a", NODE)
    journal.close()
    store.save(EnvironmentRecord(name="dev"))
    loaded = store.load("dev")
    assert loaded is not None and loaded.nodes == {}


def test_looking_writes_nothing(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state")
    assert store.load("dev") is None
    assert store.names() == ()
    store.state_id(create=False)
    assert not (tmp_path / "state").exists()


def test_a_state_id_stays(tmp_path: Path) -> None:
    first = StateStore(tmp_path).state_id(create=True)
    assert StateStore(tmp_path).state_id(create=False) == first


def test_a_document_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_document(path, 7, {"a": 1})
    with pytest.raises(StateError, match="newer version") as raised:
        read_document(path, 6)
    assert "upgrade" in raised.value.hint


def test_a_damaged_document_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"schema_version": 1, "a"')
    with pytest.raises(StateError, match=r"x\.json is damaged"):
        read_document(path, 1)


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, "old")
    # A file name too long for the temporary file to be made.
    with pytest.raises(StateError):
        write_atomically(tmp_path / ("n" * 250), "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    path = tmp_path / "dev.lock"
    code = (
        "import sys, time; from pathlib import Path; "
        "from seeknal_core.state.locks import exclusive_lock\n"
        "with exclusive_lock(Path(sys.argv[1]), 'x'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StateError, match=rf"in use by pid {holder.pid} on host"),
            exclusive_lock(path, "environment 'dev'"),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with exclusive_lock(path, "environment 'dev'"):
        assert f"pid {os.getpid()}" in path.read_text()


def test_a_lock_needs_no_room_on_the_disk() -> None:
    with exclusive_lock(Path("/dev/full"), "environment 'dev'"):
        pass


KINDS = ["pipe", "folder", "socket"]


def put(path: Path, kind: str) -> None:
    """Put something that is no file at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        # A socket's path is short: it is bound by its name in the folder.
        here = Path.cwd()
        os.chdir(path.parent)
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("environments/dev.journal", lambda store: store.load("dev")),
        ("environments/dev.json", lambda store: store.load("dev")),
        ("environments/dev.json", lambda store: store.save(EnvironmentRecord(name="dev"))),
        ("environments/dev.journal", lambda store: store.journal("dev").target("t", TARGET)),
        ("environments/dev.lock", lambda store: store.lock("dev").__enter__()),
        ("id", lambda store: store.state_id(create=False)),
        ("plans/dev.json", lambda store: store.read("plans", "dev")),
    ],
)
def test_what_is_no_file_is_named_and_not_waited_for(
    tmp_path: Path, kind: str, name: str, use: Callable[[StateStore], object]
) -> None:
    put(tmp_path / name, kind)
    with pytest.raises(StateError, match=f"it is a {kind}, not a file") as raised:
        use(StateStore(tmp_path))
    assert f"mv {tmp_path / name}" in raised.value.hint


def test_a_line_that_cannot_be_read_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StateStore(tmp_path)
    with store.journal("dev") as journal:
        journal.target("t", TARGET)
    path = tmp_path / "environments" / "dev.journal"
    bad = path.read_text().replace(f'"version":"{TARGET.version}"', '"version":null')
    path.write_text(path.read_text() + "\n" + bad + '{"target": "u", "rec')
    for _ in range(2):
        found = store.load("dev")
        assert found is not None and found.targets == {"t": TARGET}
    [record] = caplog.records
    assert "dev.journal: line 3, 4 cannot be read" in record.getMessage()
