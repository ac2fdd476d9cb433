"""Mode full: the table equals the snapshot, and what hangs on it stays."""

from __future__ import annotations

import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode
from support.postgres_hooks import Database

THREE = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
OTHER = pa.table({"id": [2, 3, 4], "name": ["b", "C", "d"]})
THREE_ROWS = [(1, "a"), (2, "b"), (3, "c")]
OTHER_ROWS = [(2, "b"), (3, "C"), (4, "d")]


def rows(db: Database) -> list[tuple[object, ...]]:
    return db.rows("SELECT id, name FROM s.t ORDER BY id, name")


def test_a_table_is_made_and_replaced(db: Database) -> None:
    target = db.target("s.t")
    first = db.write(target, THREE)
    assert (first.rows_written, first.rows_after, first.created) == (3, 3, True)
    second = db.write(target, OTHER)
    assert (second.rows_written, second.rows_after, second.created) == (3, 3, False)
    assert rows(db) == OTHER_ROWS
    assert second.version != first.version


def test_zero_rows_make_an_empty_table_and_empty_a_full_one(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, THREE.slice(0, 0))
    assert rows(db) == []
    db.write(target, THREE)
    assert db.write(target, THREE.slice(0, 0)).rows_after == 0
    assert rows(db) == []


def test_rows_that_are_alike_are_all_kept(db: Database) -> None:
    target = db.target("s.t")
    twice = pa.concat_tables([THREE, THREE])
    for _ in range(2):
        assert db.write(target, twice).rows_after == 6


@pytest.mark.parametrize("keys", [(), ("id",)])
def test_a_declared_key_and_none_end_in_the_same_rows(db: Database, keys: tuple[str, ...]) -> None:
    target = db.target("s.t", unique_keys=keys)
    for snapshot in (THREE, OTHER, THREE):
        db.write(target, snapshot)
    assert rows(db) == THREE_ROWS


def test_with_a_key_only_rows_that_really_changed_are_written(db: Database) -> None:
    target = db.target("s.t", unique_keys=("id",))
    nan = pa.table({"id": [1, 2], "f": [float("nan"), 1.0], "j": pa.array(["{}", None])})
    db.write(target, nan)
    db.execute("ALTER TABLE s.t ALTER j TYPE json USING j::json")
    before = db.rows("SELECT id, ctid, xmin FROM s.t ORDER BY id")
    db.write(target, nan)
    assert db.rows("SELECT id, ctid, xmin FROM s.t ORDER BY id") == before
    db.write(target, nan.set_column(1, "f", pa.array([float("nan"), 2.0])))
    after = db.rows("SELECT id, ctid, xmin FROM s.t ORDER BY id")
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_numbers_that_are_equal_but_not_the_same_are_changes(db: Database) -> None:
    target = db.target("s.t", unique_keys=("id",))
    db.write(target, pa.table({"id": [1], "f": [0.0]}))
    db.write(target, pa.table({"id": [1], "f": [-0.0]}))
    assert db.rows("SELECT f::text FROM s.t") == [("-0",)]


def test_a_key_that_stands_twice_or_is_null_is_refused(db: Database) -> None:
    target = db.target("s.t", unique_keys=("id",))
    twice = pa.concat_tables([THREE, THREE.slice(0, 1)])
    null = pa.table({"id": pa.array([1, None]), "name": ["a", "b"]})
    for bad, words in ((twice, "are duplicated"), (null, "NULL")):
        with pytest.raises(WriteRefused, match=words):
            db.write(target, bad)
        assert db.value("SELECT to_regclass('s.t') IS NULL")
    db.write(target, THREE)
    for bad, words in ((twice, "are duplicated"), (null, "NULL")):
        with pytest.raises(WriteRefused, match=words):
            db.write(target, bad)
        assert rows(db) == THREE_ROWS


def test_a_table_whose_own_rows_share_a_declared_key_is_put_right(db: Database) -> None:
    target = db.target("s.t", unique_keys=("id",))
    db.write(target, THREE)
    db.execute("INSERT INTO s.t VALUES (1, 'again'), (NULL, 'none')")
    assert db.write(target, OTHER).rows_after == 3
    assert rows(db) == OTHER_ROWS


