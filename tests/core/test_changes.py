"""Additive, breaking, unaffected: one example of each form of SQL."""

from __future__ import annotations

import duckdb
import pytest

from seeknal_core.engine import determined
from seeknal_core.engine.changes import classify, unaffected

OLD = "SELECT id, amount FROM orders AS o"


def added(new: str, old: str = OLD, columns: tuple[str, ...] = ()) -> tuple[str, ...] | None:
    """Return the columns that a change adds, None where it is breaking."""
    found = classify([old], [new], columns)
    assert found.reason
    return found.columns if found.additive else None


def reads(reader: str, *new: str, columns: tuple[str, ...] = ("id", "amount")) -> bool:
    """Return whether a reader of ``transform.p`` may see new columns."""
    return unaffected([reader], "transform.p", new or ("x",), columns) is None


@pytest.mark.parametrize(
    ("new", "columns"),
    [
        ("SELECT id, amount, o.tax FROM orders AS o", ("tax",)),
        ("SELECT o.tax, id, upper(name) AS name, amount FROM orders AS o", ("tax", "name")),
        ("select ID as id, amount from orders as o", None),  # The name is written anew.
        ("select id, amount, tax: amount * 2 from orders as o", ("tax",)),
        ("SELECT id, amount, tax AS 'Tax %' FROM orders AS o -- more", ("Tax %",)),
        ('SELECT id, amount, "Tax %" FROM orders AS o', ("Tax %",)),
        ("SELECT id, amount, place.city FROM orders AS o", ("city",)),
        ("SELECT id, amount, CASE WHEN tax > 1 THEN 'x' END AS c FROM orders AS o", ("c",)),
        ("SELECT id, amount, a AS x, x + 1 AS y FROM orders AS o", ("x", "y")),
        ("SELECT id, amount, CAST(day AS DATE) + INTERVAL 1 DAY AS c FROM orders AS o", ("c",)),
        ("SELECT id, amount, list_transform(l, v -> v + 1) AS c FROM orders AS o", ("c",)),
        ("SELECT id, amount, o AS whole FROM orders AS o", ("whole",)),
        ("SELECT id, amount FROM orders  AS o /* the same */", ()),
        ("SELECT (id), amount FROM orders AS o", ()),
        # Not scalar, or not the same the next time.
        ("SELECT id, amount, count(*) AS n FROM orders AS o", None),
        ("SELECT id, amount, first(tax) AS n FROM orders AS o", None),
        ("SELECT id, amount, row_number() OVER () AS n FROM orders AS o", None),
        ("SELECT id, amount, sum(tax) OVER (PARTITION BY id) AS n FROM orders AS o", None),
        ("SELECT id, amount, (SELECT max(x) FROM u) AS n FROM orders AS o", None),
        ("SELECT id, amount, id IN (SELECT x FROM u) AS n FROM orders AS o", None),
        ("SELECT id, amount, EXISTS (FROM u) AS n FROM orders AS o", None),
        ("SELECT id, amount, unnest(l) AS n FROM orders AS o", None),
        ("SELECT id, amount, random() AS n FROM orders AS o", None),
        ("SELECT id, amount, now() AS n FROM orders AS o", None),
        ("SELECT id, amount, current_date AS n FROM orders AS o", None),
        ("SELECT id, amount, age(day) AS n FROM orders AS o", None),
        ("SELECT id, amount, getvariable('x') AS n FROM orders AS o", None),
        ("SELECT id, amount, main.upper(name) AS n FROM orders AS o", None),
        ("SELECT id, amount, place.upper() AS n FROM orders AS o", None),
        ("SELECT id, amount, no_such_function(name) AS n FROM orders AS o", None),
        ("SELECT id, amount, #2 AS n FROM orders AS o", None),
        ("SELECT id, amount, * FROM orders AS o", None),
        ("SELECT id, amount, o.* FROM orders AS o", None),
        ("SELECT id, amount, COLUMNS('t.*') FROM orders AS o", None),
        # Without a name, or with one that is taken.
        ("SELECT id, amount, tax + 1 FROM orders AS o", None),
        ("SELECT id, amount, (place).city FROM orders AS o", None),
        ("SELECT id, amount, tax AS ID FROM orders AS o", None),
        ("SELECT id, amount, tax AS x, tax AS X FROM orders AS o", None),
        # More than a new column.
        ("SELECT amount FROM orders AS o", None),
        ("SELECT amount, id FROM orders AS o", None),
        ("SELECT id, amount + 1 AS amount, tax FROM orders AS o", None),
        ("SELECT id, amount, tax FROM orders AS p", None),
        ("SELECT id, amount, tax FROM orders AS o WHERE id > 1", None),
        ("SELECT DISTINCT id, amount, tax FROM orders AS o", None),
        ("SELECT id, amount, tax FROM orders AS o LIMIT 3", None),
        ("SELECT id, amount, tax FROM orders AS o USING SAMPLE 3", None),
        ("SELECT id, amount, tax FROM orders AS o QUALIFY rank() OVER (ORDER BY id) = 1", None),
        ("WITH c AS (SELECT 1) SELECT id, amount, tax FROM orders AS o", None),
        ("SELECT id, amount, tax FROM orders AS o UNION ALL SELECT 1, 2, 3", None),
        ("FROM orders AS o", None),
        ("SUMMARIZE orders", None),
        ("PIVOT orders ON id USING sum(amount)", None),
        ("this is no SQL", None),
        ("SELECT id, amount, tax FROM orders AS o; SELECT 1", None),
    ],
)
def test_a_change_of_a_plain_select(new: str, columns: tuple[str, ...] | None) -> None:
    assert added(new) == columns


