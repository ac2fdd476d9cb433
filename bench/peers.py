"""Other tools, at pinned versions, each in an environment of its own.

Made once and kept; a peer that cannot be installed is told of as missing, with the reason.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Missing, compile_code, tell


@dataclass(frozen=True)
class Peer:
    """What is installed together."""

    name: str
    requirements: tuple[str, ...]

    @property
    def version(self) -> str:
        """What is measured, with its version."""
        return ", ".join(self.requirements)


SQLMESH = Peer("sqlmesh", ("sqlmesh[postgres]==0.236.4",))
DBT = Peer("dbt", ("dbt-core==1.11.16", "dbt-postgres==1.11.0"))
# With ADBC, dlt loads Parquet as it is; without, by way of CSV, which takes far longer.
DLT = Peer("dlt", ("dlt[postgres,parquet]==1.31.0", "adbc-driver-postgresql==1.13.0"))
# DuckDB's extension is a wheel for one version of DuckDB, which is not the one that we use.
DUCKDB = Peer("duckdb", ("duckdb==1.5.5", "duckdb-extension-postgres-scanner==1.5.5"))
ADBC = Peer("adbc", ("adbc-driver-postgresql==1.13.0", "pyarrow==26.0.1"))
OLDER = Peer(
    "seeknal 2.13",
    ("seeknal==2.13.0", "duckdb==1.5.5", "duckdb-extension-postgres-scanner==1.5.5"),
)


@dataclass(frozen=True)
class Installed:
    """A peer's environment."""

    peer: Peer
    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def program(self, name: str) -> str:
        """Return the path of one of its commands."""
        return str(self.folder / "bin" / name)


def default_folder() -> Path:
    """Return where environments are kept unless told otherwise."""
    return Path(tempfile.gettempdir()) / "seeknal-bench-peers"


def install(peer: Peer, folder: Path | None) -> Installed | Missing:
    """Make the peer's environment, or take the one that is there."""
    said = "\n".join((*peer.requirements, sys.version))
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    place = (folder or default_folder()) / f"{peer.name.replace(' ', '-')}-{digest}"
    done = place / "installed"
    if not done.exists():
        tell(f"installing {peer.version}")
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            for command in _commands(place, peer):
                env = {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_LINK_MODE": "copy"}
                subprocess.run(command, env=env, check=True, capture_output=True, text=True)
        except (subprocess.CalledProcessError, OSError) as error:
            return Missing(_reason(error))
        compile_code(place / "lib")
        done.write_text(said, "utf-8")
    return Installed(peer, place)


def _commands(place: Path, peer: Peer) -> list[list[str]]:
    python = str(place / "bin" / "python")
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
            [uv, "pip", "install", "--quiet", "--python", python, *peer.requirements],
        ]
    return [
        [sys.executable, "-m", "venv", str(place)],
        [python, "-m", "pip", "install", "--quiet", *peer.requirements],
    ]


def _reason(error: subprocess.CalledProcessError | OSError) -> str:
    """Return the installer's last words on one line, without addresses."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    words = [word for word in (said or str(error)).split() if "://" not in word]
    return "cannot be installed: " + " ".join(words)[-200:].replace("|", "/")
