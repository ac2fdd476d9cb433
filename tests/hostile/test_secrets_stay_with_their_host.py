"""A node that says where to connect gets no secret of the profile's or the process's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cli import Cli, write
from support.distributions import install
from support.shop import PROJECT

#: A backend that describes no options: the core cannot know what its words mean.
UNDESCRIBED = """\
from pathlib import Path

from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import Connection, QualifiedName, WriteResult


@hookimpl
def resolve_profile(context, connection):
    Path("sent").write_text(repr(dict(connection.options)))
    return Connection(name=connection.name, type=connection.type)


@hookimpl
def namespace_for(context, target):
    return QualifiedName(parts=target.parts, quoted=".".join(target.parts))


@hookimpl
def materialize(context, target, snapshot):
    return WriteResult(rows_written=0, rows_after=0, version="1", created=False)


@hookimpl
def count_rows(context, target):
    return 0
"""

ELSEWHERE = "kind: source\nname: elsewhere\nsource: folder\ntable: a\nparams: {%s}\n"


def node(params: str) -> dict[str, str]:
    return {"seeknal/elsewhere.yml": ELSEWHERE % params}


@pytest.mark.parametrize(
    "params",
    [
        "connection: lake, path: /tmp/elsewhere",
        "path: /tmp/elsewhere",
        "connection: lake, fail_on: x",
        "connection: lake, password: mine",
        'connection: lake, path: \'{{ var("place", "/tmp/elsewhere") }}\'',
    ],
)
@pytest.mark.parametrize("command", ["check", "run", "env plan dev", "run --dry-run"])
def test_a_node_does_not_say_where_a_connection_leads(
    seeknal: Cli, project: Path, params: str, command: str
) -> None:
    write(project, node(params))
    said = seeknal(*command.split(), code=2).err
    assert "seeknal/elsewhere.yml" in said and "where to connect" in said
    assert "inline: true" in said and "profiles.yml" in said
    assert "s3cret-word" not in said


def test_the_line_that_a_refusal_prints_allows_it(seeknal: Cli, project: Path) -> None:
    write(project, node("connection: lake, path: ./other"))
    assert "connections.lake in profiles.yml" in seeknal("check", code=2).err
    profile = PROJECT["profiles.yml"]
    write(project, {"profiles.yml": profile.replace("}\n", ", inline: true}\n")})
    seeknal("check")
    write(project, {"profiles.yml": profile})
    seeknal("check", code=2)
    write(project, {"profiles.yml": profile + "source_defaults: {folder: {inline: true}}\n"})
    seeknal("check")


def test_options_that_say_what_is_read_need_no_permission(seeknal: Cli, project: Path) -> None:
    write(project, node("connection: lake, only: dev, exact: true, columns: [id]"))
    seeknal("check")


def test_the_profile_itself_may_say_more_in_source_defaults(seeknal: Cli, project: Path) -> None:
    defaults = "source_defaults: {folder: {connection: lake, path: ./other}}\n"
    write(project, {"profiles.yml": PROJECT["profiles.yml"] + defaults, **node("only: dev")})
    seeknal("check")
    write(project, node("path: ./third"))
    assert "where to connect" in seeknal("check", code=2).err


@pytest.mark.parametrize("inline", ["yes please", "[true]", "1"])
def test_a_permission_is_true_or_false(seeknal: Cli, project: Path, inline: str) -> None:
    profile = PROJECT["profiles.yml"].replace("}\n", f", inline: {inline}}}\n")
    write(project, {"profiles.yml": profile})
    assert "connections.lake.inline" in seeknal("check", code=2).err


def test_a_python_node_s_source_says_no_more(seeknal: Cli, project: Path) -> None:
    text = ELSEWHERE % "connection: lake, inline: true, path: /tmp/elsewhere"
    write(project, {"seeknal/elsewhere.yml": text})
    assert "inline" in seeknal("check", code=2).err


def test_a_backend_that_describes_nothing_gets_no_option_of_a_node(
    seeknal: Cli, project: Path, folder_site: Path
) -> None:
    install(
        folder_site,
        distribution="seeknal-vague",
        module="seeknal_vague",
        source=UNDESCRIBED,
        entry_points={"seeknal.backends": {"vague": "seeknal_vague"}},
    )
    profile = PROJECT["profiles.yml"] + "  vague: {type: vague, password: s3cret-word}\n"
    source = "kind: source\nname: v\nsource: vague\ntable: a\nparams: {connection: vague%s}\n"
    write(project, {"profiles.yml": profile, "seeknal/v.yml": source % ", server: evil"})
    assert "source.v.params.server" in seeknal("check", code=2).err
    assert not (project / "sent").exists()
    write(project, {"seeknal/v.yml": source % ""})
    seeknal("check")
    assert "s3cret-word" in (project / "sent").read_text()


def test_a_refusal_is_one_problem_of_its_file_in_json(seeknal: Cli, project: Path) -> None:
    write(project, node("connection: lake, path: /tmp/elsewhere"))
    said = json.loads(seeknal("run", "--json", code=2).out)
    (problem,) = said["error"]["problems"]
    assert problem["path"] == "source.elsewhere.params.path"
