"""Reading decorators by parsing: what running the file would say, or that it has to run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from seeknal_core.contract.errors import Problem
from seeknal_core.graph import build_graph
from seeknal_core.project import load_project
from seeknal_core.project.python.code import Modules
from seeknal_core.project.python.importing import activate, import_file
from seeknal_core.project.python.nodes import load_python_nodes
from seeknal_core.project.python.written import Computed, Written, plain, read_written
from seeknal_core.project.trust import Trust

HEAD = "from seeknal_core.pipeline import source, transform, materialize\n"
FILES = {
    "common/making.py": "from seeknal_core.pipeline import transform as node\n",
    "common/using.py": "from common.making import node\nX = 1\n",
    "common/text.py": "def tidy(f): return f\nX = 1\n",
}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave neither paths nor modules of a test's project behind."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("common", "_seeknal_node")):
            del sys.modules[name]


def project(root: Path, text: str) -> Path:
    for name, content in {**FILES, "nodes.py": dedent(text)}.items():
        file = root / "seeknal" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root / "seeknal" / "nodes.py"


def by_running(root: Path, file: Path) -> list[object]:
    activate(root)
    found = import_file(root, file, "_seeknal_node_file_x")
    assert not isinstance(found, Problem), found
    return [
        (
            one.function.__name__,
            one.function.__qualname__,
            [(kind, plain(use.options), use.line) for kind, use in one.kinds],
            [(plain(use.options), use.line) for use in one.targets],
        )
        for one in found
    ]


def as_listed(written: Written) -> object:
    return (
        written.name,
        written.qualname,
        [(kind, use.options, use.line) for kind, use in written.kinds],
        [(use.options, use.line) for use in written.targets],
    )


WRITTEN_OUT = [
    "@source\ndef a(ctx): ...",
    "@transform()\ndef a(ctx): ...\n@transform()\ndef b(ctx): ...",
    "@transform(\n    name='n',\n    inputs=['source.x', *['source.y']],\n)\ndef a(ctx): ...",
    "@materialize(type='t', table='a')\n@transform(tags=('x',))\n@materialize(table='b')\n"
    "def a(ctx): ...",
    "@source\n@transform\ndef a(ctx): ...",
    "@transform(columns={'a': {'dtype': 'integer'}, **{'b': None}}, contract=True)\n"
    "def a(ctx): ...",
    "@transform(audits=[{'type': 'row_count', 'min': -1, 'max': 1_000}], **{'owner': 'me'})\n"
    "def a(ctx): ...",
    "SCHEMA = 'gold'\nDAY: str = '2024'\n@materialize(table=f'{SCHEMA}.t' + '_' + DAY)\n"
    "@source()\ndef a(ctx): ...",
    "INPUTS = ['source.a']\n@transform(inputs=INPUTS + ['source.b'])\n"
    "def a(ctx):\n    return INPUTS[0]",
    "import seeknal_core.pipeline as p\n@p.transform(name='x')\ndef a(ctx): ...",
    "import seeknal_core.pipeline\n@seeknal_core.pipeline.transform(name='x')\ndef a(ctx): ...",
    "from seeknal_core import pipeline\n@pipeline.source\ndef a(ctx): ...",
    "from seeknal_core.pipeline import *\n@source\ndef a(ctx): ...",
    "import functools\n@functools.lru_cache(maxsize=None)\n@transform()\ndef a(ctx): ...",
    "import functools, contextlib\n@functools.cache\ndef help(): ...\n@source\ndef a(ctx): ...",
    "from common.text import tidy\n@source\ndef a(ctx):\n    return tidy(1)",
    "from common.using import X\n@source\ndef a(ctx): ...\ndef b():\n    return X",
    "@source\ndef a(ctx):\n    source = ctx.ref('x')\n    return source\n",
    "def help(transform, *materialize, **source):\n    return transform\n@source\ndef a(ctx): ...",
    "@source\ndef a(ctx):\n    return (lambda source: source)(1)",
    "@source\nasync def a(ctx): ...",
    "try:\n    import pandas_that_is_not\nexcept ImportError:\n    pass\n@source\ndef a(ctx): ...",
]


@pytest.mark.parametrize("text", WRITTEN_OUT)
def test_what_is_written_out_is_read_as_running_it_would_say(tmp_path: Path, text: str) -> None:
    file = project(tmp_path, HEAD + text)
    read = read_written(file, Modules(tmp_path), strict=True)
    assert [as_listed(each) for each in read] == by_running(tmp_path, file)
    assert [as_listed(each) for each in read] == [
        as_listed(each) for each in read_written(file, Modules(tmp_path), strict=False)
    ]


COMPUTED = [
    "for n in 'ab':\n    @transform(name=n)\n    def f(ctx): ...",
    "if True:\n    @transform()\n    def f(ctx): ...",
    "def make(n):\n    return transform(name=n)(lambda ctx: 1)\nmake('a')",
    "t = transform\n@t(name='a')\ndef f(ctx): ...",
    "import os\n@transform(name=os.environ.get('N', 'n'))\ndef f(ctx): ...",
    "NAMES = []\nNAMES.append('source.x')\n@transform(inputs=NAMES)\ndef f(ctx): ...",
    "NAMES = {}\nNAMES['name'] = 'x'\n@transform(**NAMES)\ndef f(ctx): ...",
    "NAMES = []\ndef fill(x): x.append('source.x')\nfill(NAMES)\n@transform(inputs=NAMES)\n"
    "def f(ctx): ...",
    "N = 'a'\nN = 'b'\n@transform(name=N)\ndef f(ctx): ...",
    "N = 'a'\ndef g():\n    global N\n    N = 'b'\ng()\n@transform(name=N)\ndef f(ctx): ...",
    "from common.text import X\n@transform(name=f'n{X}')\ndef f(ctx): ...",
    "from common.making import node\n@node(name='a')\ndef f(ctx): ...",
    "from common.using import node\n@node(name='a')\ndef f(ctx): ...",
    "from common import making\ndef f(ctx): ...\nmaking.node(name='a')(f)",
    "import common.making\n@common.making.node(name='a')\ndef f(ctx): ...",
    "from common.text import tidy\n@transform()\n@tidy\ndef f(ctx): ...",
    "def deco(f):\n    def wrapper(ctx): ...\n    return wrapper\n@transform()\n@deco\ndef f(ctx): ...",
    "import functools\n@transform()\n@functools.wraps(print)\ndef f(ctx): ...",
    "def transform(f):\n    return f\n@transform\ndef f(ctx): ...",
    "class A:\n    @staticmethod\n    @transform()\n    def f(ctx): ...",
    "try:\n    from seeknal_core.pipeline import transform as t\nexcept ImportError:\n    pass\n"
    "@t()\ndef f(ctx): ...",
    "from common.text import *\n@source\ndef f(ctx): ...",
]


@pytest.mark.parametrize("text", COMPUTED)
def test_what_is_computed_is_left_to_running_the_file(tmp_path: Path, text: str) -> None:
    file = project(tmp_path, HEAD + text)
    with pytest.raises(Computed):
        read_written(file, Modules(tmp_path), strict=True)


def test_a_decorator_of_an_installed_package_may_make_nodes(tmp_path: Path) -> None:
    text = "import attrs\n@attrs.define\ndef f(ctx): ...\n"
    file = project(tmp_path, text)
    with pytest.raises(Computed):
        read_written(file, Modules(tmp_path), strict=True)
    assert read_written(file, Modules(tmp_path), strict=False) == []


def test_a_child_process_says_what_computed_decorators_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2-very-secret")
    text = """
    import os, sys
    from pathlib import Path
    from seeknal_core.pipeline import materialize, transform
    from common.text import X
    print("said on importing")
    for n in ("a", "b"):
        @transform(name=f"{n}{X}", description=str(sorted(set(os.environ) - {"LC_CTYPE"})),
                   tags={"y", "x"}, owner=str(os.listdir(Path.home())))
        @materialize(type="t", table=n)
        def make(ctx, n=n):
            return n
    """
    file = project(tmp_path, text)
    loaded = load_python_nodes(tmp_path, [file], Trust())
    assert loaded.problems == ()
    first, second = loaded.nodes
    assert (first.id, second.id) == ("transform.a1", "transform.b1")
    assert "PGPASSWORD" not in first.description
    assert first.owner == "[]"
    assert first.tags == ("x", "y")
    assert first.targets[0].table == "a"
    assert "def make(ctx, n=n):" in first.text
    assert "_seeknal_node_file_0_nodes" not in sys.modules
    # What the process itself imports must say the same; here the variables differ.
    with pytest.raises(Exception, match="its decorators say something else when it is imported"):
        first.load()


def test_the_function_of_a_computed_node_is_the_one_that_was_meant(tmp_path: Path) -> None:
    text = """
    from seeknal_core.pipeline import transform
    for n in ("a", "b"):
        @transform(name=n)
        def make(ctx, n=n):
            return n
    """
    loaded = load_python_nodes(tmp_path, [project(tmp_path, text)], Trust())
    assert [node.load()(None) for node in loaded.nodes] == ["a", "b"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os._exit(7)", "seeknal/nodes.py: the process that imports them"),
        ("os.kill(os.getpid(), 9)", "ended with SIGKILL"),
        ("os.environ['TOKEN']", "seeknal/nodes.py:3: KeyError: 'TOKEN'; write out what its"),
        ("1 / 0", "seeknal/nodes.py:3: ZeroDivisionError"),
        ("transform(name=object())(lambda ctx: 1)", "is no plain value"),
    ],
)
def test_a_file_that_cannot_be_asked_is_named(tmp_path: Path, code: str, said: str) -> None:
    text = f"import os\nfrom seeknal_core.pipeline import transform\n{code}\ntransform\n"
    loaded = load_python_nodes(tmp_path, [project(tmp_path, text)], Trust())
    (problem,) = loaded.problems
    assert said in str(problem)


def test_a_file_that_takes_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seeknal_core.project.python.asked.LIMIT", 1.0)
    text = (
        "import subprocess, sys\nfrom seeknal_core.pipeline import transform\ntransform\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    )
    loaded = load_python_nodes(tmp_path, [project(tmp_path, text)], Trust())
    (problem,) = loaded.problems
    assert "took more than 1 s" in str(problem)


def test_without_python_computed_decorators_are_refused_at_their_line(tmp_path: Path) -> None:
    file = project(tmp_path, "import os\n" + HEAD + "@source(name=os.getcwd())\ndef a(ctx): ...")
    loaded = load_python_nodes(tmp_path, [file], Trust(no_python=True))
    (problem,) = loaded.problems
    assert str(problem) == (
        "seeknal/nodes.py:3: the decorator's arguments are computed, so only running the file"
        " tells its nodes, and with --no-python (SEEKNAL_NO_PYTHON=1) no Python of the project"
        " runs; write out what the decorators are given"
    )


def test_the_source_text_is_that_of_inspect(tmp_path: Path) -> None:
    import inspect

    text = HEAD + (
        "X = 1\n\n@transform(\n  name='n',\n)\n@materialize(table='t')\n# a comment\n"
        "def a(ctx):\n    '''doc\n  string'''\n    return 1\n    # trailing\n\nY = 2\n"
    )
    file = project(tmp_path, text)
    (read,) = read_written(file, Modules(tmp_path), strict=True)
    activate(tmp_path)
    found = import_file(tmp_path, file, "_seeknal_node_file_x")
    assert isinstance(found, list)
    assert read.text == inspect.getsource(found[0].function)


def _timed(tmp_path: Path, text: str) -> float:
    file = project(tmp_path, HEAD + text)
    started = time.process_time()
    load_python_nodes(tmp_path, [file], Trust(no_python=True))
    return time.process_time() - started


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("", "a{} = []\n"),
        ("", "@transform(name='n{}')\ndef f{}(ctx): ...\n"),
        ("", "import common.text\n"),
        ("", "from common.making import node as n{}\n"),
        ("f = print\n", "f(f, a, [f, 1, {}])\n"),
        ("", "def g{}():\n    def h(): return a\n"),
    ],
)
def test_reading_takes_time_in_proportion_to_the_size(tmp_path: Path, head: str, line: str) -> None:
    def took(count: int) -> float:
        text = head + "".join(line.replace("{}", str(n)) for n in range(count))
        return min(_timed(tmp_path, text) for _ in range(2))

    took(10)
    assert took(2400) < 10 * max(took(600), 0.02)


@pytest.mark.parametrize(
    "text",
    [
        "A0 = 'xxxxxxxxxx'\n" + "".join(f"A{n + 1} = A{n} + A{n}\n" for n in range(80)),
        "A0 = ('x',)\n" + "".join(f"A{n + 1} = (A{n}, A{n})\n" for n in range(80)),
        "A0 = ['x']\n" + "".join(f"A{n + 1} = [*A{n}, *A{n}]\n" for n in range(80)),
        "A0 = 'x'\n" + "".join(f"A{n + 1} = f'{{A{n}}}{{A{n}}}'\n" for n in range(80)),
    ],
)
def test_names_of_names_do_not_grow_without_end(tmp_path: Path, text: str) -> None:
    text += "@transform(description=A80)\ndef f(ctx): ...\n"
    assert _timed(tmp_path, text) < 5


def test_code_that_is_nested_too_deeply_is_one_sentence(tmp_path: Path) -> None:
    deep = "1" + " + 1" * 20_000
    for text in (f"x = {deep}\n@source\ndef a(ctx): ...", f"@source(name={deep})\ndef a(ctx): ..."):
        loaded = load_python_nodes(tmp_path, [project(tmp_path, HEAD + text)], Trust())
        assert [str(each) for each in loaded.problems] == [
            "seeknal/nodes.py: is nested too deeply to be read"
        ]


def test_definitions_are_those_of_the_versions_that_imported_the_files(tmp_path: Path) -> None:
    """Made by the last version that did: whoever upgrades computes nothing again."""
    files = {
        "seeknal_project.yml": "name: shop\n",
        "seeknal/common/text.py": "RATE = 2\n",
        "seeknal/orders.yml": "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n",
        "seeknal/nodes.py": (
            "from common.text import RATE\nfrom seeknal_core.pipeline import source, transform\n\n"
            "@transform(name='clean', inputs=['source.orders'], columns={'id': 'x'})\n"
            "def tidy(ctx):\n    return ctx.sql('SELECT 1')\n\n"
            "@source()\ndef fixed(ctx):\n    return RATE\n"
        ),
        "seeknal/many.py": (
            "from seeknal_core.pipeline import transform\nfor n in ('a',):\n"
            "    @transform(name=f'copy_{n}', inputs=['transform.clean'])\n    def copy(ctx): ...\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = build_graph(load_project(tmp_path).nodes, vars={})
    assert {id: found[:16] for id, found in graph.definitions.items()} == {
        "source.fixed": "e6a2157b01030ed6",
        "source.orders": "40d32bf8e7f27cd1",
        "transform.clean": "efadff48b992cbb4",
        "transform.copy_a": "7c064899d353622a",
    }