@pytest.mark.parametrize(
    "old",
    [
        "SELECT DISTINCT id{} FROM t",
        "SELECT DISTINCT ON (id) id{} FROM t",
        "SELECT id{} FROM t GROUP BY ALL",
        "SELECT id{} FROM t GROUP BY ROLLUP (id, n)",
        "SELECT id{} FROM t ORDER BY ALL",
        "SELECT id{} FROM t LIMIT 3",
        "SELECT id{} FROM t ORDER BY id LIMIT 3",
        "SELECT id{} FROM t ORDER BY id FETCH FIRST 3 ROWS ONLY",
        "SELECT id{} FROM t OFFSET 3",
        "SELECT id{} FROM t USING SAMPLE 3",
        "SELECT id{} FROM t TABLESAMPLE 10%",
        "SELECT id{} FROM t UNION ALL SELECT 1{}",
        "SELECT id{} FROM t EXCEPT SELECT 1{}",
        "SELECT id, unnest(l) AS v{} FROM t",
        "SELECT id{} FROM t, unnest([1, 2]) AS u(v)",
        "SELECT id, COLUMNS('a.*'){} FROM t",
        "SELECT * REPLACE (id + 1 AS id){} FROM t",
        "SELECT id, #2{} FROM t",
        "SELECT id, row_number() OVER (ORDER BY id) AS r{} FROM t",
        "SELECT id, sum(id) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS r{} FROM t",
        "SELECT id{} FROM t QUALIFY row_number() OVER (PARTITION BY id) = 1",
        "SELECT id, first(v) AS f{} FROM t GROUP BY id",
        "SELECT id, string_agg(s, ',') AS f{} FROM t GROUP BY id",
        "SELECT id, arg_max(v, w) AS f{} FROM t GROUP BY id",
        "SELECT id, sum(v ORDER BY w) AS f{} FROM t GROUP BY id",
        "SELECT id, random() AS r{} FROM t",
        "SELECT id{} FROM t POSITIONAL JOIN u",
        "SELECT id{} FROM t ASOF JOIN u ON t.k >= u.k",
        "SELECT id{} FROM (SELECT id, n FROM v LIMIT 3) AS t",
        "WITH t AS (SELECT DISTINCT ON (id) id, n FROM v) SELECT id{} FROM t",
        "WITH RECURSIVE t AS (SELECT 1 AS id, 2 AS n UNION ALL SELECT * FROM t) SELECT id{} FROM t",
    ],
)
def test_a_select_whose_rows_one_more_column_or_another_order_may_change(old: str) -> None:
    before = old.replace("{}", "")
    assert added(old.replace("{}", ", t.n"), before, ("id",)) is None
    assert added(old.replace("{}", ", t.n + 1 AS n"), before, ("id",)) is None


