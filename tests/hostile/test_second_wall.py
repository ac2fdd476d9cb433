"""The kernel keeps a stranger's SQL from files, whatever DuckDB would let through."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from seeknal_core.contract.errors import EngineError, Interrupted
from seeknal_core.engine import landlock, walled
from seeknal_core.engine.duckdb import DuckDBEngine
from support.cli import Cli, write
from support.engines import open_lab, rows
from support.shop import PROJECT

#: DuckDB without any setting of ours: what stops it here is the kernel.
_PROBE = """
import json, socket, sys, threading, os
from pathlib import Path
sys.path[:] = {path!r}
import duckdb
from seeknal_core.engine import landlock, walled
here = Path({here!r})
landlock.restrict(
    read=[*walled._libraries(), *map(Path, walled._LIMITS), here / "input.csv"],
    write=[here / "staging"],
)
db = duckdb.connect()
found = {{}}
def probe(name, act):
    try:
        act()
    except (OSError, duckdb.Error) as error:
        found[name] = "denied" if "denied" in str(error) or "not permitted" in str(error) else str(error)
    else:
        found[name] = "done"
sql = lambda text: lambda: db.cursor().sql(text.format(here=here)).fetchall()
def copies():
    db.cursor().execute(f"COPY (SELECT 1) TO '{{here}}/staging/out.csv'")
def copies_out():
    db.cursor().execute(f"COPY (SELECT 1) TO '{{here}}/out.csv'")
def in_threads():
    db.execute("SET threads = 8")
    text = f"SELECT sum(length(s.content)) FROM range(3000000) t, read_text('{{here}}/secret.csv') s"
    db.cursor().sql(text).fetchall()
