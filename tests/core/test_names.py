"""Bare node names in SQL, and what ``check`` knows of tables and columns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.cli import Cli

ORDERS = "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"


@pytest.fixture
def seeknal(tmp_path: Path) -> Cli:
    (tmp_path / "seeknal_project.yml").write_text("name: p\n")
    (tmp_path / "seeknal").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/orders.csv").write_text("id,day,amount\n1,2024-01-01,5\n2,2024-01-02,7\n")
    node(tmp_path, "orders", ORDERS)
    return Cli(cwd=tmp_path, warm=True)


def node(root: Path, name: str, text: str) -> None:
    (root / "seeknal" / f"{name}.yml").write_text(text)


def transform(root: Path, name: str, sql: str, rest: str = "") -> None:
    lines = "".join(f"  {line}\n" for line in sql.splitlines())
    node(root, name, f"kind: transform\nname: {name}\ntransform: |\n{lines}{rest}")


def test_a_bare_name_is_an_input_in_every_form_of_sql(seeknal: Cli) -> None:
    root = seeknal.cwd
    transform(root, "clean", "SELECT Orders.id, amount FROM Orders WHERE orders.amount > 1")
    transform(root, "total", "WITH c AS (SELECT * FROM clean)\nSELECT sum(amount) AS n FROM c")
    # The parser does not know this one: the names are found from the tokens.
    transform(root, "odd", 'FROM "clean" JOIN orders USING (id) SELECT count(*) AS n')
    seeknal("check")
    seeknal("run")
    assert seeknal("query", "SELECT n FROM total", "--json").json()["rows"] == [{"n": 12}]
    assert seeknal("query", "SELECT n FROM odd", "--json").json()["rows"] == [{"n": 2}]


def test_a_cte_or_a_table_of_the_same_sql_goes_before_a_node(seeknal: Cli) -> None:
    transform(seeknal.cwd, "a", "WITH orders AS (SELECT 1 AS x) SELECT x FROM orders")
    sql = "CREATE TEMP VIEW orders AS SELECT 2 AS x; SELECT x FROM orders"
    transform(seeknal.cwd, "b", sql)
    seeknal("check")
    seeknal("run")
    assert seeknal("query", "SELECT a.x + b.x AS n FROM a, b", "--json").json()["rows"] == [
        {"n": 3}
    ]


def test_an_ambiguous_name_or_the_own_one_is_no_input(seeknal: Cli) -> None:
    root = seeknal.cwd
    (root / "seeknal/orders.yml").rename(root / "seeknal/source.yml")
    transform(root, "orders", "SELECT * FROM orders")
    found = seeknal("check", code=2).err
    assert "seeknal/orders.yml:4" in found
    assert "there is no table or node 'orders'; write source.orders" in found
    transform(root, "orders", "SELECT * FROM source.orders")
    transform(root, "both", "SELECT * FROM orders")
    found = seeknal("check", code=2).err
    assert "it may be source.orders or transform.orders: write its kind too" in found
    # What is listed decides.
    transform(root, "both", "SELECT * FROM orders", "inputs: [{ref: transform.orders}]\n")
    seeknal("check")


def test_a_query_of_what_never_ran_says_how_to_run_it(seeknal: Cli) -> None:
    transform(seeknal.cwd, "clean", "SELECT id FROM source.orders")
    seeknal("run", "--select", "source.orders")
    said = seeknal("query", "SELECT * FROM transform.clean", code=1).said
    assert "Next: only what has run is stored: seeknal run --env prod" in said
    assert "did you mean 'source.orders'?" in seeknal("query", "FROM source.order", code=1).said


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM (SELECT * EXCLUDE (day) FROM source.orders) WHERE day > '2024'",
        "WITH c AS (SELECT id FROM source.orders) SELECT c.day FROM c",
        "SELECT x.day FROM source.orders JOIN (SELECT 1 AS id) AS x USING (id)",
    ],
)
def test_a_column_that_is_left_out_is_not_advised(seeknal: Cli, sql: str) -> None:
    transform(seeknal.cwd, "t", sql)
    found = seeknal("check", code=2).err
    assert "there is no column 'day'; it is a column of source.orders, and not of" in found


def test_check_names_unknown_tables_and_columns_with_line_and_nearest(seeknal: Cli) -> None:
    root = seeknal.cwd
    transform(root, "a", "SELECT id,\n  amont\nFROM orders")
    transform(root, "b", "SELECT 1 AS x\nFROM ordres")
    transform(root, "c", "WITH d AS (SELECT id AS key FROM orders)\nSELECT kee FROM d")
    transform(root, "e", "SELECT id, amount * 2 AS double FROM orders")
    transform(root, "f", "SELECT dubble FROM e")
    found = seeknal("check", code=2).err
    assert "seeknal/a.yml:5: transform.a: there is no column 'amont'; did you mean" in found
    assert "did you mean 'amount'?" in found
    assert "seeknal/b.yml:5: transform.b: there is no table or node 'ordres'" in found
    assert "did you mean 'orders'?" in found
    assert "seeknal/c.yml:5: transform.c: there is no column 'kee'; did you mean 'key'?" in found
    assert "there is no column 'dubble'; did you mean 'double'?" in found
    assert found.count("there is no") == 4


def test_check_names_columns_of_audits_and_freshness_that_do_not_exist(seeknal: Cli) -> None:
    root = seeknal.cwd
    rest = "audits:\n  - {type: unique, columns: [idd]}\n"
    rest += "  - {type: relationships, column: id, to: source.orders, field: idx}\n"
    transform(root, "a", "SELECT id FROM orders", rest)
    node(root, "orders", ORDERS + "freshness: {warn_after: 24h, column: dai}\n")
    found = seeknal("check", code=2).err
    assert "transform.a.audits: there is no column 'idd'; did you mean 'id'?" in found
    assert "transform.a.audits: there is no column 'idx'; did you mean 'id'?" in found
    assert "source.orders.freshness.column: there is no column 'dai'; did you mean 'day'?" in found
    assert "seeknal/a.yml:6" in found


def test_check_says_nothing_of_columns_that_nobody_knows(seeknal: Cli) -> None:
    root = seeknal.cwd
    node(root, "raw", "kind: source\nname: raw\nsource: jsonl\ntable: data/raw.jsonl\n")
    transform(root, "a", "SELECT anything FROM raw JOIN orders USING (id)")
    transform(root, "b", "SELECT whatever FROM a", "audits: [{type: unique, columns: [x]}]\n")
    seeknal("check")
    (root / "data/raw.jsonl").write_text('{"id":1,"anything":2}\n')
    transform(root, "b", "SELECT anything AS x FROM a", "audits: [{type: unique, columns: [x]}]\n")
    seeknal("run")
    # Now it is known what the file gives.
    transform(root, "a", "SELECT anythink FROM raw JOIN orders USING (id)")
    assert "there is no column 'anythink'" in seeknal("check", code=2).err


def test_a_contract_names_all_columns(seeknal: Cli) -> None:
    root = seeknal.cwd
    text = "kind: source\nname: raw\nsource: jsonl\ntable: data/raw.jsonl\n"
    text += "schema: [{name: id, data_type: integer}]\n"
    node(root, "raw", text)
    transform(root, "a", "SELECT idd FROM raw")
    seeknal("check")
    node(root, "raw", text + "contract: true\n")
    assert "there is no column 'idd'; did you mean 'id'?" in seeknal("check", code=2).err


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id AS key, key + 1 AS next FROM orders QUALIFY row_number() OVER (ORDER BY key) > 0",
        "SELECT list_transform([id], lambda x: x + 1) AS l FROM orders",
        "SELECT COLUMNS('a.*') FROM orders",
        "PIVOT orders ON id USING sum(amount)",
        "SELECT s.a FROM (SELECT {'a': id} AS s FROM orders)",
        "SELECT * EXCLUDE (id) FROM orders GROUP BY ALL",
        "SELECT u.x FROM orders, unnest([1, 2]) AS u(x)",
        "SELECT strftime(CAST(day AS DATE), '%Y') AS y, upper(day) AS u FROM orders",
        "SELECT table_name FROM information_schema.tables",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 3) FROM t",
    ],
)
def test_check_takes_sql_that_runs(seeknal: Cli, sql: str) -> None:
    transform(seeknal.cwd, "a", sql)
    seeknal("check")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT ada, bo FROM (PIVOT people ON name USING sum(net))",
        "WITH p AS (PIVOT people ON name USING sum(net) GROUP BY id) SELECT p.ada FROM p",
        "SELECT x FROM (SELECT unnest(place) FROM people)",
        "SELECT z FROM (SELECT unnest(place, recursive := true) FROM people)",
        "SELECT key FROM (SELECT unnest(list, recursive := true) FROM people)",
        """SELECT q FROM (SELECT unnest(from_json(text, '{"q": "INT"}')) FROM people)""",
    ],
)
def test_check_takes_columns_that_come_of_values(seeknal: Cli, sql: str) -> None:
    rows = [
        {"id": i, "name": name, "net": i, "place": {"x": i, "y": {"z": i}}}
        | {"list": [{"key": i}], "text": '{"q": 1}'}
        for i, name in enumerate(["ada", "bo"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), seeknal.cwd / "data/people.parquet")
    people = "kind: source\nname: people\nsource: parquet\ntable: data/people.parquet\n"
    node(seeknal.cwd, "people", people)
    transform(seeknal.cwd, "a", sql)
    transform(seeknal.cwd, "pivoted", "PIVOT people ON name USING sum(net)")
    transform(seeknal.cwd, "b", "SELECT ada FROM pivoted")
    seeknal("check")
    seeknal("run")
    seeknal("check")


def test_check_reads_a_header_as_the_reader_does(seeknal: Cli) -> None:
    long = ",".join(f"c{number}" for number in range(9_000))
    for head in ("id , day\n", "id,day\r1,2\r", f"{long},day\n", "id,,day\n"):
        (seeknal.cwd / "data/orders.csv").write_text(head, newline="")
        transform(seeknal.cwd, "a", "SELECT day FROM orders")
        seeknal("check")


def test_check_trusts_what_is_stored_only_while_the_files_are_the_same(seeknal: Cli) -> None:
    root = seeknal.cwd
    file = root / "data/events.json"
    file.write_text('[{"id": 1}]')
    node(root, "events", "kind: source\nname: events\nsource: json\ntable: data/events.json\n")
    transform(root, "t", "SELECT id FROM events")
    seeknal("run")
    transform(root, "t", "SELECT id, kind FROM events")
    assert "kind" in seeknal("check", code=2).said
    file.write_text('[{"id": 1, "kind": "a"}]')
    seeknal("check")
    seeknal("run")


def test_a_file_nested_too_deeply_and_an_encoding_that_is_none_are_named(seeknal: Cli) -> None:
    root = seeknal.cwd
    (root / "data/deep.jsonl").write_text('{"x": ' + "[" * 3000 + "]" * 3000 + "}\n")
    node(root, "deep", "kind: source\nname: deep\nsource: jsonl\ntable: data/deep.jsonl\n")
    assert "nested too deeply" in seeknal("run", code=1).said
    node(root, "orders", ORDERS + "params: {encoding: undefined}\n")
    assert "not the name of an encoding" in seeknal("check", code=2).said


def test_check_finds_columns_in_params_stars_and_audits(seeknal: Cli) -> None:
    root = seeknal.cwd
    node(root, "orders", ORDERS + "watermark: dya\nparams: {date_format: {dey: '%Y-%m-%d'}}\n")
    for name, sql in {
        "a": "SELECT * EXCLUDE (nope) FROM source.orders",
        "b": "SELECT o.* REPLACE (1 AS nop) FROM source.orders AS o",
        "c": "SELECT a.id FROM source.orders AS a JOIN source.orders AS b USING (nip)",
    }.items():
        transform(root, name, sql)
    audits = (
        "audits:\n"
        "  - {type: custom_sql, sql: SELECT * FROM __THIS__ WHERE amout > 1}\n"
        "  - {type: custom_sql, sql: SELECT * FROM ref('source.orders') WHERE dai IS NULL}\n"
        "  - {type: custom_sql, sql: SELECT * FROM transform.d WHERE amount > 1}\n"
        "  - {type: custom_sql, sql: SELECT * FROM nowhere}\n"
    )
    transform(root, "d", "SELECT amount FROM source.orders", audits)
    for _ in range(2):  # the second time what was found is remembered
        said = seeknal("check", code=2).err
        for name in ("dya", "dey", "nope", "nop", "nip", "amout", "dai"):
            assert said.count(f"there is no column {name!r}") == 1, said
        assert said.count("there is no table or node 'nowhere'") == 1
        assert "Error: 8 mistakes" in said


def test_a_run_says_again_what_its_rows_lack(seeknal: Cli) -> None:
    """The rows that were left out are named as long as the stored rows are used."""
    root = seeknal.cwd
    (root / "data/orders.csv").write_text("id\n1\nx\n")
    node(root, "orders", ORDERS + "params: {on_bad_rows: skip}\n"
         "schema: [{name: id, data_type: integer}]\n")  # fmt: skip
    for _ in range(2):
        assert "1 row left out (on_bad_rows: skip)" in seeknal("run").err
    [one] = seeknal("run", "--json").json()["nodes"]
    assert (one["status"], len(one["notes"])) == ("reused", 1)


def test_a_watermark_that_no_file_has_fails_the_run(seeknal: Cli) -> None:
    node(seeknal.cwd, "orders", ORDERS + "watermark: dya\n")
    said = seeknal("run", code=1).said
    assert "watermark names 'dya', and there is no such column" in said
    assert "did you mean 'day'?" in said


@pytest.mark.parametrize("way", [(), ("--refresh-sources",)])
def test_a_plan_says_which_guessed_types_get_wider(seeknal: Cli, way: tuple[str, ...]) -> None:
    """Before the files were read, and where the stored rows are used."""
    root = seeknal.cwd
    for day, amount in ((1, "5"), (2, "7.5")):
        (root / f"data/{day}.csv").write_text(f"id,amount\n1,{amount}\n")
    (root / "data/orders.csv").unlink()
    node(root, "orders", ORDERS.replace("orders.csv", "*.csv"))
    said = "column 'amount' is float: integer in data/1.csv, float in data/2.csv"
    assert said in seeknal("env", "plan", "dev", *way).said
    assert said in seeknal("env", "apply", "dev").said
