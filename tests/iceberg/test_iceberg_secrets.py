"""A node that names a catalog or a store gets no credential of the profile's."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Cli, write

PROFILE = """\
connections:
  lake:
    type: iceberg
    catalog: {type: rest, uri: 'http://127.0.0.1:1', warehouse: w, credential: 'id:s3cret-word'}
"""
SOURCE = "kind: source\nname: o\nsource: iceberg\ntable: lake.raw.o\nparams: {%s}\n"


@pytest.fixture
def seeknal(tmp_path: Path) -> Cli:
    write(tmp_path, {"seeknal_project.yml": "name: p\n", "profiles.yml": PROFILE})
    return Cli(cwd=tmp_path, environ={"HOME": str(tmp_path)}, warm=True)


@pytest.mark.parametrize(
    "params",
    [
        "connection: lake, catalog_uri: 'http://127.0.0.1:1'",
        "connection: lake, warehouse: elsewhere",
        "connection: lake, catalog: {type: rest, uri: 'http://127.0.0.1:1'}",
        "catalog: {type: rest, uri: 'http://127.0.0.1:1', s3.endpoint: 'http://127.0.0.1:1'}",
        "catalog: {type: rest, uri: 'http://x', oauth2-server-uri: 'http://127.0.0.1:1'}",
        "catalog_uri: 'http://127.0.0.1:1', warehouse: w",
        "warehouse: ./elsewhere",
        "connection: lake, purge: true",
    ],
)
def test_a_source_names_no_catalog_beside_the_profile(
    seeknal: Cli, tmp_path: Path, params: str
) -> None:
    write(tmp_path, {"seeknal/o.yml": SOURCE % params})
    said = seeknal("check", code=2).err
    assert "where to connect" in said and "inline: true" in said and "s3cret" not in said


def test_dotted_properties_are_not_the_node_s_to_say(seeknal: Cli, tmp_path: Path) -> None:
    write(tmp_path, {"seeknal/o.yml": SOURCE % "connection: lake, s3.endpoint: 'http://evil'"})
    assert "source.o.params.s3.endpoint" in seeknal("check", code=2).err


def test_what_is_read_may_stand_in_a_node(seeknal: Cli, tmp_path: Path) -> None:
    write(tmp_path, {"seeknal/o.yml": SOURCE % "filter: 'a > 1', tag: x, columns: [a]"})
    seeknal("check")


def test_the_catalog_of_an_older_profile_may_let_nodes_say_where(
    seeknal: Cli, tmp_path: Path
) -> None:
    older = "materialization:\n  catalog: {type: rest, uri: 'http://127.0.0.1:1'%s}\n"
    write(tmp_path, {"profiles.yml": older % "", "seeknal/o.yml": SOURCE % "warehouse: w"})
    assert "materialization.catalog" not in seeknal("check", code=2).out
    write(tmp_path, {"seeknal/o.yml": SOURCE % "connection: materialization.catalog, warehouse: w"})
    assert "write them into materialization.catalog in profiles.yml" in seeknal("check", code=2).err
    write(tmp_path, {"profiles.yml": older % ", inline: true"})
    seeknal("check")
