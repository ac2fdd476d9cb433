"""Every way of answering that Iceberg catalogs have, as a mode of a proxy.

A mode is put before a server (`Backing`): SeaweedFS, or `support.rest_server`. What a user
would write into a profile is ``catalog_options()``; ``direct_options()`` look past the mode::

    with in_mode("soft-delete", rest_backing(tmp_path)) as catalog:
        bench = Bench({"catalog": catalog.catalog_options()}, tmp_path)
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import pyarrow.fs as fs

from support import catalog_failing as failing
from support import catalog_layers as ways
from support import catalog_names as names
from support.catalog_proxy import CatalogProxy, Layer
from support.rest_server import RestServer
from support.vending import Guard, TableBucket, Vending

if TYPE_CHECKING:
    from support.lake import LakeServer

Options = dict[str, str]


@attrs.frozen(kw_only=True)
class Backing:
    """A real catalog server and its storage.

    Attributes:
        options: pyiceberg's properties that reach both.
        lake: the S3 service, None where tables are in a local folder.
    """

    uri: str
    options: Options
    lake: LakeServer | None = None

    @property
    def warehouse(self) -> str:
        """Where tables are put."""
        return self.options["warehouse"].rstrip("/")

    def _files(self, location: str) -> tuple[fs.FileSystem, str]:
        if location.startswith("s3://"):
            assert self.lake is not None
            return self.lake.file_system(), location.removeprefix("s3://").rstrip("/")
        return fs.LocalFileSystem(), location.removeprefix("file://").rstrip("/")

    def is_empty(self, location: str) -> bool:
        """Tell whether there are no files at a location."""
        system, path = self._files(location)
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        return all(info.type == fs.FileType.Directory for info in system.get_file_info(selector))

    def files(self) -> list[str]:
        """Return the paths of all files below the warehouse."""
        system, path = self._files(self.warehouse)
        found = system.get_file_info(fs.FileSelector(path, recursive=True))
        return [str(info.path) for info in found if info.type == fs.FileType.File]

    def delete(self, location: str) -> None:
        """Delete all files at a location."""
        system, path = self._files(location)
        with contextlib.suppress(FileNotFoundError, OSError):
            system.delete_dir(path)


@contextlib.contextmanager
def rest_backing(
    folder: Path, lake: LakeServer | None = None, *, tokens: bool = False
) -> Iterator[Backing]:
    """Serve a catalog whose files are in a folder, or in an S3 service."""
    warehouse = None if lake is None else f"s3://{lake.bucket}/{uuid.uuid4().hex[:8]}"
    properties = None if lake is None else lake.s3_options()
    with RestServer(folder, warehouse=warehouse, properties=properties, tokens=tokens) as server:
        yield Backing(uri=server.uri, options=server.catalog_options(), lake=lake)


@contextlib.contextmanager
def seaweedfs_backing(lake: LakeServer) -> Iterator[Backing]:
    """Use the catalog of SeaweedFS."""
    yield Backing(uri=lake.uri, options=lake.catalog_options(), lake=lake)


@attrs.define
class Stage:
    """What a mode is made of while it is put up: its backing, and what has to be closed."""

    backing: Backing
    closing: contextlib.ExitStack

    def vending(self, *parts: str, seconds: float = 3600.0) -> Layer:
        """Return the layer that gives keys with each table."""
        lake = self.backing.lake
        assert lake is not None
        guard = Guard(lake.s3_endpoint)
        self.closing.callback(guard.close)
        s3 = lake.s3_options()
        keys = (s3["s3.access-key-id"], s3["s3.secret-access-key"])
        return Vending(guard, lake.s3_endpoint, keys, parts, seconds)

    def signing(self) -> Layer:
        """Return the layer that offers remote signing."""
        assert self.backing.lake is not None
        endpoint = {"s3.endpoint": self.backing.lake.s3_endpoint, "s3.region": "us-east-1"}
        return ways.RemoteSigning({**endpoint, "s3.path-style-access": "true"})

    def table_bucket(self) -> Mapping[str, str]:
        """Put up a storage that lists and deletes nothing; return what tables say of it."""
        if self.backing.lake is None:
            return {}
        bucket = TableBucket(self.backing.lake.s3_endpoint)
        self.closing.callback(bucket.close)
        return {
            "s3.endpoint": bucket.endpoint,
            "s3.region": "us-east-1",
            "s3.path-style-access": "true",
        }

    def async_purge(self) -> Layer:
        """Return the layer that deletes files later."""
        layer = ways.AsyncPurge(self.backing.delete)
        self.closing.callback(layer.close)
        return layer

    def locations(self, *, chosen_here: bool = False) -> Layer:
        """Return the layer that looks at new tables' locations."""
        return names.Locations(
            self.backing.warehouse, self.backing.is_empty, chosen_here=chosen_here
        )