probe("input", sql("FROM read_csv('{{here}}/input.csv')"))
probe("staging", copies)
probe("secret", sql("FROM read_text('{{here}}/secret.csv')"))
probe("secret in threads", in_threads)
probe("list", lambda: os.listdir(here))
probe("system", sql("FROM read_text('/etc/passwd')"))
probe("variables of the command", lambda: open(f"/proc/{{os.getppid()}}/environ").read())
probe("writes beside", copies_out)
probe("removes", lambda: os.remove(here / "secret.csv"))
probe("overwrites an input", lambda: open(here / "input.csv", "w"))
probe("signal", lambda: os.kill(os.getppid(), 0))
probe("network", lambda: socket.create_connection(("127.0.0.1", {port}), 1))
print(json.dumps(found))
"""


def test_the_kernel_closes_files_and_network_to_the_process_that_runs_sql(tmp_path: Path) -> None:
    import socket

    if not landlock.version():
        assert "has no Landlock" in walled.describe()
        return
    write(tmp_path, {"input.csv": "a\n1\n", "secret.csv": "s3cret\n", "staging/x": ""})
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = _PROBE.format(
            path=[path for path in sys.path if path], here=str(tmp_path), port=port
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", textwrap.dedent(probe)],
            capture_output=True,
            text=True,
            check=True,
        )
    found = json.loads(done.stdout)
    assert {found.pop("input"), found.pop("staging")} == {"done"}
    since = {"network": 4, "signal": 6}
    held = {name: said for name, said in found.items() if since.get(name, 0) <= landlock.version()}
    assert set(held.values()) == {"denied"}, held
    assert (tmp_path / "secret.csv").read_text() == "s3cret\n"


@pytest.mark.parametrize("untrusted", [True, False])
def test_an_untrusted_nodes_sql_runs_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrusted: bool
) -> None:
    started: list[object] = []
    real: Any = subprocess.Popen.__init__

    def noting(self: Any, *args: Any, **more: Any) -> None:
        started.append(more["env"])
        real(self, *args, **more)

    monkeypatch.setattr(subprocess.Popen, "__init__", noting)
    monkeypatch.setenv("PGPASSWORD", "hunter2-very-secret")
    with open_lab(tmp_path, untrusted=untrusted) as lab:
        first = lab.sql("SELECT 1 AS a UNION ALL SELECT 2")
        assert rows(first) == [{"a": 1}, {"a": 2}]
        with pytest.raises(EngineError, match="line 2") as raised:
            lab.sql("SELECT 1\n, nothing_here FROM range(3)")
        assert raised.value.line == 2
    assert (len(started) > 0) is (untrusted and landlock.version() > 0)
    assert "hunter2" not in str(started)


def test_a_request_to_stop_ends_the_process(tmp_path: Path) -> None:
    import threading

    if not landlock.version():
        return
    with open_lab(tmp_path, untrusted=True) as lab:
        engine = lab.engine
        assert isinstance(engine, DuckDBEngine)
        assert engine._walls is not None
        stop = threading.Timer(1.0, engine._walls.cancellation.request)
        stop.start()
        with pytest.raises(Interrupted):
            lab.sql(
                "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range != b.range"
            )


def test_check_says_whether_there_is_a_second_wall(
    seeknal: Cli, project: Path, tmp_path: Path
) -> None:
    profile = PROJECT["profiles.yml"].replace("./lake", str(tmp_path / "lake"))
    write(tmp_path / "home" / ".seeknal", {"profiles.yml": profile})
    said = seeknal("check", "--connections", "--json").json()
    assert said["second_wall"] == walled.describe()
    assert walled.describe() in seeknal("check", "--connections", SEEKNAL_UNTRUSTED="1").out


def test_audits_of_an_untrusted_project_are_held_too(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "profiles.yml": "connections: {}\n",
            "seeknal/totals.sql": (
                "/* ---\naudits:\n- {type: unique, columns: [customer]}\n"
                "- {type: row_count, min: 9, severity: warn}\n"
                "- {type: relationships, column: customer, to: source.orders, field: customer}\n"
                "- {type: custom_sql, sql: 'SELECT * FROM __THIS__ WHERE total < 0'}\n"
                "- {type: accepted_values, columns: [customer], values: [ada]}\n--- */\n"
                "SELECT customer, sum(amount) AS total FROM source.orders GROUP BY ALL\n"
            ),
            "seeknal/big.yml": "kind: transform\nname: big\ntransform: FROM transform.totals\n",
        },
    )
    trusted = seeknal("run", code=1)
    (project / "target").rename(project.parent / "target")
    untrusted = seeknal("run", code=1, SEEKNAL_UNTRUSTED="1")
    assert "accepted_values" in trusted.err
    said = [line for line in untrusted.err.splitlines() if "is ignored" not in line]
    assert said == trusted.err.splitlines()


def test_no_thread_runs_before_the_process_is_closed() -> None:
    """Landlock holds threads that start later: importing pyarrow started two before."""
    if not landlock.version():
        return
    probe = (
        f"import os, sys; sys.path[:] = {[path for path in sys.path if path]!r}\n"
        "from seeknal_core.engine import landlock, walled\n"
        "def tell(**_):\n"
        "    print(len(os.listdir('/proc/self/task')), flush=True)\n"
        "    os._exit(0)\n"
        "landlock.restrict = tell\n"
        "walled.answer({'inputs': {}, 'scratch': '/nowhere', 'staging': None})\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


#: What a process that was taken over may leave behind, with ``{other}`` another node's file.
_LEFT = {
    "a link": "os.symlink({other!r}, here / 'data_0.parquet')",
    "a hard link": (
        "shutil.copy({other!r}, here / 'a'); os.link(here / 'a', here / 'data_0.parquet');"
        " os.rename(here / 'a', here / '../a')"
    ),
    "a pipe": "os.mkfifo(here / 'data_0.parquet')",
    "a document": (
        "shutil.copy({other!r}, here / 'data_0.parquet');"
        " os.symlink({victim!r}, here / 'snapshot.json')"
    ),
    "a second file": (
        "shutil.copy({other!r}, here / 'data_0.parquet');"
        " shutil.copy({other!r}, here / 'data_x.parquet')"
    ),
    "no rows": "(here / 'data_0.parquet').write_text('PAR1 and more')",
}
_ANSWERS = {
    "a list": "[1]",
    "a number": "7",
    "no notes": "{}",
    "notes that are none": '{"notes": 3}',
    "an error that is none": '{"error": 1}',
    "an error without a line": '{"error": {"type": "EngineError", "message": "x", "hint": ""}}',
    "deep": "[" * 100_000,
    "no json": "\\xff",
}


@pytest.mark.parametrize("name", [*_LEFT, *_ANSWERS])
def test_a_process_that_was_taken_over_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if not landlock.version():
        return
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    with open_lab(tmp_path, untrusted=True) as lab:
        other = lab.sql("SELECT 4711 AS a").files[0]
        before = Path(other).stat()
        left = _LEFT.get(name, "shutil.copy({other!r}, here / 'data_0.parquet')")
        said = _ANSWERS.get(name, '{"notes": []}')
        taken = (
            "import json, os, shutil, sys; from pathlib import Path\n"
            "here = Path(json.load(sys.stdin)['staging'])\n"
            + left.format(other=other, victim=str(victim))
            + f"\nsys.stdout.buffer.write({said!r}.encode('latin-1'))"
        )
        monkeypatch.setattr(walled, "_START", taken)
        with pytest.raises(EngineError, match="gave back what it never does"):
            lab.sql("SELECT 1 AS a")
        assert Path(other).stat() == before
    assert victim.read_text() == "as it was"
