"""Build the distributions, and beside each wheel the list of what it installs (CycloneDX JSON).

``tox run -e release``. The list (an SBOM) names each package by version, licence and hash of a
fresh environment that holds the distribution and what it requires, and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT, ROOT / "plugins" / "postgres", ROOT / "plugins" / "iceberg")


def main(output: Path) -> None:
    """Build all three into the folder `output`."""
    output.mkdir(parents=True, exist_ok=True)
    built = []
    for source in SOURCES:
        before = set(output.glob("*.whl"))
        _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source)
        built += sorted(set(output.glob("*.whl")) - before) or [_newest(output)]
    for wheel, source in zip(built, SOURCES, strict=True):
        _list_parts(wheel, built[0], source)


def _newest(output: Path) -> Path:
    return max(output.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)


def _list_parts(wheel: Path, core: Path, source: Path) -> None:
    name, version, *_ = wheel.name.split("-")
    made = wheel.with_name(f"{name}-{version}.cdx.json")
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        _run("uv", "venv", "--quiet", folder)
        # By path: a registry may have others' packages of these names.
        wheels = dict.fromkeys((core, wheel))
        _run("uv", "pip", "install", "--quiet", "--reinstall", "--python", python, *wheels)
        for record in Path(folder).rglob("*.dist-info/direct_url.json"):
            record.unlink()
        _run(
            *("cyclonedx-py", "environment", "--output-reproducible"),
            *("--pyproject", source / "pyproject.toml", "--output-file", made, python),
        )
    _check(made)


def _check(made: Path) -> None:
    """Make sure that the list has parts, and no place of this machine."""
    text = made.read_text("utf-8")
    parts = json.loads(text)["components"]
    if len(parts) < 5 or str(ROOT) in text or tempfile.gettempdir() in text:
        sys.exit(f"{made}: {len(parts)} parts, or a path of this machine")


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