@pytest.mark.parametrize(
    "old",
    [
        "SELECT id{} FROM t ORDER BY id DESC",
        "SELECT id, sum(v) AS s{} FROM t GROUP BY id, n HAVING count(*) > 1",
        "SELECT id, rank() OVER (PARTITION BY v ORDER BY id) AS r{} FROM t",
        "SELECT id{} FROM t QUALIFY sum(v) OVER (PARTITION BY id) > 1",
        "SELECT *{} FROM t",
        "SELECT t.* EXCLUDE (n){} FROM t",
        "SELECT id{} FROM t JOIN u USING (id)",
        "SELECT id{} FROM t NATURAL JOIN u",
        "SELECT id{} FROM t, generate_series(1, 3) AS g(i)",
        "SELECT id{} FROM (SELECT DISTINCT id, n FROM v UNION SELECT 1, 2) AS t",
        "WITH t AS (SELECT id, n FROM v EXCEPT ALL SELECT 1, 2) SELECT id{} FROM t",
        "SELECT id{} FROM t WHERE v IN (SELECT k FROM u)",
    ],
)
def test_a_select_whose_rows_stay_with_one_more_column(old: str) -> None:
    new = old.replace("{}", ", t.n AS m")
    assert added(new, old.replace("{}", ""), ("id", "s", "r")) == ("m",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # The new name is used already: it may be the new column from now on.
        ("SELECT id FROM t WHERE v > 1", "SELECT id, w AS v FROM t WHERE v > 1"),
        ("SELECT id FROM t WHERE V > 1", "SELECT id, w AS v FROM t WHERE V > 1"),
        ("SELECT v + 1 AS id FROM t", "SELECT v + 1 AS id, w AS v FROM t"),
        ("SELECT id FROM t ORDER BY v", "SELECT id, w AS v FROM t ORDER BY v"),
        ("SELECT max(id) AS i FROM t GROUP BY v", "SELECT max(id) AS i, 1 AS v FROM t GROUP BY v"),
        ("SELECT id FROM t WHERE s.f = 1", "SELECT id, {'f': 1} AS s FROM t WHERE s.f = 1"),
        (
            "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE k = v)",
            "SELECT id, w AS v FROM t WHERE EXISTS (SELECT 1 FROM u WHERE k = v)",
        ),
        (
            "SELECT id FROM t QUALIFY rank() OVER (ORDER BY v) = 1",
            "SELECT id, 1 AS v FROM t QUALIFY rank() OVER (ORDER BY v) = 1",
        ),
        ("SELECT id FROM t, u WHERE v > 1", "SELECT id, u.v FROM t, u WHERE v > 1"),
        # Columns are counted.
        ("SELECT id FROM t ORDER BY 1", "SELECT v, id FROM t ORDER BY 1"),
        ("SELECT id, sum(v) AS s FROM t GROUP BY 1", "SELECT 1 AS c, id, sum(v) AS s FROM t GROUP BY 1"),
        # Names that are not known.
        ("SELECT * FROM t", "SELECT *, v FROM t"),
        ("SELECT count(*) FROM t", "SELECT count(*), 1 AS v FROM t"),
    ],
)  # fmt: skip
def test_a_new_column_that_may_mean_something_else_is_breaking(old: str, new: str) -> None:
    assert added(new, old) is None


def test_a_new_column_may_be_one_that_the_query_uses() -> None:
    old = "SELECT id FROM t WHERE v > 1 ORDER BY v"
    assert added(old.replace(" FROM", ", v FROM"), old) == ("v",)
    assert added(old.replace(" FROM", ", v AS V FROM"), old) == ("V",)


def test_the_names_behind_a_star_are_the_recorded_ones() -> None:
    old, new = "SELECT * FROM t", "SELECT *, w + 1 AS v FROM t"
    assert added(new, old, ("id", "w")) == ("v",)
    assert added(new, old, ("id", "V")) is None
    assert added("SELECT *, w + 1 AS v FROM t", "SELECT * FROM t", ()) is None


def test_nodes_without_sql_and_with_several_statements_are_breaking() -> None:
    assert not classify([], [OLD]).additive
    assert not classify([OLD], []).additive
    two = ["CREATE TEMP MACRO f(v) AS v + 1", "SELECT f(id) AS id FROM t"]
    assert not classify(two, [two[0], "SELECT f(id) AS id, v FROM t"]).additive
    assert unaffected(two, "transform.p", ["x"]) is None


def test_a_breaking_change_names_the_columns_that_it_touches() -> None:
    found = classify([OLD], ["SELECT id, amount + 1 AS amount, tax FROM orders AS o"])
    assert (found.columns, found.reason) == (("amount", "tax"), "columns were changed or removed")
    found = classify([OLD], [OLD + " WHERE id > 1"])
    assert (found.columns, found.reason) == ((), "WHERE changed")
    found = classify([OLD], ["SELECT amount, id FROM orders AS o"])
    assert found.reason == "the order of its columns changed"


