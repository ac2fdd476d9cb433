"""The check of a node's SQL: what it lets through writes nothing and reads its inputs alone."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from fuzz.target import Run, Target, text
from seeknal_core.engine.allowed_sql.functions import functions
from seeknal_core.engine.statements import check

#: Stands in inputs for the file that must be neither read nor written.
FILE = "@file@"
#: What bytes that are no ASCII stand for: an input is mostly SQL that parses.
_WORDS = (
    "SELECT ", " FROM ", " AS ", "(", ")", ", ", " * ", "'a'", "1", " WITH ", " i AS (", "COPY (", ") TO ",
    f"'{FILE}'", f'"{FILE}"', ' "source.a" ', " other.canary ", "PIVOT ", "PIVOT (SELECT 'a' AS k, 2 AS v) ON k ",
    " USING sum(v) ", " ON k IN (", "UNPIVOT ", "DESCRIBE ", "SUMMARIZE ", "SHOW ", "EXPLAIN ANALYZE ",
    "CREATE TEMP TABLE x AS ", "CREATE TEMP VIEW v AS ", "CREATE TEMP MACRO m(p := ", ") AS TABLE ", "; ",
    " FROM x", "m(", " UNION ALL ", " WHERE ", " EXISTS (", " IN (", " ORDER BY ", " LIMIT ", " LATERAL ",
    " JOIN ", " USING (", "VALUES (", "TABLE ", "INSERT INTO ", "DELETE FROM ", "UPDATE ", " RETURNING ",
    "PREPARE p AS ", "EXECUTE p", "CALL ", "PRAGMA ", "SET ", "ATTACH ", "LOAD ", "EXPORT DATABASE ",
    " RECURSIVE ", " MATERIALIZED ", "list_transform([1], lambda x: ", "read_csv(", "read_text(", "glob(",
    "query(", "query_table(", "getenv(", "current_setting(", "nextval(", "duckdb_tables()", ".", "::",
    "{'a': ", "}", "[", "]", " CASE WHEN ", " END ", " OVER (", " FILTER (", " QUALIFY ", " GROUP BY ALL ",
    "COLUMNS(", " EXCLUDE (", " REPLACE (", "sum(", "unnest(", "range(3)", "$$", "/*", "*/", "--", "\n",
    " AT (VERSION => ", " TABLESAMPLE ", " ASOF ", " POSITIONAL ", " POSITION ", "information_schema.tables",
    "pg_catalog.", "main.", "memory.", "temp.", "?", "$1", "x -> ", "json_execute_serialized_sql(",
)  # fmt: skip
_SECONDS = 1.0


def spelled(data: bytes) -> str:
    """Return the SQL that an input stands for."""
    known = functions()
    listed = [*_WORDS, *sorted(known.refused | known.table | known.scalar)]
    out: list[bytes] = []
    at = 0
    while at < len(data):
        byte = data[at]
        if byte < 0x80:
            out.append(bytes([byte]))
        elif byte < 0xF0:
            out.append(listed[byte - 0x80].encode())
        elif at + 1 < len(data):
            at += 1
            out.append(listed[((byte & 0xF) << 8 | data[at]) % len(listed)].encode())
            out.append(b"(")
        at += 1
    return text(b"".join(out))


class _Watched:
    """An instance with an input, a table elsewhere and a file that nothing may touch.

    It can open the canary's folder alone: what an input gets away with, it does there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secret = secrets.token_hex(12)
        self.file = folder / "canary.csv"
        self._open()

    def _open(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()
        self.file.write_text(f"a\n{self._secret}\n", "utf-8")
        self.connection = duckdb.connect(config={"threads": 1, "memory_limit": "200MB"})
        run = self.connection.execute
        run("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
        run("SET python_enable_replacements = false")
        run(f"SET allowed_directories = ['{self._folder}']")
        run("SET enable_external_access = false")
        run("""CREATE TABLE "source.a" AS SELECT 1 AS a, 'x' AS k""")
        run("CREATE SCHEMA other")
        run(f"CREATE TABLE other.canary AS SELECT '{self._secret}' AS a")
        self._before = self._state()

    def _state(self) -> list[Any]:
        files = {path.name: path.read_bytes() for path in self._folder.iterdir()}
        run = self.connection.execute
        names = "SELECT 1, table_name FROM duckdb_tables() WHERE NOT temporary"
        views = "SELECT 2, view_name FROM duckdb_views() WHERE NOT temporary AND NOT internal"
        macros = (
            "SELECT DISTINCT 3, function_name FROM duckdb_functions()"
            " WHERE NOT internal AND database_name <> 'temp'"
        )
        rows = run(f"{names} UNION ALL {views} UNION ALL {macros} ORDER BY ALL").fetchall()
        attached = run("SELECT database_name FROM duckdb_databases() ORDER BY ALL").fetchall()
        held = run(
            """SELECT (SELECT list(c) FROM other.canary c), (SELECT list(s) FROM "source.a" s)"""
        )
        settings = run("SELECT hash(list(s ORDER BY s.name)) FROM duckdb_settings() s")
        return [files, rows, attached, held.fetchall(), settings.fetchall()]

    def run(self, statements: list[str]) -> None:
        """Run what was let through, and look whether anything else has changed or was read."""
        cursor = self.connection.cursor()
        timer = threading.Timer(_SECONDS, cursor.interrupt)
        timer.start()
        try:
            with contextlib.suppress(duckdb.Error):
                for statement in statements:
                    rows = cursor.execute(statement).fetchmany(1000)
                    assert self._secret not in repr(rows), "it reads what is not its input"
        finally:
            timer.cancel()
            timer.join()
        changed = self._state() != self._before
        for kind in ("TABLE", "VIEW"):
            catalog = f"duckdb_{kind.lower()}s()"
            made = cursor.execute(
                f"SELECT {kind}_name FROM {catalog} WHERE temporary AND NOT internal"
                if kind == "VIEW"
                else f"SELECT table_name FROM {catalog} WHERE temporary"
            ).fetchall()
            for (name,) in made:
                quoted = name.replace('"', '""')
                cursor.execute(f'DROP {kind} IF EXISTS temp."{quoted}"')
        cursor.close()
        if changed:
            self.connection.close()
            self._open()
        assert not changed, "it changes what is not its own"


@contextlib.contextmanager
def _sql(folder: Path) -> Iterator[Run]:
    watched = _Watched(folder)

    def run(data: bytes) -> None:
        sql = spelled(data).replace(FILE, str(watched.file))
        found = check("transform.t", [sql], ["source.a"])
        watched.run([statement.text for statement in found])

    yield run
    watched.connection.close()


TARGETS = (Target(name="sql", open=_sql, longest=400, seconds=10),)
