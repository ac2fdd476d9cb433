"""Nodes, as YAML and SQL files have them."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.types import Mode, SchemaChange, TargetSpec
from seeknal_core.project import LoadedProject, load_project
from seeknal_core.project.specs import (
    Audit,
    ChangePolicy,
    ColumnSpec,
    Freshness,
    Severity,
    SourceNode,
    SqlNode,
)

N = TypeVar("N")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "seeknal_project.yml").write_text("name: shop\n")
    (tmp_path / "seeknal").mkdir()
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / "seeknal" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def load(root: Path, text: str, name: str = "n.yml") -> LoadedProject:
    write(root, name, text)
    return load_project(root)


def one(root: Path, text: str, cls: type[N], name: str = "n.yml") -> N:
    (node,) = load(root, text, name).nodes
    assert isinstance(node, cls)
    return node


def refusal(root: Path, text: str | None = None, name: str = "n.yml") -> list[str]:
    if text is not None:
        write(root, name, text)
    with pytest.raises(ConfigError) as caught:
        load_project(root)
    return [str(problem) for problem in caught.value.problems]


def target(root: Path, fields: str) -> TargetSpec:
    text = f"kind: transform\nname: t\ntransform: SELECT 1\nmaterialization: {{{fields}}}\n"
    (found,) = one(root, text, SqlNode).targets
    return found


def target_refusal(root: Path, fields: str) -> list[str]:
    text = f"kind: transform\nname: t\ntransform: SELECT 1\nmaterialization: {{{fields}}}\n"
    return [each.partition("materialization")[2] for each in refusal(root, text)]


# Nodes as a whole


def test_a_source_with_everything(root: Path) -> None:
    node = one(
        root,
        """\
kind: source
name: users
description: people
owner: data-team
tags: [raw, pii]
source: postgres
table: "{{ env_name }}.users"
params: {connection: w, query: SELECT 1, deep: {x: [1]}}
schema:
  - {name: id, data_type: integer}
columns:
  id: key
  at: {description: when, dtype: timestamp}
