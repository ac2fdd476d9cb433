from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from seeknal_core.contract.errors import EngineError, Interrupted
from seeknal_core.contract.types import Snapshot
from seeknal_core.project.specs import PythonNode
from support.engines import HERE, Lab, open_lab, rows


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


@pytest.fixture
def users(lab: Lab) -> Snapshot:
    sql = "SELECT * FROM (VALUES (1, true), (2, false), (3, true)) t(id, active)"
    return lab.sql(sql, "source.users")


def node(function: Callable[..., object]) -> PythonNode:
    return PythonNode(
        name="p", location=HERE, load=lambda: function, qualname=function.__qualname__
    )


def ids(snapshot: Snapshot) -> list[object]:
    return [row["id"] for row in rows(snapshot)]


def test_a_variable_of_the_function_is_a_table_in_its_sql(lab: Lab, users: Snapshot) -> None:
    def clean(ctx: Any) -> object:
        users = ctx.ref("source.users")
        assert users.df().shape == (3, 2)
        return ctx.sql("SELECT * FROM users WHERE active")

    assert ids(lab.python(node(clean), source_users=users)) == [1, 3]


def test_a_variable_may_have_any_name_and_come_before_an_inputs_name(
    lab: Lab, users: Snapshot
) -> None:
    def other_name(ctx: Any) -> object:
        everybody = ctx.ref("users")  # noqa: F841 - named in the SQL
        return ctx.sql("SELECT e.id FROM everybody e WHERE e.active")

    assert ids(lab.python(node(other_name), source_users=users)) == [1, 3]

    def again_and_again(ctx: Any) -> object:
        users = ctx.sql("SELECT * FROM users WHERE active")
        users = ctx.sql("SELECT users.id + 1 AS id FROM users")  # noqa: F841 - named in the SQL
        return ctx.sql("WITH x AS (SELECT * FROM users) SELECT id FROM x WHERE id > 2")

    assert ids(lab.python(node(again_and_again), source_users=users)) == [4]


@pytest.mark.parametrize("name", ["users", '"source.users"', "source.users"])
def test_an_input_is_named_by_id_or_name_without_ref(lab: Lab, users: Snapshot, name: str) -> None:
    def function(ctx: Any) -> object:
        return ctx.sql(
            f"CREATE TEMP TABLE x AS SELECT * FROM {name}; SELECT x.id FROM x JOIN {name} y USING (id)"
            " ORDER BY id"
        )

    assert ids(lab.python(node(function), source_users=users)) == [1, 2, 3]


def test_frames_and_tables_are_tables_in_sql(lab: Lab, users: Snapshot) -> None:
    def function(ctx: Any) -> object:
        a = pd.DataFrame({"id": [1]})
        b = pl.DataFrame({"id": [2]})
        c = pa.table({"id": [3]})
        assert len(a) + len(b) + len(c) == 3
        return ctx.sql("FROM (FROM a UNION ALL FROM b UNION ALL FROM c) ORDER BY id")

    assert ids(lab.python(node(function), source_users=users)) == [1, 2, 3]


TABLE = pa.table({"id": [1, 2], "s": ["x", None]})


@pytest.mark.parametrize(
    "make",
    [
        lambda ctx: TABLE,
        lambda ctx: TABLE.to_reader(),
        lambda ctx: TABLE.to_batches()[0],
        lambda ctx: TABLE.to_pandas(),
        lambda ctx: pl.from_arrow(TABLE),
        lambda ctx: pl.LazyFrame({"id": [1, 2], "s": ["x", None]}),
        lambda ctx: (batch for batch in TABLE.to_batches(1)),
        lambda ctx: ctx.sql("SELECT * FROM (VALUES (1::BIGINT, 'x'), (2, NULL)) t(id, s)"),
        lambda: TABLE,
    ],
)
def test_every_kind_of_rows_may_be_returned(lab: Lab, make: Callable[..., object]) -> None:
    made = lab.python(node(make))
    assert rows(made) == [{"id": 1, "s": "x"}, {"id": 2, "s": None}]
    assert made.schema.names == ["id", "s"]


def test_a_relation_of_another_connection_is_stored_too(lab: Lab) -> None:
    import duckdb

    own = duckdb.connect()
    made = lab.python(node(lambda ctx: own.sql("SELECT sum(i) AS id FROM range(4) t(i)")))
    assert ids(made) == [6]
    assert made.schema.field("id").type == pa.decimal128(38, 0)


@pytest.mark.parametrize(("value", "word"), [([1], "list"), (None, "NoneType"), (5, "int")])
def test_anything_else_is_refused_by_its_type(lab: Lab, value: object, word: str) -> None:
    with pytest.raises(EngineError) as caught:
        lab.python(node(lambda ctx: value))
    assert caught.value.message == f"transform.p: the function returned {word}"
    assert "DataFrame" in caught.value.hint


