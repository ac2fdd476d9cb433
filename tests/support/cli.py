"""Run the command line as a user does: in a process of its own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from support.advice import check_printed
from support.catalog_proxy import CatalogProxy, Exchange, forward
from support.warm import Running, Warm


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
    """The command ``seeknal`` in a project folder, with its own home and environment.

    Attributes:
        warm: fork commands from a process that has imported the drivers (see `support.warm`).
    """

    cwd: Path
    environ: Mapping[str, str] = attrs.field(factory=dict)
    warm: bool = False

    def __call__(self, *args: str, code: int | None = 0, **environ: str) -> Result:
        """Run it; `code` is the exit code that is expected, None for any."""
        env = self.environment(**environ)
        if self.warm:
            ended, out, err = _warm().run(args, cwd=self.cwd, env=env, timeout=120)
        else:
            done = subprocess.run(
                self.command(*args),
                cwd=self.cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            ended, out, err = done.returncode, done.stdout, done.stderr
        result = Result(code=ended, out=out, err=err)
        if code is not None:
            assert result.code == code, f"exit {result.code}\n{result.out}\n{result.err}"
        assert "--debug" in args or "Traceback" not in result.said, result.said
        if "Next: " in result.said:
            check_printed(result.said, args)
        return result

    def killed_after(self, seconds: float, *args: str) -> Result:
        """Run it, and kill it as ``kill -9`` does once it has run for so long."""
        ended, out, err = _warm().run(args, cwd=self.cwd, env=self.environment(), timeout=seconds)
        return Result(code=ended, out=out, err=err)

    def killed_at(self, proxy: CatalogProxy, number: int, *args: str, landed: bool) -> Result:
        """Run it, and kill it at its so-manieth request to a catalog that changes something.

        Args:
            landed: after the catalog has done what was asked, not before.
        """
        from support.catalog_asking import Asked
        from support.catalog_failing import is_change

        left = [number]

        def act(exchange: Exchange) -> None:
            left[0] -= 1
            if left[0]:
                forward(exchange)
                return
            if landed:
                exchange.forward()
            _warm().kill()
            exchange.cut()

        proxy.rule(lambda request: left[0] > 0 and is_change(request, Asked.of(request)), act)
        try:
            ended, out, err = _warm().run(args, cwd=self.cwd, env=self.environment(), timeout=120)
        finally:
            proxy.heal()
        return Result(code=ended, out=out, err=err)

    def start(self, *args: str, **environ: str) -> subprocess.Popen[str] | Running:
        """Start it and return at once."""
        if self.warm:
            return _warm().start(args, cwd=self.cwd, env=self.environment(**environ))
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


@functools.cache
def _warm() -> Warm:
    return Warm()


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write files, making their folders."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
