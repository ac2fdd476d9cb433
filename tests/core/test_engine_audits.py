from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import attrs
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.types import Snapshot
from seeknal_core.engine import AuditOutcome
from seeknal_core.project.specs import Audit, ColumnSpec, SqlNode
from support.engines import HERE, Lab, open_lab

NODE = SqlNode(name="orders", location=HERE, sql="", sql_location=HERE)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


@pytest.fixture
def orders(lab: Lab) -> Snapshot:
    return lab.sql(
        '''SELECT * FROM (VALUES (1, 'open', 10, 'a'), (2, 'open', 11, 'a'), (2, 'shut', NULL, 'b'),
        (NULL, NULL, 99, 'b'), (NULL, 'odd', 10, 'b')) t(id, status, "the ""customer""", k)''',
        "transform.orders",
    )


@pytest.fixture
def customers(lab: Lab) -> Snapshot:
    return lab.sql("SELECT * FROM (VALUES (10), (11), (NULL)) t(id)", "source.customers")


def run(
    lab: Lab, snapshot: Snapshot, audit: Audit, related: dict[str, Snapshot] | None = None
) -> AuditOutcome:
    (outcome,) = lab.engine.run_audits(attrs.evolve(NODE, audits=(audit,)), snapshot, related or {})
    assert outcome.audit is audit
    return outcome


@pytest.mark.parametrize(
    ("audit", "failing", "message"),
    [
        (Audit(type="not_null", columns=("id",)), 2, "not_null (id): 2 rows with NULL"),
        (Audit(type="not_null", columns=("id", "status")), 2, "not_null (id, status): 2 rows"),
        (Audit(type="not_null", columns=("K",)), 0, "passed"),
        (Audit(type="unique", columns=("id",)), 1, "unique (id): 1 value more than once"),
        (Audit(type="unique", columns=("id", "status")), 0, "passed"),
        (
            Audit(type="accepted_values", columns=("status",), values=("open", "shut")),
            1,
            "1 row with",
        ),
        (Audit(type="accepted_values", columns=("id",), values=(1, 2)), 0, "passed"),
        (Audit(type="accepted_values", columns=("k",), values=("a", "it's", None)), 3, "3 rows"),
        (Audit(type="row_count", min=5, max=5), 0, "5 rows"),
        (Audit(type="row_count", min=7), 2, "row_count: 5 rows, fewer than min 7"),
        (Audit(type="row_count", max=4), 1, "row_count: 5 rows, more than max 4"),
        (
            Audit(type="custom_sql", sql="SELECT * FROM __THIS__ WHERE id = 2 -- two"),
            2,
            "2 failing rows",
        ),
        (
            Audit(type="custom_sql", sql='SELECT * FROM "transform.orders" WHERE id = 1;'),
            1,
            "1 failing row",
        ),
        (Audit(type="custom_sql", sql="SELECT * FROM transform.orders WHERE false"), 0, "passed"),
        (Audit(type="custom_sql", sql="SELECT * FROM orders WHERE id = 7"), 0, "passed"),
        (Audit(type="custom_sql", sql="SELECT * FROM ref('transform.orders') o"), 5, "5 failing"),
    ],
)
def test_an_audit_counts_what_breaks_it(
    lab: Lab, orders: Snapshot, audit: Audit, failing: int, message: str
) -> None:
    outcome = run(lab, orders, audit)
    assert outcome.failing_rows == failing
    assert outcome.passed is (failing == 0)
    assert message in outcome.message


def test_relationships_find_rows_without_a_match_and_pass_nulls(
    lab: Lab, orders: Snapshot, customers: Snapshot
) -> None:
    audit = Audit(type="relationships", column='the "customer"', to="source.customers", field="id")
    outcome = run(lab, orders, audit, {"source.customers": customers})
    assert outcome.failing_rows == 1
    assert "source.customers (id)" in outcome.message
    custom = Audit(
        type="custom_sql", sql="FROM orders WHERE id NOT IN (SELECT id FROM customers WHERE id > 0)"
    )
    assert run(lab, orders, custom, {"source.customers": customers}).failing_rows == 3


