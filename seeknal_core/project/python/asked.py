"""What Python files say when they run, asked of a child process without credentials.

For files whose decorators are given something computed, in projects whose Python is
trusted. The child gets none of the command's variables but those of the system, and a
home of its own, which is empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.pipeline import Use
from seeknal_core.project.python.written import Written

#: Seconds for all files of a project.
LIMIT = 60.0
#: What a process needs to find libraries and to speak the user's language.
_KEPT = (
    "PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH", "SYSTEMROOT",
)  # fmt: skip
_START = (
    "import json, sys; job = json.load(sys.stdin); sys.path[:] = job['path'];"
    " from seeknal_core.project.python.asked import answer; answer(job)"
)
_WRITE_OUT = "write out what its decorators are given"


def ask(
    root: Path, files: Sequence[Path], variables: Sequence[str] = ()
) -> dict[Path, list[Written] | Problem]:
    """Run files in a child process; return what each declares, or why it cannot be imported.

    Args:
        variables: names of variables of this process that the child gets.

    Raises:
        ConfigError: the child took too long, or died.
    """
    with tempfile.TemporaryDirectory(prefix="seeknal-python-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        result = Path(folder) / "declared.json"
        job = {
            "path": [os.path.abspath(path) for path in sys.path if path],
            "root": str(root),
            "files": [str(file) for file in files],
            "result": str(result),
        }
        _run(job, home, root, files, variables)
        try:
            answers = json.loads(result.read_text("utf-8"))
        except (OSError, ValueError):
            raise _failed(root, files, "ended before it had read them") from None
    return {file: _unpacked(answer) for file, answer in zip(files, answers, strict=True)}


def _run(
    job: Mapping[str, object],
    home: Path,
    root: Path,
    files: Sequence[Path],
    variables: Sequence[str],
) -> None:
    kept = {name: os.environ[name] for name in (*_KEPT, *variables) if name in os.environ}
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _START],
        stdin=subprocess.PIPE,
        # What a module prints must not get into the command's answer.
        stdout=2,
        env={**kept, "HOME": str(home)},
        cwd=root,
        text=True,
        start_new_session=True,
    )
    try:
        child.communicate(json.dumps(job), timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise _failed(root, files, f"took more than {LIMIT:.0f} s to import them") from None
    finally:
        # Whatever it started goes with it.
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.returncode:
        raise _failed(root, files, f"ended with {_ending(child.returncode)}")


def _ending(code: int) -> str:
    return f"exit code {code}" if code > 0 else signal.Signals(-code).name


def _failed(root: Path, files: Sequence[Path], what: str) -> ConfigError:
    names = ", ".join(file.relative_to(root).as_posix() for file in files)
    return ConfigError(
        f"{names}: the process that imports them to read their decorators {what}", _WRITE_OUT
    )


def _unpacked(answer: Mapping[str, Any]) -> list[Written] | Problem:
    if "problem" in answer:
        return Problem(*answer["problem"])
    return [
        Written(
            name=one["name"],
            qualname=one["qualname"],
            text=one["text"],
            kinds=tuple((kind, Use(*use)) for kind, *use in one["kinds"]),
            targets=tuple(Use(*use) for use in one["targets"]),
        )
        for one in answer["declared"]
    ]


def answer(job: Mapping[str, Any]) -> None:
    """Import the files of a job and write down what they declare; the child's part."""
    from seeknal_core.project.python.importing import activate, import_file, shown

    root = Path(job["root"])
    activate(root)
    answers: list[dict[str, object]] = []
    for number, name in enumerate(job["files"]):
        file = Path(name)
        found = import_file(root, file, f"_seeknal_node_file_{number}_{file.stem}")
        if isinstance(found, Problem):
            answers.append({"problem": _with_reason(found)})
            continue
        try:
            packed: dict[str, object] = {"declared": [_packed(one) for one in found]}
            json.dumps(packed)
        except (TypeError, ValueError, RecursionError) as error:
            said = f"what its decorators are given is no plain value: {error}"
            packed = {"problem": Problem(said, shown(file, root), hint=_WRITE_OUT)}
        answers.append(packed)
    Path(job["result"]).write_text(json.dumps(answers), "utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads and exit handlers of the project have no say in how this ends.
    os._exit(0)


def _with_reason(problem: Problem) -> Problem:
    """Return a hint that variables are missing on purpose, where that may be the cause."""
    if not problem.message.startswith(("KeyError", "TypeError", "ValueError", "AssertionError")):
        return problem
    return problem._replace(
        hint=f"{_WRITE_OUT}: they are read in a process that has only the variables that the"
        " project file lists under env_vars"
    )


def _packed(declaration: Any) -> dict[str, object]:
    import inspect

    from seeknal_core.project.python.written import plain

    function = declaration.function
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = ""
    return {
        "name": getattr(function, "__name__", ""),
        "qualname": getattr(function, "__qualname__", ""),
        "text": text,
        "kinds": [[kind, plain(use.options), use.line] for kind, use in declaration.kinds],
        "targets": [[plain(use.options), use.line] for use in declaration.targets],
    }