def _as_it_is(options: Options) -> Options:
    return options


def without_keys(options: Options) -> Options:
    """Return a profile that says nothing of the storage."""
    return {key: value for key, value in options.items() if not key.startswith("s3.")}


def _without_endpoint(options: Options) -> Options:
    return {key: value for key, value in options.items() if key != "s3.endpoint"}


#: The name of the warehouse where a mode knows it by name.
WAREHOUSE = "shop-lake"


def _named(options: Options) -> Options:
    return {**options, "warehouse": WAREHOUSE}


@attrs.frozen(kw_only=True)
class CatalogMode:
    """A way of answering.

    Attributes:
        says: how it answers, in a few words.
        who: catalogs that do.
        layers: makes them, the client's side first.
        profile: what a user's profile says, from what reaches the backing.
        on_s3: needs an S3 service.
        levels: how deep namespaces go, 0 for as deep as one likes.
        whole: a catalog, not one habit.
    """

    name: str
    says: str
    who: str
    layers: Callable[[Stage], Sequence[Layer]]
    profile: Callable[[Options], Options] = _as_it_is
    on_s3: bool = False
    levels: int = 0
    whole: bool = False
    base: str = ""
    uri_has_base: bool = True


class ModedCatalog:
    """A mode in front of a backing."""

    def __init__(self, mode: CatalogMode, backing: Backing, proxy: CatalogProxy) -> None:
        self.mode, self.backing, self.proxy = mode, backing, proxy

    @property
    def uri(self) -> str:
        """The address that a profile has."""
        base = self.mode.base.strip("/")
        return self.proxy.uri + (f"{base}/" if base and self.mode.uri_has_base else "")

    def catalog_options(self) -> Options:
        """Return a user's profile."""
        options = self.mode.profile({**self.backing.options, "uri": self.uri})
        if "oauth2-server-uri" in options:
            base = self.mode.base.strip("/")
            at = self.proxy.uri + (f"{base}/" if base else "")
            options["oauth2-server-uri"] = f"{at}v1/oauth/tokens"
        return options

    def direct_options(self) -> Options:
        """Return pyiceberg's properties that look past the mode."""
        return dict(self.backing.options)


@contextlib.contextmanager
def in_mode(name: str, backing: Backing) -> Iterator[ModedCatalog]:
    """Put a mode before a backing."""
    mode = MODES[name]
    with contextlib.ExitStack() as closing:
        layers = mode.layers(Stage(backing, closing))
        yield ModedCatalog(mode, backing, closing.enter_context(CatalogProxy(backing.uri, layers)))


def _is_lower(name: str) -> bool:
    return re.fullmatch(r"[a-z0-9_-]+", name) is not None


_LOWER = "names are of lower-case letters, digits and underscores"


def _lakekeeper(stage: Stage, access: Layer) -> Sequence[Layer]:
    return (
        names.Prefix("0198a3c2-7a10", "/catalog", {WAREHOUSE: stage.backing.options["warehouse"]}),
        access,
        ways.null_credentials,
        ways.references_stay,
        ways.BegunAgain(),
        ways.SoftDelete(),
        names.AnyCase(),
    )


