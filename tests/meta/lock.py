"""Write the versions and hashes that CI installs: ``tox run -e lock``.

What the distributions, ``tox.ini`` and the dependency groups allow is resolved to one version each, for
all platforms and Python versions, into ``.ci/constraints.txt``; tox and what it needs into ``.ci/tox.txt``. No
registry is named: whoever installs chooses it, and the hashes hold wherever a file comes from.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS, TOX = ROOT / ".ci" / "constraints.txt", ROOT / ".ci" / "tox.txt"
OURS = re.compile(r"seeknal[-_]")
#: The extras that a tox environment installs.
EXTRAS = {"xlsx", "testing", "embedded", "sigv4"}
_HEAD = "# Made by `tox run -e lock`: the versions and hashes that CI installs.\n"


def distributions() -> list[str]:
    """Return what the three distributions require, to be built too."""
    found = []
    for path in (ROOT, ROOT / "plugins" / "postgres", ROOT / "plugins" / "iceberg"):
        data = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))
        found += data["build-system"]["requires"] + data["project"]["dependencies"]
        for extra, wanted in data["project"].get("optional-dependencies", {}).items():
            found += wanted if extra in EXTRAS else []
    return [each for each in found if not OURS.match(each)]


def environments() -> list[str]:
    """Return what ``tox.ini`` and the dependency groups of ``pyproject.toml`` require."""
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    parser.read(ROOT / "tox.ini", "utf-8")
    lines = [parser[name].get("deps", "") for name in parser.sections()]
    wanted = "\n".join(lines).splitlines()
    found = [each.strip() for each in wanted if each.strip() and not each.startswith("{[")]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    return found + [each for group in groups.values() for each in group if isinstance(each, str)]


def tools() -> list[str]:
    """Return what runs the environments."""
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes=("#",))
    parser.read(ROOT / "tox.ini", "utf-8")
    return [each.strip() for each in parser["tox"]["requires"].splitlines() if each.strip()]


def main() -> None:
    """Resolve both files anew, to the newest versions that are allowed."""
    _resolve([*distributions(), *environments()], CONSTRAINTS)
    _resolve(tools(), TOX)


def _resolve(wanted: list[str], output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "wanted.in"
        given.write_text("\n".join(sorted(set(wanted))) + "\n", "utf-8")
        made = subprocess.run(
            [
                *("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
                *("--generate-hashes", "--no-header", "--no-annotate"),
                *("--no-emit-index-url", "--no-emit-find-links", str(given)),
            ],
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={name: text for name, text in os.environ.items() if name != "UV_CONSTRAINT"},
        ).stdout
    output.write_text(_HEAD + made, "utf-8")


if __name__ == "__main__":
    main()
