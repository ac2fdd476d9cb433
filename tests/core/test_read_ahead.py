"""Files are read while the stores are asked, and not longer than somebody wants them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from seeknal_core.apply.find import Computed
from seeknal_core.apply.node import Computer
from seeknal_core.contract.errors import Interrupted, Unreachable
from seeknal_core.engine.files.digests import FileDigests
from seeknal_core.engine.snapshots import SnapshotStore
from seeknal_core.plan.proofs import Prover
from seeknal_core.project.specs import SourceNode
from seeknal_core.workspace.session import Request, open_session
from support.cli import Cli, write
from support.distributions import install

#: A store that answers once so many snapshots are stored; then, if told so, that it is down.
SLOW_STORE = """\
import os
import time
from pathlib import Path

from seeknal_core.contract.errors import Unreachable
from seeknal_core.contract.hooks import hookimpl


@hookimpl(wrapper=True)
def inspect_target(context, target):
    stored = Path(context.target_dir, "snapshots")
    end = time.monotonic() + 20
    while len(list(stored.glob("??/*/*.json"))) < int(os.environ.get("SNAPSHOTS", "0")):
        if time.monotonic() > end:
            raise Unreachable("nothing was read meanwhile")
        time.sleep(0.01)
    if os.environ.get("STORE_IS_DOWN"):
        raise Unreachable("the store is down", "start it")
    return (yield)
"""


@pytest.fixture
def slow_store(folder_site: Path) -> None:
    install(
        folder_site,
        distribution="slow-store",
        module="slow_store",
        source=SLOW_STORE,
        entry_points={"seeknal.plugins": {"slow": "slow_store"}},
    )


def stored(root: Path) -> int:
    return len(list((root / "target" / "snapshots").glob("??/*/*.json")))


@pytest.mark.usefixtures("slow_store")
def test_files_are_read_while_the_stores_are_asked(seeknal: Cli, project: Path) -> None:
    seeknal("run", SNAPSHOTS="1")
    assert stored(project) == 3
    write(project, {"data/orders.csv": "id,customer,amount\n1,ada,11\n"})
    seeknal("env", "plan", "dev", "--refresh-sources")
    seeknal("env", "apply", "dev", SNAPSHOTS="4")
    assert stored(project) > 4


@pytest.mark.usefixtures("slow_store")
def test_a_store_that_is_down_is_what_the_user_hears_of(seeknal: Cli, project: Path) -> None:
    write(project, {"data/orders.csv": "id,customer,amount\n1,ada,ten\n", "data/x.csv": "x\n1\n"})
    write(project, {"seeknal/aaa.yml": MORE})
    failed = seeknal("run", code=1, STORE_IS_DOWN="1", SNAPSHOTS="1")
    assert failed.err == "Error: the store is down\nNext: start it\n"
    assert "stopped" not in failed.said and "orders" not in failed.said
    assert not list((project / "target" / "tmp").glob("*"))
    left = (project / "target" / "state" / "environments").iterdir()
    assert [path.name for path in left] == ["prod.lock"]


MORE = "kind: source\nname: aaa\nsource: csv\ntable: data/x.csv\n"


@pytest.fixture
def computer(project: Path, folder_site: Path, monkeypatch: pytest.MonkeyPatch) -> Computer:
    monkeypatch.syspath_prepend(str(folder_site))
    with open_session(Request(project_dir=str(project))) as session:
        return Computer(
            session,
            SnapshotStore(session.layout.snapshots),
            FileDigests(project / "digests.json"),
            {},
            print,
            Prover(session, ()),
        )


def test_a_refusal_ends_the_reading(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    cancellation = computer._session.context.cancellation
    asked, ended = threading.Event(), threading.Event()

    def read(node: SourceNode) -> Computed:
        asked.set()
        while not cancellation.requested:
            time.sleep(0.01)
        ended.set()
        raise Interrupted("stopped by the user")

    monkeypatch.setattr(computer, "_file_source", read)

    def refuse() -> None:
        with computer.reading_ahead(["source.orders"]):
            assert asked.wait(10)
            raise Unreachable("the store is down")

    with pytest.raises(Unreachable):
        refuse()
    assert ended.is_set()


def test_what_failed_ahead_fails_where_it_is_asked_for(
    computer: Computer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(node: SourceNode) -> Computed:
        raise Interrupted(f"not {node.id}")

    monkeypatch.setattr(computer, "_file_source", read)
    with computer.reading_ahead(["source.orders", "transform.totals"]):
        pass
    with pytest.raises(Interrupted, match=r"not source\.orders"):
        computer.compute(computer._session.graph.nodes["source.orders"], {}, None)
