"""What CI installs is fixed by version and hash, and names no registry."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
#: Upstreams whose major versions have broken their users: each has an upper bound.
BREAKS = {
    *("cattrs", "click", "duckdb", "pluggy", "pyarrow", "rich", "sqlglot", "stevedore"),
    *("numpy", "pgpq", "psycopg", "pyiceberg", "tenacity"),
}


def _lock() -> ModuleType:
    spec = spec_from_file_location("lock", ROOT / "tests" / "meta" / "lock.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = _lock()


def _pinned(text: str) -> dict[str, set[str]]:
    """Return versions by name; each must have a hash."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.replace("\\\n", " ")):
        if entry.startswith("#") or not entry.strip():
            continue
        assert "--hash=sha256:" in entry, entry
        name, version = re.match(r"(\S+)==([^\s;]+)", entry).groups()  # type: ignore[union-attr]
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        (lock.CONSTRAINTS, [*lock.distributions(), *lock.environments()]),
        (lock.TOX, lock.tools()),
    ],
    ids=["constraints.txt", "tox.txt"],
)
def test_all_that_ci_installs_has_a_version_and_hashes(file: Path, wanted: list[str]) -> None:
    text = file.read_text("utf-8")
    assert "://" not in text and "index-url" not in text
    pinned = _pinned(text)
    assert len(wanted) > 1
    for each in map(Requirement, wanted):
        versions = pinned.get(canonicalize_name(each.name), set())
        assert any(each.specifier.contains(found) for found in versions), f"tox run -e lock: {each}"


def test_ci_installs_what_is_fixed() -> None:
    run = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "--require-hashes --requirement .ci/tox.txt" in run
    assert 'SEEKNAL_CONSTRAINTS="$PWD/.ci/constraints.txt"' in run


def test_upstreams_that_break_often_have_an_upper_bound() -> None:
    bounded = {
        each.name for each in map(Requirement, lock.distributions()) if "<" in str(each.specifier)
    }
    assert bounded >= BREAKS
