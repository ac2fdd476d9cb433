"""Run the command line as a user does: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Everything it printed."""
        return self.out + self.err

    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@attrs.frozen(kw_only=True)
class Cli:
    """The command ``seeknal`` in a project folder, with its own home and environment."""

    cwd: Path
    environ: Mapping[str, str] = attrs.field(factory=dict)

    def __call__(self, *args: str, code: int | None = 0, **environ: str) -> Result:
        """Run it; `code` is the exit code that is expected, None for any."""
        done = subprocess.run(
            self.command(*args),
            cwd=self.cwd,
            env=self.environment(**environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        result = Result(code=done.returncode, out=done.stdout, err=done.stderr)
        if code is not None:
            assert result.code == code, f"exit {result.code}\n{result.out}\n{result.err}"
        assert "Traceback" not in result.said, result.said
        return result

    def start(self, *args: str, **environ: str) -> subprocess.Popen[str]:
        """Start it and return at once."""
        return subprocess.Popen(
            self.command(*args),
            cwd=self.cwd,
            env=self.environment(**environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *args: str) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "seeknal_core", *args]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the process environment: ours less what would steer the tool."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SEEKNAL_", "AWS_", "PG"))
        }
        return {**kept, **self.environ, **more}


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write files, making their folders."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