ATTACHED = (
    "ALTER TABLE s.t ADD PRIMARY KEY (id)",
    "CREATE INDEX by_name ON s.t (name) WITH (fillfactor = 70)",
    "ALTER TABLE s.t ADD CONSTRAINT named CHECK (name <> '')",
    "ALTER TABLE s.t ADD made int GENERATED ALWAYS AS IDENTITY (START 100)",
    "ALTER TABLE s.t ADD twice bigint GENERATED ALWAYS AS (id * 2) STORED",
    "CREATE VIEW s.v WITH (security_barrier) AS SELECT * FROM s.t",
    "CREATE VIEW s.vv AS SELECT count(*) AS n FROM s.v",
    "CREATE MATERIALIZED VIEW s.m AS SELECT * FROM s.t",
    "CREATE TABLE s.child (t_id bigint REFERENCES s.t (id) ON DELETE CASCADE)",
    "INSERT INTO s.child VALUES (2), (3)",
    "COMMENT ON TABLE s.t IS 'mine'",
    "COMMENT ON COLUMN s.t.name IS 'called'",
    "GRANT SELECT ON s.t TO PUBLIC",
    "GRANT UPDATE (name) ON s.t TO PUBLIC",
    "CREATE POLICY p ON s.t USING (id > 0)",
    "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY",
    "CREATE FUNCTION s.seen() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER tr AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.seen()",
    "ALTER TABLE s.t SET (autovacuum_enabled = false)",
    "CREATE STATISTICS s.st ON id, name FROM s.t",
)
CATALOG = """
SELECT (SELECT row(relowner, relacl::text, reloptions::text, relrowsecurity, oid)::text
        FROM pg_class WHERE oid = 's.t'::regclass),
       (SELECT array_agg(row(indexrelid, indisvalid)::text ORDER BY indexrelid)::text
        FROM pg_index WHERE indrelid = 's.t'::regclass),
       (SELECT array_agg(pg_get_constraintdef(oid) ORDER BY oid)::text FROM pg_constraint
        WHERE conrelid = 's.t'::regclass OR confrelid = 's.t'::regclass),
       (SELECT array_agg(row(attname, atttypid, attnum, attacl::text)::text ORDER BY attnum)::text
        FROM pg_attribute WHERE attrelid = 's.t'::regclass AND attnum > 0),
       (SELECT array_agg(row(objsubid, description)::text ORDER BY objsubid)::text
        FROM pg_description WHERE objoid = 's.t'::regclass),
       (SELECT array_agg(row(oid, polname)::text)::text FROM pg_policy WHERE polrelid = 's.t'::regclass),
       (SELECT array_agg(tgname::text ORDER BY tgname)::text FROM pg_trigger
        WHERE tgrelid = 's.t'::regclass AND NOT tgisinternal),
       (SELECT array_agg(stxname)::text FROM pg_statistic_ext WHERE stxrelid = 's.t'::regclass),
       pg_get_viewdef('s.v'::regclass), pg_get_serial_sequence('s.t', 'made')
"""


def test_everything_attached_to_a_table_survives(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, THREE)
    db.execute(*ATTACHED)
    before = db.rows(CATALOG)
    db.write(target, OTHER)
    assert rows(db) == OTHER_ROWS
    assert db.rows(CATALOG) == before
    assert db.rows("SELECT id, twice, made FROM s.v ORDER BY id") == [
        (2, 4, 101),
        (3, 6, 102),
        (4, 8, 103),
    ]
    assert db.value("SELECT n FROM s.vv") == 3
    assert db.rows("SELECT t_id FROM s.child ORDER BY 1") == [(2,), (3,)]


def test_a_foreign_key_keeps_its_children_and_refuses_to_lose_a_parent(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, THREE)
    db.execute(
        "ALTER TABLE s.t ADD PRIMARY KEY (id)",
        "CREATE TABLE s.child (t_id bigint REFERENCES s.t (id))",
        "INSERT INTO s.child VALUES (1)",
    )
    with pytest.raises(WriteRefused, match="child"):
        db.write(target, OTHER)
    assert rows(db) == THREE_ROWS
    db.write(target, pa.concat_tables([OTHER, THREE.slice(0, 1)]))
    assert rows(db) == [(1, "a"), *OTHER_ROWS]