contract: true
freshness: {warn_after: 24h, error_after: 2d, column: at}
watermark: at
changes: assume-unchanged 10m
max_rows: 10
max_bytes: 1000
""",
        SourceNode,
    )
    assert node.id == "source.users"
    assert (node.type, node.table) == ("postgresql", "{{ env_name }}.users")
    assert (node.description, node.owner, node.tags) == ("people", "data-team", ("raw", "pii"))
    assert node.params == {"connection": "w", "query": "SELECT 1", "deep": {"x": [1]}}
    assert node.columns == (
        ColumnSpec(name="id", dtype="integer", description="key"),
        ColumnSpec(name="at", dtype="timestamp", description="when"),
    )
    assert node.contract is True
    assert node.freshness == Freshness(
        warn_after=timedelta(days=1), error_after=timedelta(days=2), column="at"
    )
    assert node.changes is ChangePolicy.ASSUME_UNCHANGED
    assert node.assume_unchanged_for == timedelta(minutes=10)
    assert (node.watermark, node.max_rows, node.max_bytes) == ("at", 10, 1000)
    assert str(node.location) == "seeknal/n.yml:1:1"


def test_a_transform_knows_where_its_sql_starts(root: Path) -> None:
    text = "kind: transform\nname: t\ninputs:\n- ref: source.a\ntransform: |\n  SELECT 1\n"
    node = one(root, text, SqlNode)
    assert (node.sql, node.inputs) == ("SELECT 1\n", ("source.a",))
    assert str(node.sql_location) == "seeknal/n.yml:6:3"


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("transform: SELECT 1", "3:12"),
        ("transform: 'SELECT 1'", "3:13"),
        ('transform:\n  "SELECT 1"', "4:4"),
        ("transform:\n    |\n    SELECT 1", "5:5"),
        ("transform: |\n\n     SELECT 1", "4:6"),
        ("transform: |2\n     SELECT 1", "4:3"),
    ],
)
def test_sql_starts_where_its_first_letter_stands(root: Path, written: str, place: str) -> None:
    text = f"kind: transform\nname: t\n{written}\n"
    assert str(one(root, text, SqlNode).sql_location) == f"seeknal/n.yml:{place}"


def test_several_nodes_stand_in_a_file_and_files_in_any_folder(root: Path) -> None:
    write(root, "a/b/x.yaml", "kind: source\nname: a\nsource: csv\ntable: a.csv\n")
    document = "kind: transform\nname: {}\ntransform: SELECT 1\n"
    project = load(root, document.format("b") + "---\n" + document.format("c") + "---\n")
    assert [node.id for node in project.nodes] == ["source.a", "transform.b", "transform.c"]


def test_a_project_without_nodes_is_fine(root: Path) -> None:
    assert load_project(root).nodes == ()
    (root / "seeknal").rmdir()
    assert load_project(root).nodes == ()


def test_a_duplicate_names_both_files(root: Path) -> None:
    document = "kind: source\nname: {}\nsource: csv\ntable: a.csv\n"
    write(root, "a.yml", document.format("x"))
    write(root, "b.yml", document.format("x"))
    write(root, "c.yml", document.format("X"))
    first, second = refusal(root)
    assert first.startswith("seeknal/b.yml:1:1: name: node 'source.x' is also defined in seeknal/a")
    assert "'source.X' differs in case only from 'source.x'" in second
    assert second.startswith("seeknal/c.yml:1:1")


def test_a_source_and_a_transform_may_share_a_name(root: Path) -> None:
    project = load(
        root,
        "kind: source\nname: x\nsource: csv\ntable: a\n---\n"
        "kind: transform\nname: x\ntransform: SELECT 1\n",
    )
    assert len(project.nodes) == 2


def test_all_mistakes_of_all_files_come_at_once_in_order(root: Path) -> None:
    (root / "seeknal_project.yml").write_text("nme: shop\n")
    write(root, "b.yml", "kind: source\nname: s\nsource: csv\ntabel: x\ntags: x\n")
    write(root, "a.yml", "kind: [\n")
    assert refusal(root) == [
        "seeknal/a.yml:2:1: is not YAML: did not find expected node content",
        "seeknal/b.yml:4:1: tabel: unknown field; did you mean 'table'?",
        "seeknal/b.yml:5:1: tags: is a string, not a list; write [...], or one '- ...' a line",
        "seeknal_project.yml:1:1: nme: unknown field; did you mean 'name'?",
        "seeknal_project.yml:1:1: name: is missing",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\n", "1:1: 'kind' is missing; write kind: source or kind: transform"),
        ("knd: source\nname: x\n", "1:1: knd: unknown field; did you mean 'kind'?"),
        ("kind: zzz\nname: x\ntransform: x\n", "1:1: kind: 'zzz' is not one of source, transf"),
        (
            "kind: zz\nname: x\nsource: x\n",
            "1:1: kind: 'zz' is not one of source, transform; a node",
        ),
        ("kind: [a]\nname: x\n", "1:1: kind: a list is not one of source, transform"),
        ("kind: sorce\nname: x\n", "1:1: kind: 'sorce' is not one of source, transform; did you"),
        ("- a\n", "1:1: is not a node"),
        ("# nothing\n", " holds no node"),
        ("", " is empty"),
        ("kind: source\nsource: csv\ntable: x\n", "1:1: name: is missing"),
        ("kind: source\nname: 7\nsource: csv\ntable: x\n", "2:1: name: is a number, not a string"),
        (
            "kind: source\nname: a/b\nsource: csv\ntable: x\n",
            "2:1: name: 'a/b' is not a node's name",
        ),
        ("kind: source\nname: x\nsource: csv\n", "3:1: source: a source of type csv names no file"),
        ("kind: source\nname: x\nsource: csv\ntable: a\nparams: {path: b}\n", "5:10: params.path:"),
        ("kind: source\nname: x\nsource: y\nconnection: w\n", "4:1: connection: is not a field"),
        ("kind: source\nname: x\nsource: y\nmax_rows: 0\n", "4:1: max_rows: is less than 1"),
        (
            "kind: source\nname: x\nsource: y\nchanges: often\n",
            "4:1: changes: 'often' is not one of",
        ),
        ("kind: source\nname: x\nsource: y\nchanges: assume-unchanged\n", "4:1: changes: is not a"),
        ("kind: source\nname: x\nsource: y\nchanges: never 3m\n", "4:1: changes: 'never' takes no"),
        (
            "kind: source\nname: x\nsource: y\nfreshness: {warn: 1h}\n",
            "4:13: freshness.warn: unkno",
        ),
        ("kind: transform\nname: x\n", "1:1: transform: is missing"),
        ("kind: transform\nname: x\ntransform: ' '\n", "3:1: transform: holds no SQL"),
        (
            "kind: transform\nname: x\ntransform: S\ninputs: [source.a]\n",
            "4:10: inputs[0]: is a st",
        ),
        (
            "kind: transform\nname: x\ntransform: S\ninputs: [{ref: a}]\n",
            "4:11: inputs[0].ref: is ",
        ),
        ("kind: transform\nname: x\ntransform: S\ninput: []\n", "4:1: input: unknown field; did y"),
        ("kind: transform\nname: x\ntransform: S\ncontract: 1\n", "4:1: contract: is a number, no"),
    ],
)
def test_a_mistake_is_told_once_with_its_place(root: Path, text: str, message: str) -> None:
    (found,) = refusal(root, text)
    assert found.startswith(f"seeknal/n.yml:{message}")


# Kinds and fields of the wider tool


def test_an_unsupported_kind_is_reported_by_name(root: Path) -> None:
    text = "kind: feature_group\nname: f\nentity: user\n"
    (found,) = refusal(root, text)
    assert found.startswith("seeknal/n.yml:1:1: kind: kind 'feature_group' is not supported")
    assert "--ignore-unsupported" in found


def test_unsupported_nodes_can_be_skipped(root: Path) -> None:
    write(
        root, "f.yml", "kind: source\nname: s\nsource: csv\ntable: x\n---\nkind: model\nname: m\n"
    )
    project = load_project(root, ignore_unsupported=True)
    assert [node.id for node in project.nodes] == ["source.s"]
    assert {id: str(place) for id, place in project.skipped.items()} == {
        "model.m": "seeknal/f.yml:6:1"
    }


def test_fields_of_older_projects_are_warned_about_once_by_name(root: Path) -> None:
    document = "kind: transform\nname: {}\ntransform: SELECT 1\nentity: user\n"
    write(root, "a.yml", document.format("a"))
    write(
        root,
        "b.yml",
        document.format("b") + "materialization: {table: a.b.c, create_table: true}\n",
    )
    write(root, "common/sources.yml", "sources:\n- {id: x, ref: source.y}\n")
    project = load_project(root)
    assert sorted(str(warning) for warning in project.warnings) == [
        "seeknal/a.yml:4:1: entity: 'entity' is of Seeknal 2.x and has no effect (and 1 more)",
        "seeknal/b.yml:5:33: materialization.create_table: "
        "'create_table' is of Seeknal 2.x and has no effect",
        "seeknal/common/sources.yml:1:1: sources: "
        "'seeknal/common: sources' is of Seeknal 2.x and has no effect",
    ]
    assert len(project.nodes) == 2


# Columns and audits


def test_declared_types_have_other_words(root: Path) -> None:
    text = (
        "kind: source\nname: s\nsource: csv\ntable: a\ncolumns: {a: {dtype: BIGINT}, b: {}, c: }\n"
    )
    node = one(root, text, SourceNode)
    assert [(column.name, column.dtype) for column in node.columns] == [
        ("a", "integer"),
        ("b", None),
        ("c", None),
    ]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("columns: [a]", "5:1: columns: is a list, not a mapping; write name: description"),
        ("columns: {a: {dtype: strng}}", "5:15: columns.a.dtype: 'strng' is not one of integer,"),
        ("columns: {a: 1}", "5:11: columns.a: is a number, not a mapping"),
        ("columns: {a: {descr: x}}", "5:15: columns.a.descr: unknown field"),
        ("schema: {a: integer}", "5:1: schema: is a mapping, not a list"),
        ("schema: [{name: a, data_type: x}]", "5:20: schema[0].data_type: 'x' is not one of"),
        ("schema: [{name: a}, {name: a}]", "5:21: schema[1]: column 'a' is declared twice"),
        ("schema: [{data_type: integer}]", "5:10: schema[0].name: is missing"),
        (
            "{columns: {a: {dtype: date}}, schema: [{name: a, data_type: integer}]}"[1:-1].replace(
                ", schema", "\nschema"
            ),
            "6:10: schema[0]: column 'a' is integer here and date under 'columns'",
        ),
        ("audits: {type: unique}", "5:1: audits: is a mapping, not a list"),
        ("audits: [{columns: [a]}]", "5:10: audits[0].type: is missing"),
        ("audits: [{type: uniq, columns: [a]}]", "5:11: audits[0].type: 'uniq' is not one of"),
        ("audits: [{type: unique}]", "5:10: audits[0]: a unique audit needs 'columns'"),
        ("audits: [{type: unique, columns: a}]", "5:25: audits[0].columns: is a string, not a"),
        ("audits: [{type: unique, columns: [a], min: 1}]", "5:39: audits[0].min: no field of a u"),
        ("audits: [{type: accepted_values, columns: [a]}]", "5:10: audits[0]: a accepted_values"),
        ("audits: [{type: row_count}]", "5:10: audits[0]: a row_count audit needs 'min' or 'max'"),
        ("audits: [{type: row_count, min: 2, max: 1}]", "5:28: audits[0].min: is greater than"),
        ("audits: [{type: row_count, min: -1}]", "5:28: audits[0].min: is negative"),
        ("audits: [{type: custom_sql}]", "5:10: audits[0]: a custom_sql audit needs 'sql'"),
        (
            "audits: [{type: custom_sql, sql: x, severity: hm}]",
            "5:37: audits[0].severity: 'hm' is not ",
        ),
        (
            "audits: [{type: relationships, column: a, to: b, field: c}]",
            "5:43: audits[0].to: is not a node",
        ),
    ],
)
def test_mistakes_in_columns_and_audits(root: Path, field: str, message: str) -> None:
    text = f"kind: source\nname: s\nsource: csv\ntable: a\n{field}\n"
    (found,) = refusal(root, text)
    assert found.startswith(f"seeknal/n.yml:{message}")


def test_audits_of_all_types(root: Path) -> None:
    node = one(
        root,
        """\
