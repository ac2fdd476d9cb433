"""Random SQL over small random tables: what people write, and the awkward forms too.

Names come from a small pool on purpose: a new column is often called like a column of another
table, an alias, a field of a struct or a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random

import attrs
import duckdb

#: Columns of the two inputs. ``t`` has a struct with a field that is a column elsewhere.
TABLES = {
    "source.t": {
        "k": "INTEGER", "a": "INTEGER", "b": "INTEGER", "s": "VARCHAR",
        "st": "STRUCT(a INTEGER, n INTEGER)",
    },
    "source.u": {"k": "INTEGER", "b": "INTEGER", "n": "INTEGER", "w": "VARCHAR"},
}  # fmt: skip
#: Names of new columns: other columns, aliases, tables, fields, functions, and free ones.
POOL = ("n", "w", "x", "y", "t", "u", "p", "q", "A", "st", "s", "k", "count", "z", "c")
SHORT = {"source.t": "t", "source.u": "u", "transform.p": "p"}


@attrs.frozen
class Table:
    """A table of one FROM: what it is called, and its columns with their types."""

    alias: str
    columns: tuple[tuple[str, str], ...]


@attrs.define
class Maker:
    """Makes one query. ``awkward`` lets it use all forms, not only the plainest."""

    random: Random
    awkward: bool = True
    #: Tables by id, with their columns.
    tables: dict[str, dict[str, str]] = attrs.field(factory=lambda: dict(TABLES))

    def pick(self, *values: object) -> str:
        """Return one of several texts."""
        return str(values[self.random.randrange(len(values))])

    def chance(self, percent: int) -> bool:
        """Return whether something happens that happens so often, in awkward queries only."""
        return self.awkward and self.random.randrange(100) < percent

    def column(self, scope: Sequence[Table], kind: str = "INTEGER") -> str:
        """Write a column of a scope, with or without its table."""
        found = [
            (table.alias, name)
            for table in scope
            for name, own in table.columns
            if own == kind or self.chance(3)
        ]
        if not found:
            return "'w'" if kind == "VARCHAR" else "7"
        alias, name = found[self.random.randrange(len(found))]
        alone = sum(name == other for _, other in found) == 1
        bare = alone and self.random.randrange(2)
        written = name if bare or self.chance(5) else f"{alias}.{name}"
        return f'"{written.upper()}"' if bare and self.chance(5) else written

    def scalar(self, scope: Sequence[Table], depth: int = 2) -> str:
        """Write an expression that gives one value for one row, awkward ones too."""

        def inner(kind: str = "INTEGER") -> str:
            if depth and self.random.randrange(3) == 0 and kind == "INTEGER":
                return self.scalar(scope, depth - 1)
            return self.column(scope, kind)

        plain: list[Callable[[], str]] = [
            inner,
            lambda: self.column(scope, "VARCHAR"),
            lambda: f"({inner()} + 1)",
            lambda: f"({inner()} * {self.column(scope)})",
            lambda: f"-{self.column(scope)}",
            lambda: f"coalesce({inner()}, 0)",
            lambda: f"upper({self.column(scope, 'VARCHAR')})",
            lambda: f"({self.column(scope, 'VARCHAR')} || 'x')",
            lambda: f"CASE WHEN {self.condition(scope)} THEN 1 ELSE {self.column(scope)} END",
            lambda: f"CAST({inner()} AS VARCHAR)",
            lambda: f"TRY_CAST({self.column(scope, 'VARCHAR')} AS INTEGER)",
            lambda: f"nullif({inner()}, 1)",
            lambda: f"({self.condition(scope)})",
            lambda: "1.5",
            lambda: f"abs({inner()}) % 3",
        ]
        strange: list[Callable[[], str]] = [
            lambda: f"{self.pick('n', 'x', 'st', 't', 'p', 'u')}",
            lambda: f"{self.pick('t', 'p', 'u', 'q', 'st')}.{self.pick('a', 'n', 'st', 'x', 'k')}",
            lambda: f"({self.pick('t', 'p', 'st', 'q')}).{self.pick('a', 'n', 'x')}",
            lambda: f"({self.pick('t', 'p', 'q')})::VARCHAR",
            lambda: f"hash({self.pick('t', 'p', 'q', 'k')})",
            lambda: f"list_transform([{self.column(scope)}], lambda {self.pick('n', 'x')}: 1)",
            lambda: f"[n + 1 for n in [{self.column(scope)}]]",
            lambda: f"{{'n': {self.column(scope)}, 'a': 1}}",
            lambda: f"struct_pack(x := {self.column(scope)})",
            lambda: f"{self.pick('s', 'w', 'n', 'x')}.upper()",
            lambda: (
                f'(SELECT max({self.pick("n", "b", "k")}) FROM "source.u" AS u2'
                f" WHERE u2.k = {self.column(scope)})"
            ),
            lambda: (
                f'EXISTS (SELECT {self.pick("1", "*")} FROM "source.u" AS u2'
                f" WHERE u2.k = {self.pick('k', 'n', 'a', 'x', self.column(scope))})"
            ),
            lambda: f'{self.column(scope)} IN (SELECT {self.pick("n", "k")} FROM "source.u")',
            lambda: self.pick(
                "random()", "current_date", "now()", "#1", "uuid()", "unnest([1, 2])"
            ),
            lambda: self.aggregate(scope),
            lambda: self.window(scope),
            lambda: "getvariable('n')",
            lambda: f'{self.column(scope)} = ANY (SELECT k FROM "source.u")',
            lambda: 'array(SELECT b FROM "source.u")',
        ]
        return self._one(strange if self.chance(15) else plain)

    def _one(self, makers: Sequence[Callable[[], str]]) -> str:
        return makers[self.random.randrange(len(makers))]()

    def condition(self, scope: Sequence[Table]) -> str:
        """Write a condition."""
        column = self.column(scope)
        return self.pick(
            f"{column} > 1",
            f"{column} IS NULL",
            f"{column} BETWEEN 0 AND 2",
            f"{column} IN (1, 2)",
            f"{self.column(scope, 'VARCHAR')} LIKE 'a%'",
            f"{column} IS NOT DISTINCT FROM {self.column(scope)}",
            f"NOT ({column} = 2)",
        )  # fmt: skip

    def aggregate(self, scope: Sequence[Table]) -> str:
        """Write an aggregate."""
        column = self.column(scope)
        plain = (
            "count(*)", f"sum({column})", f"count(DISTINCT {column})", f"max({column})",
            f"min({self.column(scope, 'VARCHAR')})", f"avg({column})",
            f"sum({column}) FILTER ({self.condition(scope)})", f"median({column})",
        )  # fmt: skip
        strange = (
            f"first({column})", f"any_value({column})", f"list({column})", f"mode({column})",
            f"string_agg({self.column(scope, 'VARCHAR')}, ',')", f"count({self.pick('p', 't', 'q')})",
            f"arg_max({column}, {self.column(scope)})", f"last({column} ORDER BY {column})",
            f"list({column} ORDER BY {column})", "grouping(k)",
        )  # fmt: skip
        return self.pick(*(strange if self.chance(30) else plain))

    def window(self, scope: Sequence[Table]) -> str:
        """Write a window function."""
        column, other = self.column(scope), self.column(scope)
        return self.pick(
            f"row_number() OVER (ORDER BY {column})",
            f"rank() OVER (ORDER BY {column})",
            f"dense_rank() OVER (PARTITION BY {other} ORDER BY {column} DESC)",
            f"sum({column}) OVER (PARTITION BY {other})",
            f"sum({column}) OVER (PARTITION BY {other} ORDER BY {column})",
            f"sum({column}) OVER (ORDER BY {other} ROWS UNBOUNDED PRECEDING)",
            f"count(*) OVER (ORDER BY {other} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
            f"lag({column}) OVER (ORDER BY {other})",
            f"first_value({column}) OVER (PARTITION BY {other})",
            "count(*) OVER ()",
            f"ntile(2) OVER (ORDER BY {column})",
        )

    def source(self, main: str, ids: Sequence[str]) -> tuple[str, list[Table]]:
        """Write a FROM that reads `main`, and perhaps others, and return its scope."""
        text, first = self._table(main)
        scope = [first]
        if len(ids) > 1 and self.random.randrange(10) < 4:
            right, second = self._table(ids[self.random.randrange(len(ids))])
            if second.alias == first.alias and not self.chance(20):
                second = attrs.evolve(second, alias="q")
                right = f"{right.partition(' AS ')[0]} AS q"
            both = [first, second]
            on = f"{first.alias}.k = {second.alias}.k"
            plain = [
                f"{text} JOIN {right} ON {on}",
                f"{text} LEFT JOIN {right} ON {on}",
                f"{text} FULL JOIN {right} ON {on}",
                f"{text}, {right}",
                f"{text} CROSS JOIN {right}",
            ]
            strange = [
                f"{text} JOIN {right} USING (k)",
                f"{text} LEFT JOIN {right} USING (k)",
                f"{text} NATURAL JOIN {right}",
                f"{text} NATURAL LEFT JOIN {right}",
                f"{text} POSITIONAL JOIN {right}",
                f"{text} ASOF JOIN {right} ON {first.alias}.k >= {second.alias}.k",
                f"{text} SEMI JOIN {right} ON {on}",
                f"{text} ANTI JOIN {right} USING (k)",
                f"({text} JOIN {right} USING (k)) AS z",
                f"{text}, LATERAL (SELECT * FROM {right} WHERE {second.alias}.k = {first.alias}.k)"
                f" AS {second.alias}2",
            ]
            text = self.pick(*(strange if self.chance(35) else plain))
            scope = both
        if self.chance(4):
            text += self.pick(" TABLESAMPLE 50%", ", range(2) AS r(i)", ", unnest([1, 2]) AS r(i)")
        return text, scope

    def _table(self, id: str) -> tuple[str, Table]:
        alias = SHORT[id]
        columns = tuple(self.tables[id].items())
        named = f'"{id}" AS {alias}'
        if self.chance(5):
            return f'"{id}" AS {alias}(k, c)', Table(alias, (("k", "INTEGER"), ("c", "INTEGER")))
        if self.chance(10):
            listed = ", ".join(name for name, _ in columns)
            what = self.pick(listed, "*", f"{alias}.*")
            named = f"(SELECT {what} FROM {named}) AS {alias}"
        return named, Table(alias, columns)

    def items(self, scope: Sequence[Table], grouped: bool) -> list[str]:
        """Write the columns of a SELECT."""
        found: list[str] = []
        for number in range(1 + self.random.randrange(3)):
            if self.chance(10):
                found.append(
                    self.pick(
                        "*", f"{scope[0].alias}.*", f"{scope[-1].alias}.* EXCLUDE (k)",
                        "* EXCLUDE (k)", "* REPLACE (k + 1 AS k)", "COLUMNS('k|n')", "* RENAME (k AS x)",
                        scope[0].alias, f"{scope[0].alias} AS c", "#1", "COLUMNS(* EXCLUDE (k))",
                    )
                )  # fmt: skip
            elif grouped and number:
                found.append(self.aggregate(scope) + f" AS g{number}")
            elif self.random.randrange(2):
                found.append(self.column(scope))
            else:
                name = f"c{number}" if not self.chance(25) else self.pick(*POOL)
                found.append(f"{self.scalar(scope)} AS {name}")
        if self.chance(12):
            found.append(f"{self.window(scope)} AS v")
        return found

    def select(self, main: str, ids: Sequence[str]) -> Select:
        """Make one SELECT over `main`."""
        text, scope = self.source(main, ids)
        grouped = self.random.randrange(4) == 0
        items = self.items(scope, grouped)
        where = f" WHERE {self.condition(scope)}" if self.random.randrange(3) == 0 else ""
        if self.chance(8):
            where = f" WHERE {self.scalar(scope)} IS NOT NULL"
        group = ""
        if grouped:
            key = items[0].partition(" AS ")[0]
            group = f" GROUP BY {key}"
            if self.chance(40):
                group = self.pick(
                    " GROUP BY ALL", " GROUP BY 1", f" GROUP BY ROLLUP ({key})",
                    f" GROUP BY {items[0].rpartition(' AS ')[2]}",
                )  # fmt: skip
            if self.chance(20):
                group += self.pick(" HAVING count(*) > 1", f" HAVING {self.pick(*POOL)} > 1")
        if self.chance(6):
            group += f" QUALIFY {self.window(scope)} = 1"
        tail = ""
        if self.random.randrange(5) == 0:
            tail = f" ORDER BY {self.column(scope)}"
        if self.chance(15):
            tail = self.pick(
                " ORDER BY ALL", " ORDER BY 1", " ORDER BY 2", " LIMIT 2", " ORDER BY k LIMIT 2",
                " LIMIT 50%", f" ORDER BY {self.pick(*POOL)}", " USING SAMPLE 2", " LIMIT 100",
            )  # fmt: skip
        distinct = self.pick("DISTINCT ", "DISTINCT ", "DISTINCT ON (k) ") if self.chance(8) else ""
        return Select(
            items=items, scope=scope, source=text, rest=where + group + tail, distinct=distinct
        )

    def wrapped(self, select: Select, ids: Sequence[str]) -> str:
        """Write a SELECT as it is, or inside something larger."""
        text = str(select)
        if not self.chance(22):
            return text
        return self.pick(
            f"WITH c AS ({text}) SELECT * FROM c",
            f"WITH c AS ({text}) SELECT c FROM c",
            f"SELECT * FROM ({text}) AS c",
            f"SELECT count(*) AS c FROM ({text})",
            f"{text.partition(' ORDER BY ')[0]} UNION ALL SELECT k FROM \"{ids[0]}\"",
            f"{text.partition(' ORDER BY ')[0]} UNION ALL BY NAME SELECT k FROM \"{ids[0]}\"",
            f"({text}) EXCEPT SELECT k FROM \"{ids[0]}\"",
            f"FROM ({text})",
            f"SUMMARIZE {text}",
            f"PIVOT ({text}) ON k IN (1, 2) USING count(*)",
            f"UNPIVOT ({text}) ON k INTO NAME n VALUE v",
            f"CREATE TEMP TABLE c AS {text}; SELECT * FROM c",
            f"SELECT (SELECT count(*) FROM ({text})) AS c, k FROM \"{ids[0]}\" AS {SHORT[ids[0]]}",
            f"SELECT k, EXISTS ({text}) AS c FROM \"source.u\" AS o",
            f"WITH \"{ids[0]}\" AS ({text}) SELECT * FROM \"{ids[0]}\"",
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class Select:
    """One SELECT in its parts."""

    items: list[str]
    scope: list[Table]
    source: str
    rest: str
    distinct: str = ""

    def __str__(self) -> str:
        return f"SELECT {self.distinct}{', '.join(self.items)} FROM {self.source}{self.rest}"

    def with_items(self, added: Sequence[tuple[int, str]]) -> Select:
        """Return the SELECT with more columns, each at a place."""
        items = list(self.items)
        for place, text in added:
            items.insert(place, text)
        return attrs.evolve(self, items=items)


@attrs.frozen
class Databases:
    """The same tables twice, with their rows in different orders."""

    one: duckdb.DuckDBPyConnection
    other: duckdb.DuckDBPyConnection

    def fill(
        self,
        random: Random,
        id: str,
        columns: Mapping[str, str],
        added: Mapping[str, str] | None = None,
    ) -> None:
        """Make a table with a few random rows, many of them equal.

        Args:
            added: more columns, which the other database alone has, anywhere.
        """
        every = {**columns, **(added or {})}
        rows = [
            {name: _value(random, kind) for name, kind in every.items()}
            for _ in range(random.randrange(1, 9))
        ]
        _make(self.one, id, columns, rows)
        random.shuffle(rows)
        names = list(every)
        if added:  # Nobody who is not affected sees their order.
            random.shuffle(names)
        _make(self.other, id, {name: every[name] for name in names}, rows)


def _make(
    connection: duckdb.DuckDBPyConnection,
    id: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, str]],
) -> None:
    listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    values = ", ".join(f"({', '.join(row[name] for name in columns)})" for row in rows)
    connection.execute(
        f'CREATE OR REPLACE TABLE "{id}" ({listed}); INSERT INTO "{id}" VALUES {values}'
    )


def _value(random: Random, kind: str) -> str:
    if random.randrange(6) == 0:
        return "NULL"
    if kind == "VARCHAR":
        return ("'a'", "'b'", "'ab'", "'1'")[random.randrange(4)]
    if kind.startswith("STRUCT"):
        return f"{{'a': {random.randrange(3)}, 'n': {random.randrange(3)}}}"
    return str(random.randrange(4))


@attrs.frozen
class Rows:
    """What a query gave: the names of its columns, and its rows in any order."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def of(self, places: Sequence[int]) -> Counter[tuple[str, ...]]:
        """Return how often each row is there, of some columns."""
        return Counter(tuple(row[place] for place in places) for row in self.rows)


def run(cursor: duckdb.DuckDBPyConnection, sql: str) -> Rows | None:
    """Run a query; None where DuckDB refuses it."""
    try:
        for text in sql.split("; ")[:-1]:
            cursor.execute(text.replace("CREATE TEMP", "CREATE OR REPLACE TEMP"))
        cursor.execute(sql.split("; ")[-1])
        assert cursor.description is not None
        names = tuple(str(column[0]) for column in cursor.description)
        return Rows(names, tuple(tuple(map(_shown, row)) for row in cursor.fetchall()))
    except duckdb.Error:
        return None


def _shown(value: object) -> str:
    """Write a value; sums of floating-point numbers depend on the order of the rows."""
    return f"{value:.9g}" if isinstance(value, float) else repr(value)
