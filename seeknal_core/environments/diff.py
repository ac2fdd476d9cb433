"""``seeknal env diff``: what two environments hold differently, over their stored outputs."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.environments.query import snapshots_of
from seeknal_core.plan.decide import has_rows_of
from seeknal_core.state.manifest import Manifest
from seeknal_core.state.records import EnvironmentRecord

if TYPE_CHECKING:
    from seeknal_core.contract.types import Snapshot
    from seeknal_core.engine import Engine
    from seeknal_core.engine.snapshots import SnapshotStore

_HERE, _THERE = "diff.here", "diff.there"


class Definition(enum.Enum):
    """How a node's definitions compare. The value is said to the user."""

    SAME = "same"
    CHANGED = "changed"
    ONLY_HERE = "only here"
    ONLY_THERE = "only there"


@attrs.frozen(kw_only=True)
class ColumnDiff:
    """A column that differs; a type is empty where the column is missing."""

    name: str
    here: str
    there: str


@attrs.frozen(kw_only=True)
class RowDiff:
    """How the rows of a node's two outputs differ.

    With a ``key`` that tells rows apart on both sides, ``changed`` counts the keys
    with other values in the columns that both have, and ``sample`` shows some keys:
    what happened, the key's values, and the columns that changed. Without one whole
    rows are compared, each as often as it occurs, and ``changed`` is None.
    """

    key: tuple[str, ...]
    added: int
    removed: int
    changed: int | None
    sample: tuple[tuple[str, Mapping[str, str], tuple[str, ...]], ...] = ()


@attrs.frozen(kw_only=True)
class NodeDiff:
    """What differs about one node. ``rows`` is None where the outputs are one and the same."""

    id: str
    definition: Definition
    text: str
    columns: tuple[ColumnDiff, ...]
    count_here: int | None
    count_there: int | None
    rows: RowDiff | None

    @property
    def differs(self) -> bool:
        """Whether there is anything to show."""
        return self.definition is not Definition.SAME or bool(self.columns) or self.rows is not None


@attrs.frozen(kw_only=True)
class Held:
    """One of the two environments."""

    record: EnvironmentRecord
    manifest: Manifest


def diff(
    here: Held,
    there: Held,
    keys: Mapping[str, Sequence[str]],
    engine: Engine,
    store: SnapshotStore,
    *,
    sample: int,
) -> tuple[NodeDiff, ...]:
    """Compare every node of two environments; those that are equal are left out.

    Args:
        keys: columns that tell a node's rows apart, by node; a node may lack them.
        sample: the most keys to show of a node.

    Raises:
        EngineError: an output that has to be read is gone.
    """
    ids = sorted({*here.record.nodes, *there.record.nodes})
    found = (_node(id, here, there, keys.get(id, ()), engine, store, sample) for id in ids)
    return tuple(one for one in found if one.differs)


def _node(
    id: str,
    here: Held,
    there: Held,
    key: Sequence[str],
    engine: Engine,
    store: SnapshotStore,
    sample: int,
) -> NodeDiff:
    mine, theirs = here.record.nodes.get(id), there.record.nodes.get(id)
    columns: tuple[ColumnDiff, ...] = ()
    rows: RowDiff | None = None
    if mine is not None and theirs is not None and not has_rows_of(mine, theirs.content_key):
        [a] = snapshots_of(store, here.record, [id]).values()
        [b] = snapshots_of(store, there.record, [id]).values()
        columns = _columns(a, b)
        rows = _rows(a, b, tuple(key), engine, sample)
        if not (rows.added or rows.removed or rows.changed or columns):
            rows = None
    if mine is None or theirs is None:
        definition = Definition.ONLY_THERE if mine is None else Definition.ONLY_HERE
    else:
        same = mine.definition == theirs.definition
        definition = Definition.SAME if same else Definition.CHANGED
    return NodeDiff(
        id=id,
        definition=definition,
        text=_text(id, here, there) if definition is Definition.CHANGED else "",
        columns=columns,
        count_here=mine.rows if mine else None,
        count_there=theirs.rows if theirs else None,
        rows=rows,
    )


def _text(id: str, here: Held, there: Held) -> str:
    """Return a unified diff of what the user wrote, from there to here."""
    old, new = there.manifest.get(id), here.manifest.get(id)
    if old is None or new is None:
        return ""
    return "".join(
        difflib.unified_diff(
            old.text.splitlines(keepends=True),
            new.text.splitlines(keepends=True),
            f"{id} in {there.record.name}",
            f"{id} in {here.record.name}",
        )
    )


def _columns(here: Snapshot, there: Snapshot) -> tuple[ColumnDiff, ...]:
    mine = {field.name: str(field.type) for field in here.schema}
    theirs = {field.name: str(field.type) for field in there.schema}
    return tuple(
        ColumnDiff(name=name, here=mine.get(name, ""), there=theirs.get(name, ""))
        for name in (*mine, *(name for name in theirs if name not in mine))
        if mine.get(name) != theirs.get(name)
    )