kind: source
name: s
source: csv
table: a
audits:
  - {type: not_null, columns: [a, b], severity: warn}
  - {type: unique, columns: [a]}
  - {type: accepted_values, columns: [c], values: [x, 1, null, true, 2024-01-02]}
  - {type: row_count, min: 0}
  - {type: custom_sql, sql: SELECT 1}
  - {type: relationships, column: a, to: source.t, field: id}
""",
        SourceNode,
    )
    assert node.audits == (
        Audit(type="not_null", columns=("a", "b"), severity=Severity.WARN),
        Audit(type="unique", columns=("a",)),
        Audit(
            type="accepted_values", columns=("c",), values=("x", 1, None, True, date(2024, 1, 2))
        ),
        Audit(type="row_count", min=0),
        Audit(type="custom_sql", sql="SELECT 1"),
        Audit(type="relationships", column="a", to="source.t", field="id"),
    )
    assert str(node.audits[1].location) == "seeknal/n.yml:7:5"


# Targets


def test_a_target_with_everything(root: Path) -> None:
    found = target(
        root,
        "type: postgres, connection: w, table: a.b, mode: incremental_by_time, unique_keys: [k], "
        "time_column: t, lookback: 7d, partition_by: ['day(t)'], on_schema_change: fail, "
        "enabled: false, fillfactor: 70",
    )
    assert found == TargetSpec(
        node="transform.t",
        type="postgresql",
        connection="w",
        table="a.b",
        mode=Mode.INCREMENTAL_BY_TIME,
        unique_keys=("k",),
        time_column="t",
        lookback=timedelta(days=7),
        partition_by=("day(t)",),
        on_schema_change=SchemaChange.FAIL,
        enabled=False,
        options={"fillfactor": 70},
    )
    assert str(found.location) == "seeknal/n.yml:4:1"


def test_a_target_says_nothing_that_was_not_written(root: Path) -> None:
    found = target(root, "table: c.n.t, lookback: 3")
    assert (found.type, found.mode, found.connection) == ("iceberg", None, None)
    assert found.lookback == timedelta(days=3)


@pytest.mark.parametrize(
    ("word", "mode"),
    [
        ("full", Mode.FULL),
        ("overwrite", Mode.FULL),
        ("append", Mode.APPEND),
        ("upsert", Mode.UPSERT_BY_KEY),
        ("upsert_by_key", Mode.UPSERT_BY_KEY),
        ("insert_overwrite", Mode.INCREMENTAL_BY_TIME),
        ("incremental_by_time", Mode.INCREMENTAL_BY_TIME),
    ],
)
def test_modes_and_their_aliases(root: Path, word: str, mode: Mode) -> None:
    fields = f"table: t, mode: {word}, unique_keys: [k], time_column: t"
    assert target(root, fields).mode is mode


@pytest.mark.parametrize("key", ["materialization", "materializations"])
def test_a_mapping_and_a_list_mean_the_same_under_both_keys(root: Path, key: str) -> None:
    head = "kind: transform\nname: t\ntransform: SELECT 1\n"
    single = one(root, f"{head}{key}: {{table: a.b}}\n", SqlNode).targets
    listed = one(root, f"{head}{key}:\n- table: a.b\n", SqlNode).targets
    assert single == listed
    several = one(root, f"{head}{key}:\n- table: a.b\n- table: a.c\n", SqlNode).targets
    assert [each.table for each in several] == ["a.b", "a.c"]


def test_both_keys_at_once_are_an_error(root: Path) -> None:
    text = (
        "kind: transform\nname: t\ntransform: SELECT 1\n"
        "materialization: {table: a}\nmaterializations: [{table: b}]\n"
    )
    (found,) = refusal(root, text)
    assert found.startswith("seeknal/n.yml:5:1: materializations: stands beside 'materialization'")


def test_a_disabled_target_needs_no_table(root: Path) -> None:
    text = "kind: transform\nname: t\ntransform: SELECT 1\nmaterialization: {enabled: false}\n"
    assert one(root, text, SqlNode).targets == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("mode: append", ".table: is missing"),
        ("table: t, mode: fulll", ".mode: 'fulll' is not one of full, append, upsert_by_key"),
        ("table: t, mode: upsert_by_key", ": mode 'upsert_by_key' needs 'unique_keys'; write uniq"),
        ("table: t, mode: incremental_by_time", ": mode 'incremental_by_time' needs 'time_column'"),
        ("table: t, unique_keys: k", ".unique_keys: is a string, not a list"),
        ("table: t, unique_key: [k]", ".unique_key: unknown field; did you mean 'unique_keys'?"),
        ("table: t, partition_by: {range: x}", ".partition_by: is a mapping, not a list"),
        (
            "table: t, lookback: 7 years",
            ".lookback: '7 years' is not a duration; write a number and one of",
        ),
        ("table: t, lookback: [7]", ".lookback: is a list, not a whole number or a duration"),
        ("table: t, lookback: -1", ".lookback: is negative"),
        ("table: t, lookback: 99999999999", ".lookback: is too long a duration"),
        ("table: t, on_schema_change: ignore", ".on_schema_change: 'ignore' is not one of evolve"),
        ("table: ''", ".table: is empty"),
        ("table: t, enabled: 'no'", ".enabled: is a string, not true or false"),
    ],
)
def test_mistakes_in_targets(root: Path, fields: str, message: str) -> None:
    (found,) = target_refusal(root, fields)
    assert found.startswith(message)


def test_the_same_target_twice_is_a_mistake(root: Path) -> None:
    text = (
        "kind: transform\nname: t\ntransform: SELECT 1\n"
        "materializations: [{table: a}, {table: a, mode: append}]\n"
    )
    (found,) = refusal(root, text)
    assert "materializations[1]: names the same table" in found


# SQL files


@pytest.mark.parametrize(
    "header",
    [
        "/* ---\nname: n\ntags: [x]\n--- */\n",
        "/* --- yaml\nname: n\ntags: [x]\n--- */\n",
        "/* --- yaml ---\nname: n\ntags: [x]\n*/\n",
        "/*\n---\nname: n\ntags: [x]\n---\n*/\n",
        "/* ---\r\nname: n\r\ntags: [x]\r\n--- */\r\n",
        "/* --- {name: n, tags: [x]} --- */\n",
    ],
)
def test_a_sql_file_bears_its_fields_in_a_comment(root: Path, header: str) -> None:
    (root / "seeknal/f.sql").write_bytes((header + "\nSELECT 1").encode())
    (node,) = load_project(root).nodes
    assert isinstance(node, SqlNode)
    assert (node.id, node.tags, node.sql) == ("transform.n", ("x",), "SELECT 1")
    assert node.sql_location.line == header.count("\n") + 2


def test_a_bare_sql_file_is_named_by_its_stem(root: Path) -> None:
    node = one(root, "-- c\nSELECT 1 /* --- */\n", SqlNode, "sub/clean.sql")
    assert (node.id, node.sql) == ("transform.clean", "-- c\nSELECT 1 /* --- */\n")
    assert str(node.sql_location) == "seeknal/sub/clean.sql:1:1"


def test_a_sql_file_takes_the_fields_of_its_sibling(root: Path) -> None:
    write(root, "clean.yml", "owner: me\ninputs: [{ref: source.a}]\n")
    node = one(root, "SELECT 1", SqlNode, "clean.sql")
    assert (node.id, node.owner, node.inputs) == ("transform.clean", "me", ("source.a",))
    assert str(node.location) == "seeknal/clean.yml:1:1"


def test_a_sibling_with_nodes_of_its_own_is_no_sibling(root: Path) -> None:
    write(root, "x.yml", "kind: source\nname: s\nsource: csv\ntable: a\n")
    write(root, "x.sql", "SELECT 1")
    assert [node.id for node in load_project(root).nodes] == ["source.s", "transform.x"]


def test_a_mistake_in_a_comment_has_its_place_in_the_sql_file(root: Path) -> None:
    text = "/* ---\nname: x\ntag: [y]\n--- */\nSELECT 1"
    assert refusal(root, text, "f.sql") == [
        "seeknal/f.sql:3:1: tag: unknown field; did you mean 'tags'?"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/* ---\nname: x\n", "seeknal/f.sql:1: the comment with the fields is not closed"),
        ("/* ---\nname: x\n--- */\n", "seeknal/f.sql:2:1: transform: holds no SQL"),
        ("/* ---\nkind: source\n--- */\nSELECT 1", "seeknal/f.sql:2:1: kind: is not 'transform'"),
        ("/* ---\ntransform: x\n--- */\nSELECT 1", "seeknal/f.sql:2:1: transform: stands beside"),
        ("/* ---\n- x\n--- */\nSELECT 1", "seeknal/f.sql:2:1: is not a node"),
        ("", "seeknal/f.sql: is empty"),
    ],
)
def test_mistakes_in_sql_files(root: Path, text: str, message: str) -> None:
    (found,) = refusal(root, text, "f.sql")
    assert found.startswith(message)


def test_fields_in_two_places_are_refused(root: Path) -> None:
    write(root, "f.yml", "owner: me\n")
    (found,) = refusal(root, "/* ---\nname: x\n--- */\nSELECT 1", "f.sql")
    assert "keep the fields here or in seeknal/f.yml" in found


def test_mistakes_of_every_kind_are_told_at_once(root: Path) -> None:
    """What is wrong with the YAML itself hides nothing that is wrong with the node."""
    text = (
        "kind: source\nname: a\nname: b\nsource: !secret csv\ntable: x.csv\ntagz: [x]\n"
        "---\nkind: sorce\nname: c\n"
    )
    assert [line.partition(":")[2] for line in refusal(root, text)] == [
        "3:1: name: is written twice, first on line 2",
        "4:9: source: a tag that is not allowed; put quotes around a value that starts with !",
        "6:1: tagz: unknown field; did you mean 'tags'?",
        "8:1: kind: 'sorce' is not one of source, transform; did you mean 'source'?",
    ]


def test_the_params_of_a_file_are_checked_before_anything_runs(root: Path) -> None:
    text = (
        "kind: source\nname: a\nsource: csv\ntable: a.csv\n"
        "params: {delimeter: ';', header: 'yes', skip: -1}\n"
        "---\nkind: source\nname: b\nsource: csv\ntable: a.csv\n"
        "params: {delim: ';', delimiter: ','}\n"
        "---\nkind: source\nname: c\nsource: json\ntable: a.json\nparams: {skip: 1}\n"
        "---\nkind: source\nname: d\nsource: csv\ntable: a.csv\nparams: {delimiter: '', skip: -1}\n"
    )
    assert [line.partition(":")[2] for line in refusal(root, text)] == [
        "5:10: params.delimeter: unknown field; did you mean 'delimiter'?",
        "5:26: params.header: is a string, not true or false",
        "11:22: params.delimiter: means the same as 'delim'",
        "17:10: params.skip: unknown field",
        "23:10: params.delimiter: is empty",
        "23:25: params.skip: is negative",
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{from: 2024-01-01, to: 2024-02-01}", ("2024-01-01", "2024-02-01")),
        ("{from: 2024-01-01T06:00:00, to: '2024-01-02'}", ("2024-01-01T06:00:00", "2024-01-02")),
        ("{from: '{{ yesterday }}', to: '{{ today }}'}", ("{{ yesterday }}", "{{ today }}")),
    ],
)
def test_a_transform_says_what_it_covers(
    root: Path, written: str, expected: tuple[str, str]
) -> None:
    text = f"kind: transform\nname: t\ntransform: SELECT 1\ncovers: {written}\n"
    text += "materialization: {table: t, mode: incremental_by_time, time_column: at}\n"
    write(root, "t.yml", text)
    [node] = load_project(root).nodes
    assert node.covers == expected
    assert [spec.covers for spec in node.targets] == [expected]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("2024-01-01", "covers: is a date"),
        ("{from: 2024-01-01}", "covers: is from, not from and to"),
        ("{from: 2024-01-01, to: soon}", "covers: 'soon' is no date and no time in ISO 8601"),
        ("{from: 2024-01-01, to: 3}", "covers.to: is no date and no time"),
        ("{from: 2024-01-02, to: 2024-01-02}", "covers: ends (2024-01-02) before it begins"),
    ],
)
def test_what_is_covered_is_an_interval(root: Path, written: str, message: str) -> None:
    text = f"kind: transform\nname: t\ntransform: SELECT 1\ncovers: {written}\n"
    write(root, "t.yml", text)
    with pytest.raises(ConfigError) as raised:
        load_project(root)
    assert message in str(raised.value)


def test_an_overwrite_replaces_partitions_or_days(root: Path) -> None:
    found = target(root, "table: t, mode: insert_overwrite, partition_by: [day]")
    assert found.mode is Mode.INSERT_OVERWRITE
    found = target(root, "table: t, mode: insert_overwrite, time_column: at")
    assert found.mode is Mode.INCREMENTAL_BY_TIME


def test_a_lookback_is_warned_about_once(root: Path) -> None:
    text = "kind: transform\nname: {0}\ntransform: SELECT 1\nmaterialization:\n"
    text += "  {{table: {0}, mode: incremental_by_time, time_column: at, lookback: 2d}}\n"
    for name in "abc":
        write(root, f"{name}.yml", text.format(name))
    [warning] = load_project(root).warnings
    assert "'lookback' has no effect" in warning.message and "(and 2 more)" in warning.message