def test_large_and_deep_sql_is_not_compared() -> None:
    deep = f"SELECT {'(' * 900}id{')' * 900} + {'-' * 3000} id AS id FROM t".replace("--", "- -")
    for old in (deep, f"SELECT id FROM t WHERE id IN ({', '.join(map(str, range(9000)))})"):
        assert added(old.replace(" FROM", ", v FROM"), old) is None
        assert unaffected([old], "t", ["x"]) is None


@pytest.mark.parametrize(
    "reader",
    [
        'SELECT id FROM "transform.p"',
        'SELECT p.id, P.amount + 1 AS more FROM "transform.p" AS p WHERE amount > 1 ORDER BY id',
        'SELECT count(*) AS n, sum(amount) AS s FROM "transform.p" GROUP BY id HAVING count(*) > 1',
        'SELECT DISTINCT id FROM "transform.p"',
        'SELECT id, sum(amount) OVER (PARTITION BY id ORDER BY amount) AS s FROM "transform.p"',
        'SELECT p.id, o.x FROM "transform.p" AS p JOIN o ON o.id = p.id',
        'SELECT o.* FROM "transform.p" AS p, o WHERE o.id = p.id',
        'WITH c AS (SELECT id FROM "transform.p") SELECT * FROM c JOIN o USING (id)',
        'WITH c AS (SELECT id FROM "transform.p") SELECT c FROM c',
        'SELECT * FROM (SELECT id FROM "transform.p")',
        'SELECT id FROM "transform.p" UNION ALL SELECT id FROM o',
        'SELECT * FROM o WHERE id IN (SELECT id FROM "transform.p")',
        'SELECT o.id FROM o WHERE EXISTS (SELECT 1 FROM "transform.p" AS p WHERE p.id = o.x)',
        'SELECT id, 1 AS x FROM "transform.p"',
        'SELECT id AS p FROM "transform.p" AS p',
        'SELECT amount FROM "transform.p" AS amount',
        'SELECT p.id FROM "transform.p" AS p, LATERAL (SELECT o.id FROM o WHERE o.id = p.id) AS l',
        'SELECT id FROM "transform.p", generate_series(1, amount) AS g(i)',
    ],
)
def test_a_reader_that_names_its_columns_does_not_see_a_new_one(reader: str) -> None:
    proof = unaffected([reader], "transform.p", ["x", "Y z"], ("id", "amount"))
    assert proof == "transform.p only adds x, Y z, which this SQL does not read"
    assert unaffected([reader.lower()], "TRANSFORM.P", ["x"], ("id", "amount"))