def _polaris(stage: Stage) -> Sequence[Layer]:
    return (
        names.Prefix(WAREHOUSE, "/api/catalog", {WAREHOUSE: stage.backing.options["warehouse"]}),
        ways.hides,
        ways.NoPurge(403),
        stage.vending("config", "storage-credentials"),
        stage.locations(),
    )


def _nessie(stage: Stage) -> Sequence[Layer]:
    assert stage.backing.lake is not None
    place = {
        "s3.endpoint": stage.backing.lake.s3_endpoint,
        "s3.path-style-access": "true",
        "s3.remote-signing-enabled": "false",
        "client.region": "us-east-1",
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
    }
    return (
        names.Prefix("main%7Cwarehouse", "/iceberg"),
        ways.endpoint_with_tables(place),
        ways.strict_updates,
        ways.OneSnapshot(),
    )


def _glue(stage: Stage) -> Sequence[Layer]:
    return (
        names.Prefix("catalogs/123456789012", "/iceberg"),
        ways.NoPurge(400),
        failing.NoMultiTable(404, listed=True),
        names.NewNames(_is_lower, _LOWER, levels=1),
        names.AnyCase(),
        names.NoStagedCreate(),
        names.NoRename(listed=True),
    )


def _s3tables(stage: Stage) -> Sequence[Layer]:
    bucket = stage.table_bucket()
    return (
        names.Prefix("arn%3Aaws%3As3tables%3Aus-east-1%3A1%3Abucket%2Fshop", "/iceberg"),
        ways.must_purge,
        failing.NoMultiTable(400),
        names.NewNames(_is_lower, _LOWER, levels=1),
        stage.locations(chosen_here=True),
        names.NoStagedCreate(),
        *([ways.endpoint_with_tables(bucket)] if bucket else []),
    )


def _unity(stage: Stage) -> Sequence[Layer]:
    return (
        names.Prefix("catalogs/shop", "/api/2.1/unity-catalog/iceberg-rest"),
        stage.vending("config", seconds=3600),
        failing.NoMultiTable(501),
        ways.hides,
        names.NewNames(_is_lower, _LOWER, levels=1),
    )


def _mode(
    name: str, says: str, who: str, *layers: Layer | Callable[[], Layer], **more: Any
) -> CatalogMode:
    def make(stage: Stage) -> Sequence[Layer]:
        return [layer() if isinstance(layer, type) else layer for layer in layers]  # type: ignore[misc]

    return CatalogMode(name=name, says=says, who=who, layers=make, **more)


def _made(
    name: str, says: str, who: str, make: Callable[[Stage], Sequence[Layer]], **more: Any
) -> CatalogMode:
    return CatalogMode(name=name, says=says, who=who, layers=make, **more)


def _fresh(make: Callable[[], Layer]) -> Callable[[Stage], Sequence[Layer]]:
    return lambda stage: (make(),)


