from __future__ import annotations

import re
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent.parent
CORE = ROOT / "seeknal_core"
#: One data file of hints and the example project may name backends, nothing else of the core.
MAY_NAME_THEM = (CORE / "hints.json", CORE / "example" / "files")
NAMES = re.compile(r"postgres|iceberg|psycopg|pgpq|adbc", re.IGNORECASE)


def naming_files(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root.parent)}:{number}: {line.strip()}"
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(path.is_relative_to(allowed) for allowed in MAY_NAME_THEM)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if NAMES.search(line)
    ]


def test_no_line_of_the_core_names_a_backend() -> None:
    assert naming_files(CORE) == []


def test_the_search_for_names_finds_some_where_there_are_some() -> None:
    assert naming_files(ROOT / "plugins" / "postgres" / "seeknal_postgres")


@pytest.mark.parametrize("package", ["seeknal_postgres", "seeknal_iceberg", "psycopg", "pyiceberg"])
def test_the_core_imports_neither_a_backend_nor_a_driver(package: str) -> None:
    graph = grimp.build_graph("seeknal_core", include_external_packages=True)
    assert "duckdb" in graph.modules  # lazy imports are seen
    assert package not in graph.modules
