"""The files of a project: settings, profiles, nodes, whole folders."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from fuzz.target import Run, Target, environment_kept, parts
from seeknal_core.files.cache import Cache
from seeknal_core.plan.check import check_project
from seeknal_core.project import load_env_file, load_profile, load_project, load_settings
from seeknal_core.project.documents import NodeFiles, NodeReader
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.parsed import Unpackable, pack, unpack
from seeknal_core.project.profiles import ProfileChoice
from seeknal_core.project.python.nodes import load_python_nodes
from seeknal_core.project.specs import ProjectSettings, SqlNode
from seeknal_core.project.trust import Trust
from seeknal_core.workspace.session import Request, open_session
from support.cli import write

_YAML = (
    "kind: ", "name: ", "source", "transform", "table: ", "params:", "schema:", "columns:",
    "audits:", "materialization:", "mode: ", "type: ", "- ", "? ", "<<: *", "&a ", "*a", "!!int ",
    "!!timestamp ", "!!binary ", "---\n", "|\n", ">-\n", "{", "[", "\t", ".inf", ".nan", "0x_",
    "1e9", "9:9:9", "2001-12-14t21:59:43.10-05:00", "{{ var('a') }}", "${A:-b}", "~",
)  # fmt: skip
#: No Python of an input runs.
_TRUST = Trust(no_python=True)


def _read(path: Path, **files: tuple[Path, ...]) -> NodeReader:
    collector = Collector()
    reader = NodeReader(path, collector, Cache(), ignore_unsupported=False)
    reader.read(NodeFiles(**{"yaml": (), "sql": (), "python": (), **files}))
    collector.check()
    with contextlib.suppress(Unpackable):
        assert unpack(json.loads(json.dumps(pack(reader.nodes)))) == reader.nodes
    return reader


@contextlib.contextmanager
def _project_file(folder: Path) -> Iterator[Run]:
    def run(data: bytes) -> None:
        (folder / "seeknal_project.yml").write_bytes(data)
        load_settings(folder, _TRUST)

    yield run


@contextlib.contextmanager
def _profile(folder: Path) -> Iterator[Run]:
    settings = ProjectSettings(name="p", root=str(folder))
    path = folder / "profiles.yml"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        load_profile(ProfileChoice(path=path, reason=""), settings, {"A": "a", "N": "5432"})

    yield run


@contextlib.contextmanager
def _node(folder: Path) -> Iterator[Run]:
    path = folder / "seeknal" / "node.yml"
    path.parent.mkdir()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        _read(folder, yaml=(path,))

    yield run


@contextlib.contextmanager
def _sql_file(folder: Path) -> Iterator[Run]:
    path = folder / "seeknal" / "node.sql"
    path.parent.mkdir()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        for node in _read(folder, sql=(path,)).nodes:
            if isinstance(node, SqlNode):
                lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
                place = node.sql_location
                rest = [lines[place.line - 1][place.column - 1 :], *lines[place.line :]]
                assert "\n".join(rest) == node.sql

    yield run


@contextlib.contextmanager
def _dotenv(folder: Path) -> Iterator[Run]:
    def run(data: bytes) -> None:
        (folder / ".env").write_bytes(data)
        with environment_kept():
            load_env_file(folder)

    yield run


@contextlib.contextmanager
def _python(folder: Path) -> Iterator[Run]:
    path = folder / "seeknal" / "node.py"
    path.parent.mkdir()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        for problem in load_python_nodes(folder, [path], _TRUST).problems:
            assert problem.message

    yield run


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[Run]:
    home = folder / "home"
    root = folder / "project"

    def run(data: bytes) -> None:
        shutil.rmtree(root, ignore_errors=True)
        write(root, {"seeknal_project.yml": "name: p\n", "profiles.yml": "{}\n"})
        write(root, {"seeknal/orders.yml": _ORDERS, "data/orders.csv": "id,day\n1,2026-01-02\n"})
        for name, content in zip(
            ("node.yml", "node.sql", "node.py", "../seeknal_project.yml"),
            parts(data, 4),
            strict=True,
        ):
            if content:
                (root / "seeknal" / name).write_bytes(content)
        home.mkdir(exist_ok=True)
        request = Request(project_dir=str(root), trust=_TRUST)
        with environment_kept(), open_session(request) as session:
            check_project(session)
        load_project(root, trust=_TRUST)

    yield run


_ORDERS = (
    "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
    "schema:\n  - {name: id, data_type: integer}\n  - {name: day, data_type: date}\n"
)
_PYTHON = (
    "from seeknal_core.pipeline import source, transform, materialize\n", "@source(name='a')\n",
    "@transform(name='t', inputs=['source.a'])\n", "def f(ctx):\n    return None\n", "async ", "lambda:",
    "f'{x}'", "match x:\n case ", "class A:\n", "global ", "*a, **b", ":=", "import ", "b''",
)  # fmt: skip

TARGETS = (
    Target(name="project_file", open=_project_file, words=_YAML),
    Target(name="profile", open=_profile, words=_YAML),
    Target(name="node", open=_node, words=_YAML),
    Target(
        name="sql_file",
        open=_sql_file,
        words=("/*---", "---*/", "---", "*/", "yaml", "\r\n", *_YAML),
    ),
    Target(
        name="dotenv", open=_dotenv, words=("export ", "${A:-", "}", "PGHOST=", "'", '"', "\\n")
    ),
    Target(name="python_nodes", open=_python, words=_PYTHON),
    Target(name="folder", open=_folder, seconds=10, words=("\n=====\n", *_YAML, *_PYTHON)),
)
