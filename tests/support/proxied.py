"""A bench whose REST catalog is reached through a proxy, and looks past it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow.fs as fs
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError

from seeknal_core.contract.types import Target
from seeknal_iceberg import plugin
from seeknal_iceberg.ledger import orphan_files
from support.catalog_proxy import CatalogProxy
from support.iceberg import Bench

if TYPE_CHECKING:
    from support.lake import LakeServer


class ProxiedLake:
    """A proxy in front of a lake's catalog, a bench behind it, and a namespace.

    Reads of `rows`, `refs` and `unreferenced` go around the proxy, by pyiceberg alone.
    """

    def __init__(self, lake: LakeServer, root: Path, namespace: str) -> None:
        self.namespace = namespace
        self.proxy = CatalogProxy(lake.uri)
        options = dict(lake.catalog_options())
        for name in {"uri", "oauth2-server-uri"} & set(options):
            options[name] = self.proxy.uri + urlsplit(options[name]).path.lstrip("/")
        self.bench = Bench({"catalog": options}, root)
        self._direct = load_catalog("direct", **lake.direct_options())
        self._place = lake.direct_options()["warehouse"].removeprefix("s3://").rstrip("/")
        s3 = lake.s3_options()
        self._s3 = fs.S3FileSystem(
            access_key=s3["s3.access-key-id"],
            secret_key=s3["s3.secret-access-key"],
            endpoint_override=lake.s3_endpoint,
            region="us-east-1",
        )

    def target(self, table: str, *args: Any, **fields: Any) -> Target:
        """Return a target in the namespace."""
        return self.bench.target(f"{self.namespace}.{table}", *args, **fields)

    def table(self, table: str) -> Any:
        """Load a table by pyiceberg, None where there is none."""
        try:
            return self._direct.load_table((self.namespace, table))
        except NoSuchTableError:
            return None

    def ids(self, table: str) -> list[int] | None:
        """Return the ids in a table, None where there is none."""
        found = self.table(table)
        return None if found is None else sorted(found.scan().to_arrow()["id"].to_pylist())

    def refs(self, table: str) -> list[str]:
        """Return the names of a table's branches and tags."""
        found = self.table(table)
        return [] if found is None else sorted(found.metadata.refs)

    def unreferenced(self) -> list[str]:
        """Return all files in the namespace's folder that no table there names."""
        selector = fs.FileSelector(
            f"{self._place}/{self.namespace}", recursive=True, allow_not_found=True
        )
        files = {
            f"s3://{info.path}"
            for info in self._s3.get_file_info(selector)
            if info.type == fs.FileType.File and not info.path.endswith(".metadata.json")
        }
        for _, name in self._direct.list_tables((self.namespace,)):
            files -= orphan_files.referenced(self.table(name))
        return sorted(files)

    def sweep(self, *live: str) -> tuple[str, ...]:
        """Sweep as ``seeknal gc`` does, in a command of its own; return what stays."""
        other = self.bench.other()
        try:
            return plugin.sweep(other.context, live, False, ()).kept
        finally:
            other.close()

    def close(self) -> None:
        """End all of it."""
        self.bench.close()
        self.proxy.close()
