"""Python nodes: decorators and loading."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import attrs
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.types import Mode, Secret
from seeknal_core.graph.fingerprints import definition
from seeknal_core.pipeline import materialize, transform
from seeknal_core.project.python.nodes import PythonLoad, load_python_nodes
from seeknal_core.project.specs import PythonNode
from seeknal_core.project.trust import Trust

HEAD = "from seeknal_core.pipeline import source, transform, materialize\n"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave neither paths nor modules of a test's project behind."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith(("common", "seeknal.", "_seeknal_node", "lib")) or name == "seeknal":
            del sys.modules[name]


def write(root: Path, name: str, text: str, *, head: str = HEAD) -> Path:
    file = root / "seeknal" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(head + dedent(text))
    return file


def load(root: Path, text: str, **others: str) -> PythonLoad:
    for name, content in others.items():
        write(root, name.replace("__", "/") + ".py", content, head="")
    return load_python_nodes(root, [write(root, "nodes.py", text)], Trust())


def node(root: Path, text: str, **others: str) -> PythonNode:
    loaded = load(root, text, **others)
    assert loaded.problems == ()
    (found,) = loaded.nodes
    return found


def problems(root: Path, text: str, **others: str) -> list[str]:
    loaded = load(root, text, **others)
    return [str(problem) for problem in loaded.problems]


def test_a_function_becomes_a_node_and_stays_a_function(tmp_path: Path) -> None:
    found = node(
        tmp_path,
        """
        @transform(name="clean", inputs=["source.users"], tags=("silver",), owner="me",
                   columns={"id": {"dtype": "integer"}}, contract=True,
                   audits=[{"type": "not_null", "columns": ["id"]}])
        def f(ctx):
            return 42
        """,
    )
    assert (found.id, found.inputs, found.tags, found.owner) == (
        "transform.clean", ("source.users",), ("silver",), "me",
    )  # fmt: skip
    assert [(c.name, c.dtype) for c in found.columns] == [("id", "integer")]
    assert found.audits[0].columns == ("id",)
    assert found.contract
    assert found.load()(None) == 42
    assert (found.location.file, found.location.line) == ("seeknal/nodes.py", 3)


def test_the_name_is_the_functions_own_where_none_is_given(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        """
        @source
        def users(ctx): ...
        @transform()
        def clean(ctx): ...
        """,
    )
    assert [each.id for each in loaded.nodes] == ["source.users", "transform.clean"]


def test_targets_stand_above_or_below_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = node(
        tmp_path,
        """
        @materialize(type="one", table="a.b", mode="upsert", unique_keys=["id"], fancy=1)
        @transform()
        @materialize(type="two", connection="w", table="c")
        def clean(ctx): ...
        """,
    )
    first, second = found.targets
    assert (first.type, first.mode, first.unique_keys) == ("one", Mode.UPSERT_BY_KEY, ("id",))
    assert (first.node, first.options) == ("transform.clean", {"fancy": 1})
    assert (second.type, second.connection, second.table) == ("two", "w", "c")
    assert first.location is not None
    assert first.location.line == 3


def test_mistakes_are_those_of_yaml_at_the_decorators_lines(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
        @transform(nmae="x", tags="silver")
        @materialize(type="t", table="a", mode="overwriet")
        def clean(ctx): ...

        @materialize(type="t", table="a")
        def alone(ctx): ...

        @source()
        @transform()
        def both(ctx): ...
        """,
    )
    text = "\n".join(found)
    assert "seeknal/nodes.py:3:1: nmae: unknown field; did you mean 'name'?" in text
    assert "seeknal/nodes.py:3:1: tags: is a string, not a list" in text
    assert "seeknal/nodes.py:4:1: materializations[0].mode: 'overwriet' is not one of" in text
    assert "seeknal/nodes.py:7: alone has @materialize alone" in text
    assert "both is a node twice" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def broken(:", "seeknal/nodes.py:2:12: SyntaxError: invalid syntax"),
        (
            "@transform()\nclass A: ...",
            "seeknal/nodes.py:2: TypeError: a node is made of a function",
        ),
        ("import lib", "seeknal/lib.py:1:12: SyntaxError: invalid syntax"),
    ],
)
def test_what_is_no_python_is_found_when_the_files_are_read(
    tmp_path: Path, text: str, expected: str
) -> None:
    node = "\n@transform()\ndef clean(ctx): ..."
    found = problems(tmp_path, text + node, lib="def broken(:")
    assert found[0].startswith(expected)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "import seeknal_nothing_here",
            "seeknal/nodes.py:2: ModuleNotFoundError: No module named 'seeknal_nothing_here'",
        ),
        ("raise SystemExit(3)", "seeknal/nodes.py:2: SystemExit: 3"),
        ("1 / 0", "seeknal/nodes.py:2: ZeroDivisionError: division by zero"),
        ("from lib import f\nf()", "seeknal/lib.py:2: KeyError: 'x'"),
        (
            "raise ValueError('bad hunter2-very-secret')",
            "seeknal/nodes.py:2: ValueError: bad ***",
        ),
    ],
)
def test_what_the_users_code_raises_is_said_at_the_users_line_when_it_is_imported(
    tmp_path: Path, text: str, expected: str
) -> None:
    Secret("hunter2-very-secret")
    lib = "def f():\n    return {}['x']"
    found = node(tmp_path, f"{text}\n@transform()\ndef clean(ctx): ...", lib=lib)
    with pytest.raises(EngineError) as raised:
        found.load()
    assert str(raised.value) == expected


