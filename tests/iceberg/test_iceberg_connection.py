"""Resolving a profile's connection: types, secrets, what may be shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from seeknal_core.errors import OptionError
from seeknal_core.types import ConnectionSpec, Secret
from seeknal_iceberg import plugin
from seeknal_iceberg.connection.catalog import properties_of
from seeknal_iceberg.connection.profile import IcebergConnection
from support.contexts import make_context

REST = {
    "type": "rest",
    "uri": "https://robot:hunter2@catalog.example/api",
    "warehouse": "s3://lake/",
    "bearer_token": "tok-12345",
    "credential": "client:s3cret",
    "s3.secret-access-key": "aws-secret-value",
    "s3.session-token": "aws-session-value",
    "s3.endpoint": "http://s3.example",
    "s3": {"region": "eu-west-1"},
    "verify_tls": False,
}


def resolve(**options: object) -> IcebergConnection:
    return resolved(options)


def resolved(options: Mapping[str, object], root: Path | str = "/project") -> IcebergConnection:
    spec = ConnectionSpec(name="lake", type="iceberg", options=options)
    made = plugin.resolve_profile(make_context(root=root), spec)
    assert isinstance(made, IcebergConnection)
    return made


def problems(**options: object) -> dict[str, str]:
    with pytest.raises(OptionError) as caught:
        resolve(**options)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_warehouse_alone_is_an_embedded_catalog_below_the_project() -> None:
    connection = resolve(warehouse="./warehouse")
    assert connection.sqlite_file == "/project/warehouse/catalog.db"
    assert connection.describe() == {
        "type": "iceberg",
        "catalog": "embedded",
        "warehouse": "/project/warehouse",
    }


def test_resolving_touches_no_file(tmp_path: Path) -> None:
    resolved({"warehouse": "./warehouse"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_secret_is_shown_anywhere() -> None:
    connection = resolve(catalog=REST)
    shown = repr(connection) + str(connection.describe()) + str(connection.bindings())
    for secret in ("hunter2", "tok-12345", "s3cret", "aws-secret-value", "aws-session-value"):
        assert secret not in shown
    assert connection.uri == "https://catalog.example/api"
    held = dict(connection.properties)
    for key in ("token", "credential", "s3.secret-access-key", "s3.session-token", "uri"):
        assert isinstance(held[key], Secret), key


def test_pyiceberg_gets_its_properties_with_the_secrets_in_them() -> None:
    given = properties_of(resolve(catalog=REST))
    assert given["token"] == "tok-12345"
    assert given["s3.endpoint"] == "http://s3.example"
    assert given["s3.region"] == "eu-west-1"
    assert given["uri"] == REST["uri"]
    assert given["ssl"] == {"cabundle": False}
    assert "verify_tls" not in given
    assert "bearer_token" not in given


def test_bindings_say_where_and_not_who() -> None:
    connection = resolve(catalog=REST)
    other = resolve(catalog={**REST, "bearer_token": "another", "s3.endpoint": "http://other"})
    assert connection.bindings() == other.bindings()
    assert connection.bindings() != resolve(catalog={**REST, "warehouse": "b"}).bindings()


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("http://c", "rest"),
        ("https://c", "rest"),
        ("sqlite:///c.db", "sql"),
        ("postgresql+psycopg://u@h/d", "sql"),
        ("thrift://h:9083", "hive"),
    ],
)
def test_the_catalogs_type_follows_from_its_uri(uri: str, kind: str) -> None:
    assert resolve(catalog={"uri": uri}).catalog_type == kind


def test_a_relative_sqlite_catalog_lies_below_the_project() -> None:
    connection = resolve(catalog={"type": "sql", "uri": "sqlite:///cat.db", "warehouse": "wh"})
    assert connection.sqlite_file == "/project/cat.db"
    assert dict(connection.properties)["warehouse"] == "file:///project/wh"


def test_the_short_form_of_older_projects_is_a_rest_catalog() -> None:
    connection = resolve(catalog_uri="http://c:8181", warehouse="s3://w")
    assert (connection.catalog_type, connection.warehouse) == ("rest", "s3://w")


def test_mistakes_are_named_with_their_path() -> None:
    assert "neither a warehouse nor a catalog" in problems()[""]
    assert "needs a catalog" in problems(warehouse="s3://bucket/x")["warehouse"]
    assert "is no catalog" in problems(catalog={"type": "rst", "uri": "http://c"})["catalog.type"]
    assert "needs a uri" in problems(catalog={"type": "rest"})["catalog.uri"]
    assert "list" in problems(catalog={"uri": "http://c", "scope": ["a"]})["catalog.scope"]
    assert "has no type" in problems(catalog={"warehouse": "w"})["catalog"]


@pytest.mark.parametrize("uri", ["c:8181/catalog", "htp://c:8181", "http://", "//c:8181", "/c"])
def test_an_address_that_is_none_of_http_is_a_mistake(uri: str) -> None:
    assert "no address" in problems(catalog={"type": "rest", "uri": uri})["catalog.uri"]
    with pytest.raises(OptionError) as caught:
        resolve(catalog={"uri": uri, **({"type": "rest"} if uri.startswith("http") else {})})
    assert "http:// or https://" in caught.value.problems[0].hint


def test_an_address_in_capitals_is_one() -> None:
    assert resolve(catalog={"type": "rest", "uri": "HTTPS://c:8181"}).uri == "HTTPS://c:8181"


@pytest.mark.parametrize("option", ["uri", "token", "s3.endpoint", "credential", "header.x"])
def test_a_property_beside_the_catalog_is_told_where_it_belongs(option: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve(warehouse="shop", **{option: "x"})
    assert caught.value.problems[0].hint == f"write it into catalog: {{{option}: ...}}"


def test_an_unknown_option_is_a_mistake_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match="warehouse"):
        resolve(warehause="./w")


def test_importing_the_plugin_imports_neither_pyiceberg_nor_pyarrow() -> None:
    code = (
        "import sys, seeknal_iceberg.plugin;"
        "print([m for m in ('pyiceberg', 'pyarrow', 'requests', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