def test_a_referenced_table_is_refused_a_snapshot_without_its_key(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, THREE)
    db.execute(
        "ALTER TABLE s.t ALTER id SET DEFAULT 0, ADD PRIMARY KEY (id)",
        "CREATE TABLE s.child (t_id bigint REFERENCES s.t (id) ON DELETE CASCADE)",
        "INSERT INTO s.child VALUES (1)",
    )
    with pytest.raises(WriteRefused, match=r"s\.child refers to it"):
        db.write(target, THREE.select(["name"]))
    assert db.rows("SELECT t_id FROM s.child") == [(1,)]


def test_unique_values_may_move_between_keys(db: Database) -> None:
    target = db.target("s.t", unique_keys=("id",))
    db.write(target, THREE)
    db.execute("ALTER TABLE s.t ADD UNIQUE (name)")
    swapped = pa.table({"id": [1, 2, 3], "name": ["b", "a", "c"]})
    db.write(target, swapped)
    assert rows(db) == [(1, "b"), (2, "a"), (3, "c")]


def test_unique_values_do_not_move_at_the_cost_of_a_child(db: Database) -> None:
    target = db.target("s.t", unique_keys=("id",))
    db.write(target, THREE)
    db.execute(
        "ALTER TABLE s.t ADD PRIMARY KEY (id), ADD UNIQUE (name)",
        "CREATE TABLE s.child (t_id bigint REFERENCES s.t (id) ON DELETE CASCADE)",
        "INSERT INTO s.child VALUES (1)",
    )
    with pytest.raises(WriteRefused, match="unique"):
        db.write(target, pa.table({"id": [1, 2, 3], "name": ["b", "a", "c"]}))
    assert db.rows("SELECT t_id FROM s.child") == [(1,)]
    assert rows(db) == THREE_ROWS


def test_columns_the_snapshot_lacks_stay_with_their_defaults(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, THREE)
    db.execute("ALTER TABLE s.t ADD note text DEFAULT 'new', ADD other text")
    db.write(target, OTHER)
    assert set(db.rows("SELECT note, other FROM s.t")) == {("new", None)}


def test_a_kept_row_keeps_what_somebody_wrote_beside_the_snapshots_columns(db: Database) -> None:
    target = db.target("s.t", unique_keys=("id",))
    db.write(target, THREE)
    db.execute("ALTER TABLE s.t ADD note text", "UPDATE s.t SET note = 'seen ' || id")
    db.write(target, OTHER)
    assert db.rows("SELECT id, note FROM s.t ORDER BY id") == [
        (2, "seen 2"),
        (3, "seen 3"),
        (4, None),
    ]


def test_a_published_table_without_identity_is_refused_with_the_mend(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, THREE)
    db.execute("CREATE PUBLICATION pub FOR TABLE s.t")
    with pytest.raises(WriteRefused, match="replica identity") as refused:
        db.write(target, OTHER)
    assert "REPLICA IDENTITY FULL" in refused.value.hint
    db.execute("ALTER TABLE s.t REPLICA IDENTITY FULL")
    db.write(target, OTHER)
    assert db.value("SELECT count(*) FROM pg_publication_rel WHERE prrelid = 's.t'::regclass") == 1


def test_a_view_is_not_written_to(db: Database) -> None:
    db.execute("CREATE SCHEMA s", "CREATE VIEW s.t AS SELECT 1 AS id")
    with pytest.raises(WriteRefused, match="a view"):
        db.write(db.target("s.t"), THREE, context=db.context(adopt=True))


def test_a_partitioned_table_is_filled(db: Database) -> None:
    db.execute(
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (id bigint, name text) PARTITION BY RANGE (id)",
        "CREATE TABLE s.t1 PARTITION OF s.t FOR VALUES FROM (0) TO (3)",
        "CREATE TABLE s.t2 PARTITION OF s.t DEFAULT",
    )
    target = db.target("s.t")
    db.write(target, THREE, context=db.context(adopt=True))
    assert db.write(target, OTHER).rows_after == 3
    assert db.rows("SELECT id FROM s.t1") == [(2,)]


def test_full_refresh_replaces_a_table_of_any_mode(db: Database) -> None:
    target = db.target("s.t", Mode.APPEND)
    db.write(target, THREE)
    db.write(target, OTHER)
    assert db.write(target, OTHER, context=db.context(full_refresh=True)).rows_after == 3
    assert rows(db) == OTHER_ROWS
    assert db.write(target, OTHER).rows_written == 0
    assert db.write(target, THREE).rows_after == 6
