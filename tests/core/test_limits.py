"""Commands where the machine or the account's rights have an end."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from seeknal_core.contract.errors import exhausted
from support.cli import Cli


def limited(seeknal: Cli, limits: str, *args: str) -> tuple[int, str]:
    """Run a command under limits that a shell sets, and return how it ended and what it said."""
    command = f"{limits} && exec {shlex.join(seeknal.command(*args))}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command],
        cwd=seeknal.cwd,
        env=seeknal.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


READ_ONLY = "mount --bind target target && mount -o remount,ro,bind target target"


@pytest.mark.mounts
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("query", "SELECT count(*) AS n FROM totals"), 0),
        (("env", "diff", "dev"), 0),
        (("gc", "--dry-run"), 0),
        (("gc",), 1),
        (("run",), 1),
    ],
)
def test_what_only_reads_works_in_a_folder_that_cannot_be_written(
    project: Path, seeknal: Cli, args: tuple[str, ...], code: int
) -> None:
    seeknal("run")
    seeknal("run", "--env", "dev")
    before = sorted((project / "target").rglob("*"))
    ended, said = limited(seeknal, READ_ONLY, *args)
    assert ended == code, said
    assert "defect" not in said
    if code:
        assert "Read-only file system" in said and "owner and rights" in said
    assert sorted((project / "target").rglob("*")) == before


@pytest.mark.mounts
def test_too_few_file_descriptors_are_no_plugin_s_fault(seeknal: Cli) -> None:
    ended, said = limited(seeknal, "ulimit -n 8", "run")
    assert ended == 1, said
    assert "too many open files" in said and "ulimit -n" in said
    for wrong in ("defect", "fix the SQL", "pip install", "plugin's authors"):
        assert wrong not in said


def test_a_resource_that_ran_out_is_found_below_what_a_library_makes_of_it() -> None:
    def wrapped(cause: BaseException) -> BaseException:
        try:
            raise RuntimeError("the library failed") from cause
        except RuntimeError as error:
            return error

    for cause, said in (
        (MemoryError(), "out of memory"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many open files"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no space left"),
        (RuntimeError("can't start new thread"), "threads"),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory"),
        (ValueError("IO Error: Too many open files"), "too many open files"),
    ):
        for error in (cause, wrapped(cause)):
            found = exhausted(error)
            assert found is not None and said in found.message and found.hint, cause
    for other in (OSError(errno.ENOENT, "x"), ValueError("x"), None):
        assert exhausted(other) is None