#: The modes, by what they are about.
GROUPS: Mapping[str, Sequence[CatalogMode]] = {
    "As specified": (
    _mode("plain", "as the specification says", "Iceberg's own"),
    ),
    "Storage keys": (
    _made(
        "vended", "keys come with each table, for its own files, for an hour",
        "Lakekeeper, Polaris, Unity, R2",
        lambda stage: (stage.vending("config", "storage-credentials"),),
        profile=without_keys, on_s3=True,
    ),
    _made(
        "vended-config", "keys come in a table's `config` only", "Unity, older servers",
        lambda stage: (stage.vending("config"),), profile=without_keys, on_s3=True,
    ),
    _made(
        "vended-credentials", "keys come in `storage-credentials` only, by prefix", "Polaris",
        lambda stage: (stage.vending("storage-credentials"),), profile=without_keys, on_s3=True,
    ),
    _made(
        "vended-short", "keys come with each table, and expire after three seconds",
        "short-lived roles",
        lambda stage: (stage.vending("config", "storage-credentials", seconds=3),),
        profile=without_keys, on_s3=True,
    ),
    _made(
        "signing", "offers to sign requests, though the profile has keys",
        "Lakekeeper without STS, Nessie", lambda stage: (stage.signing(),), on_s3=True,
    ),
    ),
    "Dropping tables": (
    _mode("no-purge-403", "a purge is refused with 403", "Polaris", ways.NoPurge(403)),
    _mode("no-purge-400", "a purge is refused with 400", "Glue", ways.NoPurge(400)),
    _mode("must-purge", "a drop without purge is refused", "S3 Tables", ways.must_purge),
    _mode(
        "soft-delete", "dropped tables are kept a while, their namespace with them",
        "Lakekeeper, Polaris", ways.SoftDelete,
    ),
    _made(
        "async-purge", "files of a dropped table go later", "Lakekeeper, R2",
        lambda stage: (stage.async_purge(),),
    ),
    ),
    "What is seen": (
    _mode("hides", "403 for what is not there", "with authorization", ways.hides),
    _mode(
        "one-snapshot", "only the current snapshot is there; what is of others is not done",
        "Nessie 0.99", ways.OneSnapshot,
    ),
    _made(
        "one-snapshot-strict", "only the current snapshot is there; what is of others is refused",
        "later versions of Nessie", _fresh(lambda: ways.OneSnapshot(strict=True)),
    ),
    _mode("nulls", "every optional field may be null", "Lakekeeper up to 0.7", ways.nulls),
    ),
    "Names and places": (
    _mode("any-case", "names that differ in case are one", "Lakekeeper, Glue", names.AnyCase),
    _mode(
        "lower-case", "names in lower case only", "Glue, S3 Tables, Unity",
        names.NewNames(_is_lower, _LOWER),
    ),
    _mode(
        "one-level", "namespaces of one level only", "Glue, S3 Tables, Unity",
        names.NewNames(bool, "namespaces have one level", levels=1), levels=1,
    ),
    _mode(
        "no-plus", "`+` in names is refused", "Gravitino",
        names.NewNames(lambda name: "+" not in name, "`+` is not allowed in names"),
    ),
    _made(
        "prefix", "paths begin with the id of a warehouse that has a name",
        "Lakekeeper, Polaris",
        lambda stage: (
            names.Prefix("6f1c7a1e-2c4b", "", {WAREHOUSE: stage.backing.options["warehouse"]}),
        ),
        profile=_named,
    ),
    _made(
        "no-staged-create", "no table is begun in two steps", "S3 Tables",
        _fresh(lambda: names.NoStagedCreate(501)),
    ),
    _made(
        "no-staged-create-no-rename", "no table is begun in two steps, and none renamed", "Glue",
        lambda stage: (names.NoStagedCreate(406), names.NoRename()),
    ),
    _made(
        "empty-location", "a new table's location is empty, below the warehouse, apart",
        "Polaris, Lakekeeper", lambda stage: (stage.locations(),),
    ),
    ),
    "Commits": (
    *(
        _mode(
            f"no-multi-table-{status}", f"a commit of several tables is answered {status}", who,
            failing.NoMultiTable(status),
        )
        for status, who in (
            (400, "federated Polaris"), (404, "Glue"), (405, "Hive"), (501, "Unity")
        )
    ),
    _mode(
        "no-multi-table-listed", "a commit of several tables is not among the endpoints",
        "Glue, Polaris", failing.NoMultiTable(404, listed=True),
    ),
    _mode("small-bodies", "bodies of 2 MB at most", "Lakekeeper, gateways",
          failing.SmallBodies(2_000_000)),
    _made("slow", "answers late", "any", _fresh(lambda: failing.Slow(0.3))),
    ),
    "Answers that get lost or come late": (
    _made(
        "lost-answers", "500, 502, 503, 504 or nothing, after a change was made", "any",
        _fresh(lambda: failing.Sometimes(
            failing.failures(500, 0, 502, 503, 504), failing.is_change, every=3, landed=True)),
    ),
    _made(
        "conflict-after-landing", "409 for a commit of ours that was made", "any",
        _fresh(lambda: failing.Sometimes(failing.failures(409), failing.is_commit, every=3, landed=True)),
    ),
    _made(
        "busy", "429 and 503 with Retry-After", "any",
        lambda stage: (
            failing.Sometimes(failing.waits(503, 429), failing.is_commit, every=2, landed=False, most=6),
            failing.Sometimes(failing.waits(429, 503), failing.is_any, every=5, landed=False, most=6),
        ),
    ),
    _made(
        "expiring-tokens", "a token is good for a few requests", "with OAuth2",
        _fresh(lambda: failing.ExpiringTokens(7)),
    ),
    ),
    "Whole catalogs": (
    _made(
        "lakekeeper", "Lakekeeper 0.7 as it is installed", "Lakekeeper",
        lambda stage: _lakekeeper(stage, stage.signing()),
        profile=_named, on_s3=True, whole=True, base="/catalog", uri_has_base=False,
    ),
    _made(
        "lakekeeper-sts", "Lakekeeper 0.7 with an STS", "Lakekeeper",
        lambda stage: _lakekeeper(stage, stage.vending("config", "storage-credentials")),
        profile=lambda options: without_keys(_named(options)),
        on_s3=True, whole=True, base="/catalog", uri_has_base=False,
    ),
    _made(
        "polaris", "Polaris as it is installed", "Polaris", _polaris,
        profile=lambda options: without_keys(_named(options)),
        on_s3=True, whole=True, base="/api/catalog",
    ),
    _made(
        "nessie", "Nessie 0.99", "Nessie", _nessie, on_s3=True, whole=True, base="/iceberg",
    ),
    _made("glue", "AWS Glue", "Glue", _glue, levels=1, whole=True, base="/iceberg"),
    _made(
        "s3tables", "Amazon S3 Tables", "S3 Tables", _s3tables, profile=_without_endpoint,
        on_s3=True, levels=1, whole=True, base="/iceberg",
    ),
    _made(
        "unity", "Unity Catalog", "Unity", _unity, profile=without_keys, on_s3=True, levels=1,
        whole=True, base="/api/2.1/unity-catalog/iceberg-rest",
    ),
    ),
}  # fmt: skip

