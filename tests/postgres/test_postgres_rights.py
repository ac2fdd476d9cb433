"""A role with few rights: it reads what it may, and what it lacks is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import ExecutionContext
from seeknal_postgres import plugin
from support.postgres_hooks import Database

ROLE = "seeknal_few_rights"


@pytest.fixture(autouse=True)
def role(db: Database) -> Iterator[None]:
    db.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'few rights, few cares'")
    yield
    db.execute(f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


def as_role(db: Database) -> ExecutionContext:
    return db.context(options={"user": ROLE, "password": "few rights, few cares"})


@contextmanager
def refused(kind: type[BackendError] = BackendError) -> Iterator[list[BackendError]]:
    found: list[BackendError] = []
    with pytest.raises(kind) as raised:
        yield found
    found.append(raised.value)


def test_a_role_with_rights_on_some_columns_reads_those(db: Database) -> None:
    db.execute(
        "CREATE SCHEMA s",
        'CREATE TABLE s.t AS SELECT 1 AS id, 2 AS salary, 3 AS "Odd one"',
        f"GRANT USAGE ON SCHEMA s TO {ROLE}",
        f'GRANT SELECT (id, "Odd one") ON s.t TO {ROLE}',
    )
    context = as_role(db)

    def read(**options: Any) -> pa.Table:
        return db.read(parts=("s", "t"), context=context, **options)

    assert read(columns=("Odd one", "id")).to_pydict() == {"Odd one": [3], "id": [1]}
    assert read(columns=("id",), watermark="id").to_pydict() == {"id": [1]}
    with refused() as found:
        read()
    assert "may not read its columns salary" in found[0].message
    assert 'params: {columns: ["id", "Odd one"]}' in found[0].hint
    assert "GRANT SELECT (salary) ON s.t" in found[0].hint
    with refused() as found:
        read(columns=("id", "salary"))
    assert "may not read its columns salary" in found[0].message
    with refused() as found:
        read(columns=("idd",))
    assert "no column 'idd'" in found[0].message and "did you mean 'id'" in found[0].hint
    query = db.read(query='SELECT id, "Odd one" FROM s.t', context=context)
    assert query.num_rows == 1


def test_a_right_that_a_reader_lacks_is_named_with_its_object(db: Database) -> None:
    db.execute("CREATE SCHEMA s", "CREATE TABLE s.t AS SELECT 1 AS id", "CREATE SEQUENCE s.q")
    context = as_role(db)
    with refused() as found:
        db.read(parts=("s", "t"), context=context)
    assert found[0].hint.startswith("GRANT USAGE ON SCHEMA s to")
    db.execute(f"GRANT USAGE ON SCHEMA s TO {ROLE}")
    with refused() as found:
        db.read(parts=("s", "t"), context=context)
    assert found[0].hint.startswith("GRANT SELECT ON s.t to")
    with refused() as found:
        db.read(query="SELECT last_value FROM s.q", context=context)
    assert "sequence q" in found[0].hint
    with refused() as found:
        db.read(query="SELECT pg_read_file('PG_VERSION') AS a", context=context)
    assert "GRANT EXECUTE ON FUNCTION pg_read_file" in found[0].hint


def test_a_right_that_a_writer_lacks_is_named_with_its_object(db: Database) -> None:
    rows = pa.table({"id": [1]})
    db.execute(
        "CREATE SCHEMA s",
        "CREATE SCHEMA _seeknal_prod",
        f"GRANT ALL ON SCHEMA s TO {ROLE}",
    )
    target = db.target("s.t")
    with refused(WriteRefused) as found:
        db.write(target, rows, context=as_role(db))
    assert "SCHEMA _seeknal_prod" in found[0].hint, found[0].hint
    assert "s.t" not in found[0].hint
    db.execute("DROP SCHEMA _seeknal_prod", f"REVOKE ALL ON SCHEMA s FROM {ROLE}")
    with refused() as found:
        db.write(target, rows, context=as_role(db))
    assert found[0].hint.endswith(f"CREATE SCHEMA _seeknal_prod AUTHORIZATION {ROLE}")


def schemas(db: Database) -> set[str]:
    return {row[0] for row in db.admin.execute("SELECT nspname FROM pg_namespace")}


def test_a_check_that_writes_leaves_nothing(db: Database) -> None:
    before = schemas(db)
    assert "\n" not in plugin.check_connection(db.context())
    said = plugin.check_connection(db.context(), write=True)
    assert said.endswith("write: a schema and a table were made, written to, read and dropped")
    assert schemas(db) == before


def test_a_check_that_writes_names_the_right_that_is_missing(db: Database) -> None:
    with refused(WriteRefused) as found:
        plugin.check_connection(as_role(db), write=True)
    assert "the right to create a schema is missing: permission denied" in str(found[0])
    assert "GRANT CREATE ON DATABASE" in found[0].hint and ROLE in found[0].hint
    db.execute(f"CREATE SCHEMA _seeknal_prod AUTHORIZATION {ROLE}")
    said = plugin.check_connection(as_role(db), write=True)
    assert "a table in _seeknal_prod was made, written to, read and dropped" in said


def test_a_check_that_writes_names_a_server_that_takes_no_writes(db: Database) -> None:
    db.execute(f"ALTER ROLE {ROLE} SET default_transaction_read_only = on")
    with refused() as found:
        plugin.check_connection(as_role(db), write=True)
    assert "the server takes no writes" in str(found[0])