def _rows(
    here: Snapshot, there: Snapshot, key: tuple[str, ...], engine: Engine, sample: int
) -> RowDiff:
    snapshots = {_HERE: here, _THERE: there}
    common = [name for name in here.schema.names if name in there.schema.names]
    if key and set(key) <= set(common) and _is_key(key, engine, snapshots):
        return _by_key(key, common, engine, snapshots, sample)
    if not common:
        return RowDiff(key=(), added=here.row_count, removed=there.row_count, changed=None)
    lists = {side: ", ".join(_value(name, snapshots) for name in common) for side in snapshots}
    counts = [
        f"(SELECT count(*) FROM (SELECT {lists[a]} FROM {_view(a)}"
        f" EXCEPT ALL SELECT {lists[b]} FROM {_view(b)}))"
        for a, b in ((_HERE, _THERE), (_THERE, _HERE))
    ]
    [row] = _ask(engine, f"SELECT {counts[0]} AS a, {counts[1]} AS b", snapshots)
    return RowDiff(key=(), added=int(str(row["a"])), removed=int(str(row["b"])), changed=None)


def _is_key(key: Sequence[str], engine: Engine, snapshots: Mapping[str, Snapshot]) -> bool:
    listed = ", ".join(map(_quoted, key))
    doubled = " OR ".join(
        f"EXISTS (SELECT 1 FROM {_view(side)} GROUP BY {listed} HAVING count(*) > 1)"
        for side in snapshots
    )
    [row] = _ask(engine, f"SELECT {doubled} AS doubled", snapshots)
    return not row["doubled"]


def _by_key(
    key: tuple[str, ...],
    common: Sequence[str],
    engine: Engine,
    snapshots: Mapping[str, Snapshot],
    sample: int,
) -> RowDiff:
    values = [name for name in common if name not in key]
    lists = {
        side: ", ".join(
            [
                *(f"{_value(k, snapshots)} AS k{i}" for i, k in enumerate(key)),
                *(f"{_value(v, snapshots)} AS v{i}" for i, v in enumerate(values)),
                "TRUE AS present",
            ]
        )
        for side in snapshots
    }
    same = " AND ".join(f"a.k{i} IS NOT DISTINCT FROM b.k{i}" for i in range(len(key)))
    differ = [f"a.v{i} IS DISTINCT FROM b.v{i}" for i in range(len(values))]
    joined = (
        f"FROM (SELECT {lists[_HERE]} FROM {_view(_HERE)}) AS a FULL JOIN"
        f" (SELECT {lists[_THERE]} FROM {_view(_THERE)}) AS b ON {same}"
    )
    change = (
        "CASE WHEN b.present IS NULL THEN 'added' WHEN a.present IS NULL THEN 'removed'"
        f" WHEN {' OR '.join(differ) or 'FALSE'} THEN 'changed' END"
    )
    counted = _ask(
        engine, f"SELECT {change} AS change, count(*) AS n {joined} GROUP BY 1", snapshots
    )
    counts = {row["change"]: int(str(row["n"])) for row in counted}
    shown = ", ".join(
        [
            f"{change} AS change",
            *(f"coalesce(a.k{i}, b.k{i})::VARCHAR AS k{i}" for i in range(len(key))),
            *(f"{text} AS d{i}" for i, text in enumerate(differ)),
        ]
    )
    rows = _ask(
        engine,
        f"SELECT * FROM (SELECT {shown} {joined}) WHERE change IS NOT NULL"
        f" ORDER BY ALL LIMIT {int(sample)}",
        snapshots,
    )
    return RowDiff(
        key=key,
        added=counts.get("added", 0),
        removed=counts.get("removed", 0),
        changed=counts.get("changed", 0),
        sample=tuple(
            (
                str(row["change"]),
                {name: str(row[f"k{i}"]) for i, name in enumerate(key)},
                tuple(name for i, name in enumerate(values) if row[f"d{i}"])
                if row["change"] == "changed"
                else (),
            )
            for row in rows
        ),
    )


def _ask(engine: Engine, sql: str, snapshots: Mapping[str, Snapshot]) -> list[dict[str, object]]:
    from seeknal_core.engine.showing import rows_of

    reader = engine.query(sql, snapshots)
    return [row for batch in reader for row in rows_of(batch)]


def _value(name: str, snapshots: Mapping[str, Snapshot]) -> str:
    """Name a column; as text where its two types differ, so that they can be compared."""
    types = {snapshot.schema.field(name).type for snapshot in snapshots.values()}
    quoted = _quoted(name)
    return quoted if len(types) == 1 else f"{quoted}::VARCHAR"


def _view(side: str) -> str:
    return _quoted(side)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
