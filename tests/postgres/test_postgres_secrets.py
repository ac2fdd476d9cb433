"""A node that names a server gets neither a connection's password nor the process's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from seeknal_core.project.inline import node_keys
from seeknal_core.structure import keys_of
from seeknal_postgres.connection.profile import PostgresOptions
from support.cli import Cli, write

PROFILE = """\
connections:
  warehouse: {{type: postgresql, host: 127.0.0.1, port: {port}, user: etl, password: s3cret-word{more}}}
"""
SOURCE = "kind: source\nname: o\nsource: {type}\ntable: public.o\nparams: {{{params}}}\n"
#: A value of each option's kind.
VALUES = {"port": "1", "embedded": "true", "allow_publication": "true", "sslmode": "disable"}


@attrs.frozen
class Stranger:
    """A listening socket that counts who comes."""

    socket: socket.socket

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def visitors(self) -> int:
        count = 0
        while True:
            try:
                self.socket.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.setblocking(False)
        yield Stranger(found)


@pytest.fixture
def seeknal(tmp_path: Path) -> Cli:
    write(
        tmp_path,
        {"seeknal_project.yml": "name: p\n", "profiles.yml": PROFILE.format(port=1, more="")},
    )
    home = {"HOME": str(tmp_path), "PGPASSWORD": "pr0cess-word", "PGCONNECT_TIMEOUT": "2"}
    return Cli(cwd=tmp_path, environ=home, warm=True)


def test_every_option_that_says_where_to_connect_is_refused_in_a_node(
    seeknal: Cli, tmp_path: Path
) -> None:
    where = [key for key in keys_of(PostgresOptions) if key not in node_keys(PostgresOptions)]
    assert {"host", "port", "url", "service", "options", "sslmode", "user", "database"} < set(where)
    nodes = []
    for number, key in enumerate(where):
        params = f"connection: warehouse, {key}: {VALUES.get(key, 'x')}"
        text = SOURCE.format(type="postgres", params=params)
        nodes.append(text.replace("name: o", f"name: o{number}"))
    write(tmp_path, {"seeknal/o.yml": "---\n".join(nodes)})
    said = seeknal("check", code=2).err
    for number, key in enumerate(where):
        assert f"source.o{number}.params.{key}: says where to connect" in said
    assert "s3cret-word" not in said


@pytest.mark.parametrize("type", ["postgres", "postgresql"])
@pytest.mark.parametrize(
    "params",
    [
        "connection: warehouse, host: 127.0.0.1, port: {port}, sslmode: disable",
        "host: 127.0.0.1, port: {port}, user: x, database: x",
        "url: 'postgresql://x@127.0.0.1:{port}/x'",
        "connection: warehouse, url: 'postgresql://127.0.0.1:{port}/x'",
        'connection: warehouse, host: \'{{{{ var("h", "127.0.0.1") }}}}\', port: {port}',
        "connection: warehouse, hostaddr: 127.0.0.1, port: {port}",
    ],
)
def test_no_password_goes_to_a_server_that_a_node_names(
    seeknal: Cli, tmp_path: Path, stranger: Stranger, type: str, params: str
) -> None:
    write(
        tmp_path,
        {"seeknal/o.yml": SOURCE.format(type=type, params=params.format(port=stranger.port))},
    )
    for command in (("run",), ("env", "plan", "dev"), ("run", "--env", "dev")):
        assert "where to connect" in seeknal(*command, code=2).err
    assert stranger.visitors() == 0


def test_a_python_node_names_no_server_beside_a_connection(
    seeknal: Cli, tmp_path: Path, stranger: Stranger
) -> None:
    params = f"{{'connection': 'warehouse', 'host': '127.0.0.1', 'port': {stranger.port}}}"
    text = (
        "from seeknal_core.pipeline import source\n"
        f"@source(name='o', type='postgresql', table='public.o', params={params})\n"
        "def o(ctx):\n    return None\n"
    )
    write(tmp_path, {"seeknal/o.py": text})
    seeknal("run", code=None)
    assert stranger.visitors() == 0


def test_a_target_names_no_server(seeknal: Cli, tmp_path: Path, stranger: Stranger) -> None:
    text = (
        "kind: transform\nname: t\ntransform: SELECT 1 AS a\nmaterialization: "
        f"{{type: postgresql, connection: warehouse, table: t, host: 127.0.0.1, port: {stranger.port}}}\n"
    )
    write(tmp_path, {"seeknal/t.yml": text})
    assert "host" in seeknal("run", code=2).err
    assert stranger.visitors() == 0


@pytest.mark.parametrize("where", ["connection", "type"])
def test_a_profile_may_let_nodes_say_where(
    seeknal: Cli, tmp_path: Path, stranger: Stranger, where: str
) -> None:
    more, defaults = ", inline: true", ""
    if where == "type":
        more, defaults = "", "source_defaults: {postgres: {inline: true}}\n"
    params = f"connection: warehouse, port: {stranger.port}, connect_timeout: 1"
    write(
        tmp_path,
        {
            "profiles.yml": PROFILE.format(port=1, more=more) + defaults,
            "seeknal/o.yml": SOURCE.format(type="postgres", params=params),
        },
    )
    seeknal("check")
    seeknal("run", code=1)
    assert stranger.visitors()


def test_what_is_read_and_how_may_stand_in_a_node(seeknal: Cli, tmp_path: Path) -> None:
    params = (
        "connection: warehouse, query: 'SELECT 1 AS a', columns: [a], row_security: true, "
        "schema: raw, connect_timeout: 3, lock_wait: 3, silence_timeout: 3, application_name: a"
    )
    write(tmp_path, {"seeknal/o.yml": SOURCE.format(type="postgres", params=params)})
    seeknal("check")


@pytest.mark.parametrize("option", ["sslkey: 'pkcs11:id'", "url: 'postgresql://h/d?sslkey=e:k'"])
def test_a_key_is_a_file_and_no_engine(seeknal: Cli, tmp_path: Path, option: str) -> None:
    """A colon makes libpq take it for an engine of OpenSSL's, which it loads."""
    profile = f"connections:\n  warehouse: {{type: postgresql, user: u, {option}}}\n"
    source = SOURCE.format(type="postgresql", params="connection: warehouse")
    write(tmp_path, {"profiles.yml": profile, "seeknal/o.yml": source})
    assert "names an engine of OpenSSL's" in seeknal("check", code=2).err
