"""What other tools were reported to do wrong when they read PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import Resources, Source
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.processes import ServerProcess, free_port


@pytest.fixture
def db(postgres_dsn: dict[str, object], tmp_path: Path) -> Iterator[Database]:
    """An empty database and the hooks on it."""
    resources = Resources()
    with psycopg.connect(autocommit=True, **postgres_dsn) as admin:  # type: ignore[arg-type]
        yield Database(dsn=postgres_dsn, admin=admin, folder=tmp_path, resources=resources)
        resources.close()


def test_numbers_of_mixed_scales_do_not_wrap_around(db: Database) -> None:
    """apache/arrow#49817: a cast of text to a decimal drops what does not fit 128 bits."""
    db.execute(
        "CREATE TABLE public.t AS SELECT * FROM (VALUES (35000000000::numeric), (1/3.0)) v(x)",
        "CREATE TABLE public.big AS SELECT 2::numeric ^ 256 - 1 AS x",
    )
    assert db.read(parts=("t",)).column("x").to_pylist() == [
        Decimal(35000000000),
        Decimal("0.33333333333333333333"),
    ]
    with pytest.raises(BackendError, match="column 'x'"):
        db.read(parts=("big",))


def test_connecting_does_not_read_the_columns_of_all_tables(db: Database) -> None:
    """ADBC reads all of pg_attribute at connect: 14 s in a database of 20,000 tables."""
    for start in range(0, 3000, 500):
        db.execute(
            f"DO $$ BEGIN FOR i IN {start}..{start + 499} LOOP EXECUTE"
            " format('CREATE TABLE public.t%s (a int, b int, c int, d int, e int)', i);"
            " END LOOP; END $$"
        )
    db.execute("SELECT pg_stat_reset()")
    db.read(parts=("t7",))
    db.resources.close()
    db.execute("SELECT pg_stat_force_next_flush()")
    read = db.value(
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_sys_tables"
        " WHERE relname = 'pg_attribute'"
    )
    assert read < 5000


if shutil.which("pgbouncer") or Path("/usr/sbin/pgbouncer").exists():

    @pytest.fixture
    def pooler(db: Database) -> Iterator[int]:
        """A pgbouncer with four connections for each role and database; yields its port."""
        folder = Path(tempfile.mkdtemp(prefix="seeknal-pgbouncer-"))
        folder.chmod(0o755)
        port = free_port()
        config = folder / "pgbouncer.ini"
        dsn = db.dsn
        config.write_text(
            f"[databases]\n* = host={dsn['host']} port={dsn['port']} user={dsn['user']} password={dsn['password']}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
            "pool_mode = session\ndefault_pool_size = 4\nmax_client_conn = 100\n"
            "unix_socket_dir =\nignore_startup_parameters = extra_float_digits,options\n"
        )
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        account = (65534, 65534) if os.geteuid() == 0 else None
        process = ServerProcess(
            [program, str(config)], log=folder / "log", env=dict(os.environ), account=account
        )
        assert process.wait_until(lambda: _answers(port, dsn)), process.last_words()
        yield port
        db.resources.close()
        process.stop()
        shutil.rmtree(folder)

    def _answers(port: int, dsn: object) -> bool:
        try:
            with psycopg.connect(**{**dict(dsn), "port": port}):  # type: ignore[call-overload]
                return True
        except psycopg.OperationalError:
            return False

    def test_six_sources_read_through_a_pooler_with_four_connections(
        db: Database, pooler: int
    ) -> None:
        """Each reader needed two connections, and four of them waited for one another."""
        context = db.context(options={"port": pooler})
        query = "SELECT a, pg_sleep(0.1)::text AS b FROM generate_series(1, 5) a"

        def read(place: int) -> int:
            source = Source(node=f"source.s{place}", type="postgresql", query=query)
            with plugin.read_source(context, source) as stream:
                return int(stream.open().read_all().num_rows)

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(read, range(6))) == [5] * 6
