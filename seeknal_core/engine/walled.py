"""SQL of a stranger in a process of its own, which the kernel keeps from everything else.

The process can read the node's inputs and the libraries it is made of, and write into the
node's staging folder and a scratch folder. It has no network, none of the command's
variables, and hands back words and numbers alone: the rows are the file in the staging
folder, which has to be a plain one. DuckDB's own settings hold inside of it as they do elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import attrs

from seeknal_core.contract.errors import ConfigError, EngineError, Interrupted
from seeknal_core.contract.types import Cancellation, Location, Snapshot
from seeknal_core.engine import landlock
from seeknal_core.engine.protocol import AuditOutcome, Output
from seeknal_core.project.specs import Audit, EngineSettings, Severity, SqlNode

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import Staging

_START = (
    "import json, sys; job = json.load(sys.stdin); sys.path[:] = job['path'];"
    " from seeknal_core.engine.walled import answer; answer(job)"
)
_HEARTBEAT = 0.1
#: By which DuckDB finds out how much memory and how many cores there are.
_LIMITS = ("/proc/self/cgroup", "/proc/meminfo", "/sys/fs/cgroup", "/sys/devices/system/cpu")
#: What libraries need to find each other.
_KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")
_DISBELIEVED = "the process that runs its SQL gave back what it never does"
_FACTS = ("node", "content_key", "row_count", "files", "bytes")


def describe() -> str:
    """Return whether there is a second wall around a stranger's SQL, for the user."""
    found = landlock.version()
    if found:
        return (
            "SQL of untrusted projects runs in processes that Linux keeps from all files but"
            f" their inputs (Landlock {found})"
        )
    return (
        "SQL of untrusted projects is kept from files by DuckDB's settings alone: this system"
        " has no Landlock"
    )


@attrs.frozen(kw_only=True)
class Walls:
    """Runs jobs in processes of their own. ``scratch`` is a folder of the command's."""

    settings: EngineSettings
    project_root: Path
    snapshot_root: Path
    scratch: Path
    cancellation: Cancellation

    def compute_sql(
        self,
        node: str,
        statements: Sequence[str],
        inputs: Mapping[str, Snapshot],
        staging: Staging,
    ) -> Output:
        """See `Engine`."""
        import pyarrow.parquet as pq

        from seeknal_core.contract.types import read_schema

        job = {"do": "sql", "node": node, "statements": list(statements)}
        found = self._run(job, inputs, staging)
        _check_staged(node, staging)
        with _believing(node):
            return Output(
                schema=read_schema(staging.file()),
                row_count=pq.read_metadata(staging.file()).num_rows,
                notes=tuple(str(note) for note in found["notes"]),
            )

    def run_audits(
        self,
        node: str,
        audits: Sequence[Audit],
        snapshot: Snapshot,
        related: Mapping[str, Snapshot],
    ) -> tuple[AuditOutcome, ...]:
        """See `Engine`."""
        job = {
            "do": "audits",
            "node": node,
            "audits": [_packed_audit(audit) for audit in audits],
            "snapshot": _packed(snapshot),
        }
        found = self._run(job, {**related, node: snapshot}, None)
        with _believing(node):
            return tuple(
                AuditOutcome(
                    audit=audit,
                    passed=bool(one["passed"]),
                    failing_rows=int(one["failing_rows"]),
                    message=str(one["message"]),
                )
                for audit, one in zip(audits, found["outcomes"], strict=True)
            )

    def _run(
        self, job: dict[str, Any], inputs: Mapping[str, Snapshot], staging: Staging | None
    ) -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp(prefix="walled-", dir=self.scratch))
        job |= {
            "path": [os.path.abspath(path) for path in sys.path if path],
            "settings": attrs.asdict(self.settings),
            "project_root": str(self.project_root),
            "snapshot_root": str(self.snapshot_root),
            "scratch": str(folder),
            "inputs": {id: _packed(snapshot) for id, snapshot in inputs.items()},
            "staging": str(staging.path) if staging else None,
        }
        try:
            return self._asked(job, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _asked(self, job: dict[str, Any], folder: Path) -> dict[str, Any]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "HOME": str(folder), "TMPDIR": str(folder)},
            cwd=folder,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said = self._waited(child, json.dumps(job))
        finally:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            with contextlib.suppress(OSError), child:
                pass  # Its pipes are closed, and it is waited for.
        if not said:
            raise EngineError(
                f"{job['node']}: the process that runs its SQL ended without an answer",
                "it may have needed more memory than there is",
            )
        with _believing(job["node"]):
            found: dict[str, Any] = dict(json.loads(said))
            error = _raised(found["error"]) if "error" in found else None
        if error is not None:
            raise error
        return found

    def _waited(self, child: subprocess.Popen[str], job: str) -> str:
        given: str | None = job
        while True:
            if self.cancellation.requested:
                raise Interrupted("stopped by the user")
            try:
                said, _ = child.communicate(given, timeout=_HEARTBEAT)
            except subprocess.TimeoutExpired:
                given = None
            else:
                return said