def test_one_broken_file_does_not_hide_the_nodes_of_others(tmp_path: Path) -> None:
    good = write(tmp_path, "good.py", "@source()\ndef a(ctx): ...")
    bad = write(tmp_path, "bad.py", "1 +")
    loaded = load_python_nodes(tmp_path, [bad, good], Trust())
    assert [each.id for each in loaded.nodes] == ["source.a"]
    assert len(loaded.problems) == 1


@pytest.mark.parametrize("start", ["common", "seeknal.common"])
def test_modules_of_the_project_are_imported_by_both_their_names(
    tmp_path: Path, start: str
) -> None:
    text = f"""
    from {start}.text import tidy
    @transform()
    def clean(ctx):
        from {start}.later import late
        return tidy, late
    """
    found = node(tmp_path, text, common__text="tidy = 'ok'", common__later="late = 'too'")
    assert found.load()(None) == ("ok", "too")


def test_another_project_does_not_get_this_ones_modules(tmp_path: Path) -> None:
    text = "from common.x import value\n@source(description=value)\ndef a(ctx): ..."
    assert node(tmp_path / "one", text, common__x="value = 'one'").description == "one"
    assert node(tmp_path / "two", text, common__x="value = 'two'").description == "two"


def test_only_the_file_that_is_loaded_declares_its_nodes(tmp_path: Path) -> None:
    found = node(
        tmp_path,
        "from lib import other\n@transform()\ndef clean(ctx): ...",
        lib=HEAD + "@transform()\ndef other(ctx): ...",
    )
    assert found.id == "transform.clean"


def test_private_files_and_common_ones_hold_no_nodes(tmp_path: Path) -> None:
    text = "@source()\ndef a(ctx): ..."
    files = [write(tmp_path, "_a.py", text), write(tmp_path, "common/b.py", text)]
    assert load_python_nodes(tmp_path, files, Trust()) == PythonLoad(nodes=(), problems=())


def test_loading_writes_nothing_into_the_project(tmp_path: Path) -> None:
    node(tmp_path, "from common.x import v\n@source()\ndef a(ctx): ...", common__x="v = 1")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "common", "nodes.py", "seeknal", "x.py",
    ]  # fmt: skip


def test_the_digest_covers_the_module_and_what_it_imports_of_the_project(tmp_path: Path) -> None:
    text = "from common import a\n@source()\ndef n(ctx): ..."
    others = {"common__a": "from common.b import x", "common__b": "x = 1", "other": "y = 1"}
    first = node(tmp_path, text, **others).code_digest
    assert node(tmp_path, text, **{**others, "other": "y = 2"}).code_digest == first
    assert node(tmp_path, text, **{**others, "common__b": "x = 2"}).code_digest != first
    assert node(tmp_path, text + "\n# x", **others).code_digest != first
    assert node(tmp_path / "elsewhere", text, **others).code_digest == first