def test_a_wrong_audit_is_told_by_what_is_wrong(
    lab: Lab, orders: Snapshot, customers: Snapshot
) -> None:
    with pytest.raises(EngineError, match="audit unique: there is no column 'idd'") as caught:
        run(lab, orders, Audit(type="unique", columns=("idd",)))
    assert caught.value.hint == "did you mean 'id'?"
    with pytest.raises(
        EngineError, match=r"transform\.orders: audit custom_sql: line 2, at 'nope'"
    ):
        run(lab, orders, Audit(type="custom_sql", sql="SELECT\n nope FROM __THIS__"))
    with pytest.raises(EngineError, match="DROP is not allowed"):
        run(lab, orders, Audit(type="custom_sql", sql="DROP VIEW __THIS__"))
    audit = Audit(type="relationships", column="id", to="source.customers", field="name")
    with pytest.raises(EngineError, match=r"source\.customers: there is no column 'name'"):
        run(lab, orders, audit, {"source.customers": customers})
    with pytest.raises(EngineError, match="has no stored output"):
        run(lab, orders, audit)


def test_several_audits_end_in_their_order(lab: Lab, orders: Snapshot) -> None:
    audits = (
        Audit(type="unique", columns=("id",)),
        Audit(type="custom_sql", sql="CREATE TEMP TABLE x AS SELECT 1 AS a; SELECT * FROM x"),
        Audit(type="row_count", min=1),
    )
    outcomes = lab.engine.run_audits(attrs.evolve(NODE, audits=audits), orders, {})
    assert [outcome.passed for outcome in outcomes] == [False, False, True]


def test_declared_columns_are_held_to_what_is_stored(lab: Lab) -> None:
    made = lab.sql(
        "SELECT 1 AS id, sum(1) AS n, 1.5 AS price, now() AS at, 'x' AS s, true AS b, DATE '2024-01-01' AS d"
    )
    fits = {
        "ID": "integer", "n": "integer", "price": "decimal", "at": "timestamp", "s": "string",
        "b": "boolean", "d": "date",
    }  # fmt: skip
    columns = tuple(ColumnSpec(name=name, dtype=kind) for name, kind in fits.items())
    assert lab.engine.check_columns(attrs.evolve(NODE, columns=columns), made) == ()
    columns = (
        ColumnSpec(name="idd"),
        ColumnSpec(name="id", dtype="string"),
        ColumnSpec(name="price", dtype="integer"),
        ColumnSpec(name="d", dtype="datetime"),
    )
    assert lab.engine.check_columns(attrs.evolve(NODE, columns=columns), made) == (
        "declared column 'idd' is missing, did you mean 'id'?",
        "column 'id' is declared string and is int32",
        "column 'price' is declared integer and is decimal128(2, 1)",
        "column 'd' is declared datetime and is date32[day]",
    )


@pytest.mark.parametrize(
    ("expression", "newest"),
    [
        ("TIMESTAMP '2024-01-01 10:00:00.5'", datetime(2024, 1, 1, 10, 0, 0, 500_000, UTC)),
        ("TIMESTAMPTZ '2024-01-01 10:00:00+02'", datetime(2024, 1, 1, 8, tzinfo=UTC)),
        ("DATE '2024-01-01'", datetime(2024, 1, 1, tzinfo=UTC)),
        ("'2024-01-01 10:00:00'", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("NULL::TIMESTAMP", None),
    ],
)
def test_the_newest_time_is_in_utc(lab: Lab, expression: str, newest: datetime | None) -> None:
    made = lab.sql(f'SELECT {expression} AS "Updated At" UNION ALL SELECT NULL')
    assert lab.engine.newest(made, "Updated At") == newest


def test_the_newest_time_of_no_column_or_no_time_is_an_error(lab: Lab) -> None:
    made = lab.sql("SELECT 'soon' AS updated")
    with pytest.raises(EngineError, match="there is no column 'update'"):
        lab.engine.newest(made, "update")
    with pytest.raises(EngineError, match="soon"):
        lab.engine.newest(made, "updated")
    assert date.min.year == 1
