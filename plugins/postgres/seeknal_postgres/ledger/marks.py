"""The marks of tables, which cost nothing, and the exact look after a mark changed.

A mark is the table's oid and file, its columns, and the server's counters of rows
inserted, updated and deleted. A write takes it under its own lock, in its transaction,
so it counts that write, too. Sessions of others report their counts when they end, or
within ten seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from seeknal_core.contract.types import Drift, QualifiedName, Since, TargetChange
from seeknal_postgres.connection.pool import Conn

#: The first version that hands counters in at the end of a transaction if asked.
_FLUSHES = 150_000

# The counters of the session itself are those that it has not handed in yet. A
# partitioned table has no rows of its own: its partitions' files and counters are its.
_MARKS = """
SELECT w.place, w.oid,
  (SELECT json_agg(json_build_array(a.attname, a.atttypid::bigint, a.atttypmod) ORDER BY a.attnum)
   FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped),
  f.file, f.inserted, f.updated, f.deleted, current_setting('track_counts')
FROM unnest(%s::oid[]) WITH ORDINALITY AS w(oid, place)
CROSS JOIN LATERAL (
  SELECT CASE WHEN count(*) = 1 THEN min(pg_relation_filenode(p.relid)::bigint)::text
              ELSE md5(string_agg(p.relid::bigint || ':'
                       || coalesce(pg_relation_filenode(p.relid)::bigint, 0), ',' ORDER BY p.relid))
         END AS file,
    sum(pg_stat_get_tuples_inserted(p.relid) + pg_stat_get_xact_tuples_inserted(p.relid))::bigint
      AS inserted,
    sum(pg_stat_get_tuples_updated(p.relid) + pg_stat_get_xact_tuples_updated(p.relid))::bigint
      AS updated,
    sum(pg_stat_get_tuples_deleted(p.relid) + pg_stat_get_xact_tuples_deleted(p.relid))::bigint
      AS deleted
  FROM (SELECT w.oid AS relid UNION SELECT t.relid::oid FROM pg_partition_tree(w.oid) AS t) AS p
) AS f
ORDER BY w.place
"""


def marks_of(
    conn: Conn, oids: Mapping[QualifiedName, int], *, writing: bool = False
) -> dict[QualifiedName, str]:
    """Return the marks of tables, by one query.

    Args:
        writing: the open transaction wrote them: its counters are handed in when it ends.
    """
    if not oids:
        return {}
    names = list(oids)
    flush = b"SELECT pg_stat_force_next_flush()"
    if writing and conn.info.server_version >= _FLUSHES:
        conn.execute(flush)
    found = {}
    for place, oid, columns, file, *counts, tracked in conn.execute(_MARKS, [list(oids.values())]):
        counted = counts if tracked == "on" else None
        mark = {"t": [oid, file], "c": columns or [], "n": counted}
        found[names[place - 1]] = json.dumps(mark, ensure_ascii=False, separators=(",", ":"))
    return found


def is_counted(mark: str) -> bool:
    """Return whether a mark has the server's counters: without them it proves nothing."""
    return _parsed(mark).get("n") is not None


def change_between(since: Since, mark: str, rows: int, version: str) -> TargetChange:
    """Return what happened to a table between its last write and now.

    Args:
        mark, rows, version: of now; ``version`` is exact.
    """
    before, now = _parsed(since.mark), _parsed(mark)
    lost = _lost(before, now)
    counts = _counted(before, now)
    same_rows = version == since.version or (
        # The server wrote all rows again, for a column of somebody's, and counted none.
        counts == (0, 0, 0) and rows == since.rows and _oid(before) == _oid(now)
    )
    if same_rows and not lost:
        return TargetChange(drift=Drift.NONE, version=version, rows=rows, mark=mark)
    added = not lost and not same_rows and _only_added(since, before, now, counts, rows)
    said = [*lost, *([] if same_rows else [_rows_said(since.rows, rows, counts)])]
    others = counts[0] + counts[1] if counts else max(0, rows - since.rows)
    return TargetChange(
        drift=Drift.ADDED if added else Drift.CHANGED,
        version=version,
        rows=rows,
        mark=mark,
        detail=", ".join(said),
        others=0 if same_rows else min(others, rows),
    )


def _parsed(mark: str) -> Mapping[str, Any]:
    try:
        found = json.loads(mark) if mark else {}
    except (ValueError, RecursionError):
        return {}
    return found if _is_mark(found) else {}


def _is_mark(found: object) -> bool:
    """Return whether a document is as `marks_of` writes it: anybody may write the store's ledger."""
    match found:
        case {"t": [int(), str() | None], "c": list(columns), "n": None | [int(), int(), int()]}:
            return all(
                isinstance(column, list) and len(column) == 3 and isinstance(column[0], str)
                for column in columns
            )
    return False


def _oid(mark: Mapping[str, Any]) -> object:
    return mark.get("t", [None])[0]


def _lost(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the columns that are missing, or of another type; added columns are others'."""
    there = {name: kind for name, *kind in now.get("c", ())}
    said = []
    for name, *kind in before.get("c", ()):
        if name not in there:
            said.append(f"column {name!r} is gone")
        elif there[name] != kind:
            said.append(f"column {name!r} has another type")
    return said


def _counted(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return how many rows were inserted, updated and deleted; None if that isn't known."""
    if not before.get("n") or not now.get("n") or _oid(before) != _oid(now):
        return None
    inserted, updated, deleted = (b - a for a, b in zip(before["n"], now["n"], strict=True))
    # Counters that decreased were reset in the meantime.
    known = min(inserted, updated, deleted) >= 0
    return (inserted, updated, deleted) if known else None


def _only_added(
    since: Since,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    counts: tuple[int, int, int] | None,
    rows: int,
) -> bool:
    if counts is None or counts[1] or counts[2] or rows < since.rows:
        return False
    # TRUNCATE is not counted, but gives the table another file; so does VACUUM FULL.
    return before["t"] == now["t"] or rows == since.rows + counts[0]


def _rows_said(then: int, now: int, counts: tuple[int, int, int] | None) -> str:
    words = ("inserted", "updated", "deleted")
    parts = [f"{n:,} {word}" for n, word in zip(counts or (), words, strict=False) if n]
    if counts and parts and now == then + counts[0] - counts[2]:
        return f"rows: {', '.join(parts)}"
    if now == then:
        return f"other rows than those written ({now:,})"
    return f"{then:,} rows then, {now:,} now"


def oids_of(conn: Conn, names: Sequence[QualifiedName]) -> dict[QualifiedName, int]:
    """Return the oids of the tables of those names that are there."""
    rows = conn.execute(
        "SELECT w.place, c.oid::bigint FROM unnest(%s::text[], %s::text[])"
        " WITH ORDINALITY AS w(schema, name, place)"
        " JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema"
        " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name"
        " WHERE c.relkind IN ('r', 'p')",
        [[name.parts[0] for name in names], [name.parts[1] for name in names]],
    )
    return {names[place - 1]: int(oid) for place, oid in rows}