def _check_staged(node: str, staging: Staging) -> None:
    """Refuse anything but the one file that a query's rows are stored in.

    Whoever took the process over may have put a link there, which the command would follow.
    """
    with os.scandir(staging.path) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    if not found:
        raise EngineError(f"{node}: the process that runs its SQL stored nothing")
    for name, stat in found:
        plain = S_ISREG(stat.st_mode) and stat.st_nlink == 1
        if name != staging.file().name or not plain:
            raise EngineError(
                f"{node}: {_DISBELIEVED}", "look at what its SQL does before you run it"
            )


@contextlib.contextmanager
def _believing(node: str) -> Iterator[None]:
    """Turn what is wrong with an answer, or with the file it tells of, into one sentence."""
    import pyarrow as pa

    try:
        yield
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
        pa.ArrowException,
    ):  # fmt: skip
        raise EngineError(
            f"{node}: {_DISBELIEVED}", "look at what its SQL does before you run it"
        ) from None


def _raised(error: Mapping[str, Any]) -> EngineError | ConfigError:
    if error["type"] == "ConfigError":
        return ConfigError(str(error["message"]), str(error["hint"]))
    return EngineError(str(error["message"]), str(error["hint"]), line=int(error["line"]))


def _packed(snapshot: Snapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in _FACTS}


def _packed_audit(audit: Audit) -> dict[str, Any]:
    found = {field.name: getattr(audit, field.name) for field in attrs.fields(Audit)}
    del found["location"]
    return {**found, "severity": audit.severity.value}


def answer(job: Mapping[str, Any]) -> None:
    """Do a job and print what came of it; the process's part."""
    inputs = {id: _unpacked(one) for id, one in job["inputs"].items()}
    folders = [Path(job["scratch"]), *([Path(job["staging"])] if job["staging"] else [])]
    landlock.restrict(
        read=[
            *_libraries(),
            *map(Path, _LIMITS),
            *(Path(file) for one in inputs.values() for file in one.files),
        ],
        write=folders,
    )
    # After that: importing pyarrow starts threads, and those would not be held.
    import duckdb

    from seeknal_core.contract.errors import SeeknalError
    from seeknal_core.engine.duckdb import DuckDBEngine

    answer: dict[str, Any]
    try:
        engine = DuckDBEngine(
            EngineSettings(**job["settings"]),
            Path(job["project_root"]),
            Path(job["snapshot_root"]),
            Path(job["scratch"]),
            Cancellation(),
            untrusted=True,
            walled=False,
        )
        answer = _done(engine, job, inputs)
    except SeeknalError as error:
        kind = "ConfigError" if isinstance(error, ConfigError) else "EngineError"
        answer = {"error": {"type": kind, "message": error.message, "hint": error.hint}}
        answer["error"]["line"] = getattr(error, "line", 0)
    except (OSError, MemoryError, RecursionError, duckdb.Error) as error:
        said = f"{job['node']}: {type(error).__name__}"
        answer = {"error": {"type": "EngineError", "message": said, "hint": "", "line": 0}}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)


def _done(engine: Any, job: Mapping[str, Any], inputs: Mapping[str, Snapshot]) -> dict[str, Any]:
    from seeknal_core.engine.snapshots import Staging

    if job["do"] == "sql":
        staging = Staging(path=Path(job["staging"]))
        output = engine.compute_sql(job["node"], job["statements"], inputs, staging)
        return {"notes": list(output.notes)}
    kind, _, name = job["node"].partition(".")
    here = Location(file="", line=1)
    audits = tuple(_unpacked_audit(one) for one in job["audits"])
    node = _Audited(name=name, of=kind, location=here, sql="", sql_location=here, audits=audits)
    related = {id: one for id, one in inputs.items() if id != job["node"]}
    outcomes = engine.run_audits(node, _unpacked(job["snapshot"]), related)
    return {
        "outcomes": [
            {"passed": one.passed, "failing_rows": one.failing_rows, "message": one.message}
            for one in outcomes
        ]
    }


@attrs.frozen(kw_only=True)
class _Audited(SqlNode):
    """A node of any kind, as far as its audits need it."""

    of: str

    @property
    def kind(self) -> str:
        return self.of


def _unpacked(found: Mapping[str, Any]) -> Snapshot:
    return Snapshot(**{**found, "files": tuple(found["files"])})


def _unpacked_audit(found: Mapping[str, Any]) -> Audit:
    lists = {name: tuple(found[name]) for name in ("columns", "values")}
    return Audit(**{**found, **lists, "severity": Severity(found["severity"])})


def _libraries() -> list[Path]:
    """Return the folders that Python's and the system's libraries are loaded from."""
    own = Path(__file__).parents[1]
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [
        own,
        *(Path(path) for path in named if path),
        *map(Path, ("/lib", "/lib64", "/usr/lib")),
    ]