def test_a_generator_of_other_things_is_refused(lab: Lab) -> None:
    def bad() -> Iterator[object]:
        yield {"id": 1}

    with pytest.raises(EngineError, match="generator gave dict"):
        lab.python(node(bad))
    with pytest.raises(EngineError, match="generator gave nothing"):
        lab.python(node(lambda: iter(())))

    def changing() -> Iterator[object]:
        yield pa.record_batch({"id": [1]})
        yield pa.record_batch({"other": [1]})

    with pytest.raises(EngineError, match="other"):
        lab.python(node(changing))


def test_a_frame_with_mixed_types_is_refused(lab: Lab) -> None:
    with pytest.raises(EngineError, match="cannot be stored"):
        lab.python(node(lambda: pd.DataFrame({"a": pd.Series([1, "x"], dtype=object)})))


def write(lab: Lab, text: str) -> Callable[..., object]:
    path = lab.root / "seeknal" / "nodes.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    names: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), names)
    found = names["f"]
    assert callable(found)
    return found  # type: ignore[no-any-return]


def test_an_exception_is_told_by_file_and_line_without_a_traceback(lab: Lab) -> None:
    function = write(
        lab, "def g():\n    raise ValueError('no such\\nthing')\n\ndef f(ctx):\n    g()\n"
    )
    with pytest.raises(EngineError) as caught:
        lab.python(node(function))
    assert caught.value.message == "transform.p: seeknal/nodes.py:2: ValueError: no such"
    assert caught.value.__cause__ is None


def test_an_exception_in_a_generator_or_an_exit_is_told_too(lab: Lab) -> None:
    function = write(
        lab,
        "import pyarrow as pa\ndef f(ctx):\n    yield pa.record_batch({'a': [1]})\n    1 / 0\n",
    )
    with pytest.raises(EngineError, match=r"seeknal/nodes\.py:4: ZeroDivisionError"):
        lab.python(node(function))
    function = write(lab, "import sys\ndef f(ctx):\n    sys.exit(0)\n")
    with pytest.raises(EngineError, match="SystemExit"):
        lab.python(node(function))


def test_wrong_sql_in_python_is_told_by_the_line_of_the_call(lab: Lab, users: Snapshot) -> None:
    function = write(lab, "def f(ctx):\n    return ctx.sql('SELECT nope FROM users')\n")
    with pytest.raises(EngineError, match=r"nodes\.py:2: .*nope"):
        lab.python(node(function), source_users=users)
    function = write(lab, "def f(ctx):\n    return ctx.sql(\"COPY users TO 'x.csv'\")\n")
    with pytest.raises(EngineError, match=r"nodes\.py:2: .*COPY is not allowed") as caught:
        lab.python(node(function), source_users=users)
    assert "target" in caught.value.hint
    function = write(
        lab, "def f(ctx):\n    return ctx.sql('SELECT error(active::VARCHAR) AS a FROM users')\n"
    )
    with pytest.raises(EngineError, match=r"transform\.p: .*true"):
        lab.python(node(function), source_users=users)


def test_a_reference_to_no_input_is_told_with_the_nearest(lab: Lab, users: Snapshot) -> None:
    with pytest.raises(EngineError) as caught:
        lab.python(node(lambda ctx: ctx.ref("source.user")), source_users=users)
    assert "'source.user' is not among the inputs" in caught.value.message
    assert caught.value.hint == "did you mean 'source.users'?"


def test_the_context_knows_the_run(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def function(ctx: Any) -> object:
        ctx.log("hello")
        assert ctx.var("absent", None) is None
        return pa.table(
            {
                "env": [ctx.env_name],
                "run": [ctx.run_id],
                "limit": [ctx.var("limit")],
                "day": [ctx.today],
            }
        )

    with caplog.at_level(logging.INFO, "seeknal"):
        made = lab.python(node(function))
    row = rows(made)[0]
    assert (row["env"], row["run"], row["limit"]) == ("dev", "run-1", 3)
    assert caplog.messages == ["hello"]
    with pytest.raises(EngineError, match="'absent' is not given") as caught:
        lab.python(node(lambda ctx: ctx.var("absent")))
    assert "--vars" in caught.value.hint


def test_a_request_to_stop_is_no_failure_of_the_function(lab: Lab, users: Snapshot) -> None:
    def function(ctx: Any) -> object:
        lab.cancellation.request()
        return ctx.sql("SELECT count(*) AS n FROM range(100000000) a, range(10000) b")

    with pytest.raises(Interrupted):
        lab.python(node(function), source_users=users)


def test_two_python_nodes_at_once_do_not_share_names(lab: Lab, users: Snapshot) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def make(n: int) -> Callable[..., object]:
        def function(ctx: Any) -> object:
            mine = pa.table({"id": [n]})
            assert mine.num_rows == 1
            return ctx.sql("SELECT id FROM mine")

        return function

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: ids(lab.python(node(make(n)))), range(16)))
    assert made == [[n] for n in range(16)]


def test_neither_pandas_nor_polars_is_imported_for_those_who_use_none() -> None:
    code = "import sys, seeknal_core.engine.duckdb; print({'pandas', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