@pytest.mark.parametrize(
    "reader",
    [
        'SELECT * FROM "transform.p"',
        'FROM "transform.p"',
        'TABLE "transform.p"',
        'SELECT p.* FROM "transform.p" AS p',
        'SELECT * EXCLUDE (x) FROM "transform.p"',
        "SELECT COLUMNS('i.*') FROM \"transform.p\"",
        'SELECT count(COLUMNS(*)) FROM "transform.p"',
        'SELECT * FROM "TRANSFORM.P"',
        'SELECT count(*) FROM (FROM "transform.p")',
        'SELECT id FROM o WHERE EXISTS (SELECT * FROM "transform.p")',
        'SELECT id FROM o, LATERAL (SELECT * FROM "transform.p" WHERE id = o.id) AS l',
        'SELECT l.id FROM "transform.p" AS p, LATERAL (SELECT p.*) AS l',
        'WITH c AS (SELECT * FROM "transform.p") SELECT id FROM c',
        'WITH "transform.p" AS (SELECT id FROM "transform.p") SELECT * FROM "transform.p"',
        # The row as a whole.
        'SELECT p FROM "transform.p" AS p',
        'SELECT "transform.p" FROM "transform.p"',
        'SELECT count(DISTINCT P) FROM "transform.p" AS p',
        'SELECT (p).id FROM "transform.p" AS p',
        'SELECT hash(p) AS h FROM "transform.p" AS p',
        'SELECT id FROM "transform.p" AS p ORDER BY p',
        'SELECT o.id FROM "transform.p" AS p, LATERAL (SELECT p AS id) AS o',
        # Joins that look for names.
        'SELECT id FROM "transform.p" NATURAL JOIN o',
        'SELECT id FROM o NATURAL LEFT JOIN "transform.p"',
        'SELECT id FROM "transform.p" JOIN o USING (id)',
        'SELECT id FROM (o JOIN q USING (id)) JOIN "transform.p" AS p ON true',
        'SELECT id FROM "transform.p" POSITIONAL JOIN o',
        'SELECT id FROM "transform.p" ASOF JOIN o ON o.id >= amount',
        # All columns, and columns by number.
        'SELECT id, sum(amount) AS s FROM "transform.p" GROUP BY ALL',
        'SELECT id FROM "transform.p" ORDER BY ALL',
        'SELECT id FROM "transform.p" UNION ALL BY NAME SELECT id FROM o',
        'SELECT a FROM "transform.p" AS p(a, b)',
        'SELECT #1 FROM "transform.p"',
        'SUMMARIZE "transform.p"',
        'DESCRIBE "transform.p"',
        'SELECT id FROM (SUMMARIZE "transform.p")',
        'PIVOT "transform.p" ON id USING sum(amount)',
        'PIVOT "transform.p" ON id IN (1, 2) USING sum(amount)',
        'UNPIVOT "transform.p" ON amount INTO NAME n VALUE v',
        "SELECT id FROM \"transform.p\" UNPIVOT (v FOR n IN (amount))",
        "SELECT bin FROM histogram('transform.p', id)",
        # A name that the new column would be.
        'SELECT x FROM "transform.p", o',
        'SELECT id FROM "transform.p", o WHERE X > 1',
        'SELECT "x" FROM o WHERE EXISTS (SELECT 1 FROM "transform.p" AS p WHERE p.id = "x")',
        'SELECT o.id FROM o WHERE (SELECT max(x) FROM "transform.p") > 1',
        'SELECT x.id FROM "transform.p", o AS x',
        'SELECT p.x FROM "transform.p" AS p, (SELECT {\'x\': 1} AS p)',
        'SELECT id, x.upper() AS u FROM "transform.p", o',
        'SELECT amount AS x, x + 1 AS y FROM "transform.p"',
        'SELECT id FROM "transform.p" GROUP BY id, x',
        'SELECT list_transform([1], x -> x + 1) AS l FROM "transform.p"',
        # Other rows where the rows come in another order.
        'SELECT id FROM "transform.p" LIMIT 3',
        'SELECT id FROM "transform.p" ORDER BY id LIMIT 3',
        'SELECT DISTINCT ON (id) id, amount FROM "transform.p"',
        'SELECT id, first(amount) AS f FROM "transform.p" GROUP BY id',
        'SELECT id, list(amount) AS f FROM "transform.p" GROUP BY id',
        'SELECT id, row_number() OVER (ORDER BY id) AS n FROM "transform.p"',
        'SELECT id FROM "transform.p" USING SAMPLE 3',
        'SELECT id, unnest([1, 2]) AS n FROM "transform.p"',
        'SELECT id, random() AS r FROM "transform.p"',
        # Not one query over it.
        "SELECT id FROM o",
        "not SQL",
    ],
)  # fmt: skip
def test_a_reader_that_may_see_a_new_column(reader: str) -> None:
    assert reads(reader)


def test_a_column_with_the_name_of_its_table_is_no_row_as_a_whole() -> None:
    reader = 'SELECT status FROM "transform.p" AS status'
    assert not reads(reader, columns=("status",))
    assert reads(reader, columns=("id",))
    assert reads(reader, columns=())


def test_readers_of_a_node_that_says_the_same_in_other_words_need_no_names() -> None:
    assert unaffected(['SELECT * FROM "transform.p"'], "transform.p", [])
    assert unaffected(['SELECT * FROM "transform.p" LIMIT 3'], "transform.p", []) is None


def test_the_lists_of_functions_are_what_duckdb_says_they_are() -> None:
    with duckdb.connect() as own:
        kinds: dict[str, set[str]] = {}
        for name, kind in own.execute(
            "SELECT lower(function_name), function_type FROM duckdb_functions()"
        ).fetchall():
            kinds.setdefault(name, set()).add(kind)
    assert all(kinds[name] == {"aggregate"} for name in determined._AGGREGATES)
    assert all(kinds[name] == {"macro"} for name in determined._MACROS)
    scalars = determined._scalars()
    assert {"upper", "year", "date_trunc", "+", "list_transform", "nullif"} <= scalars
    assert scalars.isdisjoint(
        {"random", "now", "today", "uuid", "age", "unnest", "getvariable", "sum", "setseed"}
    )


def test_a_key_that_a_later_duckdb_adds_to_its_tree_is_doubtful() -> None:
    from seeknal_core.engine.statements import query_tree

    tree = query_tree("SELECT a FROM t")
    assert determined.doubt(tree) is None
    assert determined.doubt({**tree, "match_recognize": None}) == "match_recognize of SELECT_NODE"