#: The modes, by name.
MODES = {mode.name: mode for modes in GROUPS.values() for mode in modes}


class ModedLake:
    """A lake server whose catalog answers in a mode; its storage is as it was.

    Tests that have the fixture ``lake`` run in the mode that ``SEEKNAL_CATALOG_MODE`` names.
    """

    def __init__(self, lake: LakeServer, catalog: ModedCatalog) -> None:
        self._lake, self._catalog = lake, catalog

    @property
    def uri(self) -> str:
        """Address of the catalog."""
        return self._catalog.uri

    def catalog_options(self) -> Options:
        """Return a user's profile."""
        return self._catalog.catalog_options()

    def direct_options(self) -> Options:
        """Return pyiceberg's properties that look past the mode."""
        return self._catalog.direct_options()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)


@contextlib.contextmanager
def moded_lake(lake: LakeServer, name: str, folder: Path) -> Iterator[LakeServer]:
    """Put a mode before a lake; ``NAME@seaweedfs`` before its own catalog."""
    mode, _, behind = name.partition("@")
    if behind == "seaweedfs":
        server: contextlib.AbstractContextManager[Backing] = seaweedfs_backing(lake)
    else:
        server = rest_backing(folder, lake, tokens=mode == "expiring-tokens")
    with server as backing, in_mode(mode, backing) as catalog:
        yield cast("LakeServer", ModedLake(lake, catalog))