def test_relative_imports_of_a_module_are_followed(tmp_path: Path) -> None:
    text = "from common import a\n@source()\ndef n(ctx): ..."
    first = node(tmp_path, text, common__a="from . import b", common__b="x = 1").code_digest
    again = node(tmp_path, text, common__a="from . import b", common__b="x = 2").code_digest
    assert first != again


def test_what_code_asks_of_its_context_is_known(tmp_path: Path) -> None:
    found = node(
        tmp_path,
        """
        from common.h import helper
        @transform()
        def clean(ctx):
            env_name = getattr(ctx, "env_name")
            return helper(ctx)
        """,
        common__h="def helper(c):\n    return c.var('x'), 'run_id'",
    )
    assert found.context_names == ("env_name", "var")


def test_what_gives_another_answer_each_time_is_known(tmp_path: Path) -> None:
    found = node(
        tmp_path,
        """
        import random, uuid
        from datetime import datetime
        @transform()
        def clean(ctx):
            "now() in words is nothing"
            x = datetime.now(), uuid.uuid4(), random.random()
            return ctx.sql(f"select random() from {x}")
        """,
    )
    assert found.volatile == ("now", "uuid4", "random")
    assert found.sql_texts == ("select random() from ",)
    seeded = "import random\nrandom.seed(1)\n@source()\ndef a(ctx):\n    random.random()"
    assert node(tmp_path, seeded).volatile == ()


@pytest.mark.parametrize(
    ("imports", "call", "volatile"),
    [
        ("import time", "time.time()", "time"),
        ("import time as t", "t.time_ns()", "time_ns"),
        ("from time import time", "time()", "time"),
        ("from time import time as clock", "clock()", "time"),
        ("import time", "time.localtime()", "localtime"),
        ("import time", "time.gmtime(0)", None),
        ("import time", "time.perf_counter()", None),
        ("import datetime as dt", "dt.date.today()", "today"),
        ("from datetime import date", "date.today()", "today"),
        ("from datetime import datetime as D", "D.now()", "now"),
        ("from random import choice", "choice([1, 2])", "random"),
        ("import random as r", "r.random()", "random"),
        ("from random import seed, random", "(seed(1), random())", None),
        ("import random", "random.Random(1).random()", None),
        ("import numpy as np", "np.random.rand(3)", "random"),
        ("from numpy import random as nr", "nr.rand(3)", "random"),
        ("import secrets", "secrets.token_hex()", "secrets"),
        ("from uuid import uuid4 as new", "new()", "uuid4"),
        ("import pandas as pd", "pd.Timestamp.now()", "now"),
        ("from project import time", "time()", None),
    ],
)
def test_clocks_and_chance_are_known_by_whatever_name_they_were_imported(
    tmp_path: Path, imports: str, call: str, volatile: str | None
) -> None:
    modules = ("project", "numpy", "pandas")
    text = f"if False:\n    {imports}\n" if any(m in imports for m in modules) else f"{imports}\n"
    found = node(tmp_path, f"{text}@transform()\ndef clean(ctx):\n    return {call}\n")
    assert found.volatile == (() if volatile is None else (volatile,))


def test_decorators_outside_of_loading_do_nothing_but_mark() -> None:
    @transform(inputs=["source.x"])
    @materialize(type="t", table="a")
    def clean(ctx: object) -> int:
        return 1

    assert clean(None) == 1


def test_a_node_of_python_is_a_frozen_value(tmp_path: Path) -> None:
    found = node(tmp_path, "@source()\ndef a(ctx): ...")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        found.name = "b"  # type: ignore[misc]


def test_functions_of_one_name_are_two_definitions(tmp_path: Path) -> None:
    made = """\
        def make(name, value):
            @transform(name=name)
            def rows(ctx):
                return [value]

        for name, value in (("a", 1), ("b", 2)):
            make(name, value)

        @transform(name="c")
        def other(ctx):
            return []
        """
    nodes = load(tmp_path, made).nodes
    found = {each.name: definition(each, (), {}) for each in nodes}
    assert len(set(found.values())) == 3
    assert [each.has_namesake for each in nodes] == [True, True, False]
