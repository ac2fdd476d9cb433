"""The list of functions that SQL may call, against the installed DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine import statements
from seeknal_core.engine.allowed_sql import functions as module
from seeknal_core.engine.allowed_sql.functions import functions


def installed(*kinds: str) -> set[str]:
    with duckdb.connect(config={"threads": 1}) as own:
        found = own.execute("SELECT lower(function_name), function_type FROM duckdb_functions()")
        return {name for name, kind in found.fetchall() if kind in kinds}


def sections() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    words: list[str] = []
    for line in Path(module.__file__).with_name("functions.txt").read_text().splitlines():
        if line.startswith("["):
            words = found.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            words += line.split()
    return found


def test_every_function_of_the_installed_duckdb_is_listed_as_allowed_or_refused() -> None:
    listed = sections()
    scalar = {*listed["functions"], *listed["collations"], *listed["operators"]}
    one_word = installed("scalar", "aggregate", "window", "macro")
    # Two operators of two words: the parser gives them a node of their own.
    one_word -= {"is distinct from", "is not distinct from"}
    assert one_word == scalar | set(listed["refused functions"])
    tables = {*listed["table functions"], *listed["refused table functions"]}
    assert installed("table", "table_macro") == tables
    assert installed("pragma") == set(listed["refused pragmas"])


def test_no_function_is_listed_twice() -> None:
    listed = sections()
    for allowed, refused in (
        (["functions", "collations", "operators"], "refused functions"),
        (["table functions"], "refused table functions"),
    ):
        words = [name for section in [*allowed, refused] for name in listed[section]]
        assert len(words) == len(set(words))


def test_a_function_that_is_on_no_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    functions()
    statements.check("transform.t", ["SELECT upper('a'), 1 FROM range(3)"])
    fewer = module.Functions(
        scalar=functions().scalar - {"upper"},
        table=functions().table - {"range"},
        refused=functions().refused,
    )
    for place in ("functions", "tree"):
        monkeypatch.setattr(f"seeknal_core.engine.allowed_sql.{place}.functions", lambda: fewer)
    statements._checked_once.cache_clear()
    with pytest.raises(EngineError, match=r"upper\(\)"):
        statements.check("transform.t", ["SELECT upper('a')"])
    with pytest.raises(EngineError, match=r"range\(\)"):
        statements.check("transform.t", ["FROM range(3)"])


@pytest.mark.parametrize("section", ["refused functions", "refused table functions"])
def test_every_refused_function_is_refused_in_each_way_of_calling_it(section: str) -> None:
    for name in sections()[section]:
        for call in (
            f"{name}()",
            f'"{name.upper()}"(1)',
            f"system.main.{name}('x')",
            f"('x').{name}()",
        ):
            forms = [f"SELECT {call}", f"SELECT 1 WHERE {call} IS NULL"]
            if section == "refused table functions":
                forms = [] if call.startswith("(") else [f"FROM {call}"]
                forms += [f"FROM range(1), LATERAL (FROM {name}(1))"]
            for sql in forms:
                with pytest.raises(EngineError):
                    statements.check("transform.t", [sql])
