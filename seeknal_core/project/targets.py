"""Targets, as nodes declare them under ``materialization``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import attrs

from seeknal_core.contract.modes import Field
from seeknal_core.contract.options import Mistake, join, keys_of, kind_of, nearest
from seeknal_core.contract.types import Mode, SchemaChange, TargetSpec
from seeknal_core.hints import canonical_type, hints
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.yaml import Document

#: The words for the modes, those of older projects included.
MODES: Mapping[str, Mode] = {
    **{mode.value: mode for mode in Mode},
    "overwrite": Mode.FULL,
    "upsert": Mode.UPSERT_BY_KEY,
}
#: Fields of a 2.x target that have no effect here.
_LEGACY = frozenset({"create_table", "schema_evolution", "event_time_col", "offline", "online"})
_NO_LOOKBACK = (
    "'lookback' has no effect: the days are replaced that the rows hold; "
    "where the node's rows are complete for a time, say so with covers: {from: ..., to: ...}"
)
_HOW_TO_WRITE = {
    Field.UNIQUE_KEYS: "write unique_keys: [...]",
    Field.TIME_COLUMN: "write time_column: ...",
    Field.PARTITION_BY: "write partition_by: [...], or time_column: ... to replace days",
}
#: How alike an unknown field is to a known one to be a slip of the pen, not a backend's option.
_SLIP = 0.75


def read_mode(word: str) -> Mode:
    """Return the mode that a word means.

    Raises:
        Mistake: it means none.
    """
    mode = MODES.get(word)
    if mode is None:
        message = f"is not one of {', '.join(MODES)}"
        raise Mistake(message, nearest(word, MODES), value=word)
    return mode


@attrs.frozen(kw_only=True)
class _TargetDocument:
    """The fields of one target, as written."""

    table: str
    type: str | None = None
    connection: str | None = None
    mode: str | None = None
    unique_keys: tuple[str, ...] = ()
    time_column: str | None = None
    lookback: int | timedelta = 0
    partition_by: tuple[str, ...] = ()
    on_schema_change: SchemaChange = SchemaChange.EVOLVE
    enabled: bool = True
    options: Mapping[str, object] = attrs.field(factory=dict, metadata={"rest": True})


def read_targets(
    document: Document, node: Mapping[str, object], id: str, collector: Collector
) -> tuple[TargetSpec, ...]:
    """Read ``materialization`` or ``materializations`` of a node.

    A mapping and a list mean the same under either key; both keys are a mistake.
    """
    keys = [key for key in ("materialization", "materializations") if node.get(key) is not None]
    if len(keys) == 2:
        hint = "keep one of the two"
        collector.add(document, keys[1], "stands beside 'materialization'", hint)
    targets: list[TargetSpec] = []
    for key in keys:
        value = node[key]
        if isinstance(value, Mapping):
            entries: list[tuple[str, object]] = [(key, value)]
        elif isinstance(value, list):
            entries = [(join(key, index), item) for index, item in enumerate(value)]
        else:
            collector.add(
                document, key, f"is {kind_of(value)}, not a mapping or a list of mappings"
            )
            continue
        for path, entry in entries:
            target = _read_target(document, entry, path, id, collector)
            if target is None:
                continue
            if any(other.key == target.key for other in targets):
                collector.add(document, path, "names the same table as a target above it")
            targets.append(target)
    return tuple(targets)


def _read_target(
    document: Document, value: object, path: str, id: str, collector: Collector
) -> TargetSpec | None:
    if isinstance(value, Mapping):
        value = collector.without_legacy(document, value, _LEGACY, path)
        if value.get("enabled") is False and value.get("table") is None:
            return None
    fields = collector.structure(document, value, _TargetDocument, path)
    if isinstance(value, Mapping):
        _refuse_slips(document, value, path, collector)
    if fields is None:
        return None
    mode = None
    if fields.mode is not None:
        try:
            mode = read_mode(fields.mode)
        except Mistake as error:
            collector.add(document, join(path, "mode"), error.quoted, error.hint)
    if not fields.table.strip():
        collector.add(document, join(path, "table"), "is empty")
    if mode is Mode.INSERT_OVERWRITE and not fields.partition_by and fields.time_column:
        # What it means in projects that were written before it had a mode of its own.
        mode = Mode.INCREMENTAL_BY_TIME
    needs = mode.rule.needs if mode is not None else None
    if needs is not None and not getattr(fields, needs.value):
        message = f"mode {fields.mode!r} needs {needs.value!r}"
        collector.add(document, path, message, _HOW_TO_WRITE[needs])
    return TargetSpec(
        node=id,
        type=canonical_type(fields.type or hints().legacy_target_type),
        table=fields.table,
        connection=fields.connection,
        mode=mode,
        unique_keys=fields.unique_keys,
        time_column=fields.time_column,
        lookback=_lookback(document, fields.lookback, path, collector),
        partition_by=fields.partition_by,
        on_schema_change=fields.on_schema_change,
        enabled=fields.enabled,
        options=fields.options,
        location=document.location(path),
    )


def _refuse_slips(
    document: Document, value: Mapping[str, object], path: str, collector: Collector
) -> None:
    known = keys_of(_TargetDocument)
    for key in value:
        hint = nearest(key, known, cutoff=_SLIP) if key not in known else ""
        if hint:
            collector.add(document, join(path, key), "unknown field", hint)


def _lookback(
    document: Document, value: int | timedelta, path: str, collector: Collector
) -> timedelta:
    if value:
        collector.legacy(document, join(path, "lookback"), "lookback", _NO_LOOKBACK)
    if isinstance(value, timedelta):
        return value
    try:
        if value < 0:
            raise Mistake("is negative")
        return timedelta(days=value)
    except (Mistake, OverflowError) as error:
        message = error.message if isinstance(error, Mistake) else "is too long a duration"
        collector.add(document, join(path, "lookback"), message, "write days, or as in 7d")
        return timedelta(0)
