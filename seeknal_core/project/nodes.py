"""From documents to nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs

from seeknal_core.contract.options import Mistake, duration, join, keys_of, kind_of, nearest, quoted
from seeknal_core.contract.types import Location
from seeknal_core.hints import canonical_type
from seeknal_core.project.covers import read_covers, with_covers
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.params import check_file_params, read_audits, read_columns
from seeknal_core.project.specs import FILE_TYPES, ChangePolicy, Freshness, SourceNode, SqlNode
from seeknal_core.project.targets import read_targets
from seeknal_core.project.yaml import Document

KINDS = ("source", "transform")
#: Kinds of the wider tool that this one does not run.
UNSUPPORTED_KINDS = frozenset(
    {
        "aggregation", "feature_group", "second_order_aggregation", "model", "rule", "exposure",
        "semantic_model", "metric", "profile", "feature_service", "entity",
    }
)  # fmt: skip
#: Fields of 2.x nodes that have no effect here.
_LEGACY = frozenset(
    {
        "entity", "features", "tests", "publish", "starrocks", "target", "outputs", "offline",
        "online", "profile", "config", "meta", "metadata", "version", "file", "dependencies",
    }
)  # fmt: skip
_NAME = re.compile(r"\w[\w.-]*")
_NAME_LENGTH = 120
_REFERENCE = re.compile(r"[A-Za-z_]\w*\.\S.*")


@attrs.frozen(kw_only=True)
class _NodeDocument:
    """Fields of every node; those of type ``object`` are read by functions of their own."""

    kind: str
    name: str
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    columns: object = None
    schema: object = None
    contract: bool = False
    audits: object = None
    materialization: object = None
    materializations: object = None


@attrs.frozen(kw_only=True)
class _SourceDocument(_NodeDocument):
    source: str
    table: str | None = None
    params: Mapping[str, object] = attrs.field(factory=dict)
    freshness: Freshness | None = None
    watermark: str | None = None
    changes: str | None = None
    max_rows: int | None = None
    max_bytes: int | None = None


@attrs.frozen(kw_only=True)
class _InputDocument:
    ref: str


@attrs.frozen(kw_only=True)
class _TransformDocument(_NodeDocument):
    transform: str
    inputs: tuple[_InputDocument, ...] = ()
    covers: object = None


@attrs.frozen(kw_only=True)
class Skipped:
    """A node of a kind that is not run, to be skipped. ``id`` as others refer to it."""

    id: str
    location: Location


@attrs.frozen(kw_only=True)
class SqlText:
    """SQL from a file of its own, and where in it the text starts."""

    text: str
    location: Location


def read_node(
    document: Document,
    collector: Collector,
    *,
    default_name: str | None = None,
    sql: SqlText | None = None,
) -> SourceNode | SqlNode | Skipped | None:
    """Read one document; None where it holds mistakes that leave no node.

    Args:
        default_name: the name of a node that writes none.
        sql: the node's SQL where it stands in a file of its own; ``kind``
            defaults to ``transform`` then.
    """
    if not isinstance(document.value, Mapping):
        collector.add(document, "", "is not a node", "write kind: ..., name: ..., one a line")
        return None
    value = dict(document.value)
    if sql is not None:
        if value.get("transform") is not None:
            collector.add(document, "transform", "stands beside a SQL file of the same name")
        value |= {"kind": value.get("kind") or "transform", "transform": sql.text}
    if value.get("name") is None and default_name is not None:
        value["name"] = default_name
    kind = value.get("kind")
    if kind not in KINDS:
        return _read_other(document, kind, value, collector)
    if sql is not None and kind != "transform":
        collector.add(document, "kind", "is not 'transform' beside a SQL file")
        return None
    value = collector.without_legacy(document, value, _LEGACY)
    name = value.get("name")
    if isinstance(name, str):
        check_name(document, name, collector)
    id = f"{kind}.{name}"
    parts: dict[str, Any] = {
        "columns": read_columns(document, value, collector),
        "audits": read_audits(document, value, collector),
        "targets": read_targets(document, value, id, collector),
    }
    if kind == "transform":
        parts |= with_covers(read_covers(document, value, collector), parts["targets"])
    if kind == "source":
        return _read_source(document, value, parts, collector)
    return _read_transform(document, value, parts, sql, collector)


def _read_other(
    document: Document, kind: object, value: Mapping[str, object], collector: Collector
) -> Skipped | None:
    name = value.get("name")
    if isinstance(kind, str) and kind in UNSUPPORTED_KINDS:
        return Skipped(id=f"{kind}.{name}", location=document.location())
    if kind is None:
        hint = "write kind: source or kind: transform"
        slip = next((key for key in value if nearest(key, ["kind"], cutoff=0.7)), None)
        if slip is not None:
            collector.add(document, slip, "unknown field", "did you mean 'kind'?")
        else:
            collector.add(document, "", "'kind' is missing", hint)
    else:
        known = nearest(str(kind), KINDS) or nearest(str(kind), UNSUPPORTED_KINDS)
        written = quoted(kind) if isinstance(kind, str) else kind_of(kind)
        message = f"{written} is not one of {', '.join(KINDS)}"
        collector.add(document, "kind", message, known or _kind_meant(value))
    return None


def _kind_meant(value: Mapping[str, object]) -> str:
    """Return what to write for a kind that is like none, by the other fields of the node."""
    for field, kind in (("source", "source"), ("transform", "transform")):
        if field in value:
            return f"a node with {field}: is of kind: {kind}"
    return ""


def check_name(document: Document, name: str, collector: Collector) -> None:
    """Collect a mistake where a name cannot be a node's."""
    if not _NAME.fullmatch(name) or len(name) > _NAME_LENGTH:
        hint = f"write letters, digits, '_', '-' or '.', at most {_NAME_LENGTH}"
        collector.add(document, "name", f"{quoted(name)} is not a node's name", hint)


def _read_source(
    document: Document,
    value: Mapping[str, object],
    parts: Mapping[str, object],
    collector: Collector,
) -> SourceNode | None:
    misplaced = [key for key in ("connection", "query", "path") if key in value]
    for key in misplaced:
        collector.add(document, key, "is not a field of a source", f"write it under params: {key}")
    fields = collector.structure(
        document, {key: value[key] for key in value if key not in misplaced}, _SourceDocument
    )
    if fields is None:
        return None
    type = canonical_type(fields.source)
    if type in FILE_TYPES:
        _check_file(document, fields, collector)
    for key in ("max_rows", "max_bytes"):
        if (limit := getattr(fields, key)) is not None and limit < 1:
            collector.add(document, key, "is less than 1")
    policy, period = _read_changes(document, fields.changes, collector)
    return SourceNode(
        name=fields.name,
        location=document.location(),
        description=fields.description,
        owner=fields.owner,
        tags=fields.tags,
        contract=fields.contract,
        type=type,
        table=fields.table,
        params=fields.params,
        freshness=fields.freshness,
        watermark=fields.watermark,
        changes=policy,
        assume_unchanged_for=period,
        max_rows=fields.max_rows,
        max_bytes=fields.max_bytes,
        **parts,  # type: ignore[arg-type]  # the fields of every node, by name
    )


def _check_file(document: Document, fields: _SourceDocument, collector: Collector) -> None:
    check_file_params(document, fields.params, canonical_type(fields.source), "params", collector)
    path = fields.params.get("path")
    if fields.table and path:
        collector.add(document, "params.path", "stands beside 'table'", "keep one of the two")
    elif not fields.table and not path and "path" not in document.places:
        hint = (
            "write table: and a path or glob below the project, s3://bucket/key or "
            "https://host/path"
        )
        collector.add(document, "source", f"a source of type {fields.source} names no file", hint)


def _read_changes(
    document: Document, text: str | None, collector: Collector
) -> tuple[ChangePolicy, timedelta | None]:
    if text is None:
        return ChangePolicy.ALWAYS_READ, None
    word, _, period = text.strip().partition(" ")
    words = {policy.value: policy for policy in ChangePolicy}
    policy = words.get(word)
    try:
        if policy is None:
            message = f"{quoted(word)} is not one of {', '.join(words)}"
            raise Mistake(message, nearest(word, words))
        if policy is ChangePolicy.ASSUME_UNCHANGED:
            return policy, duration(period)
        if period:
            raise Mistake(f"{word!r} takes no duration")
        return policy, None
    except Mistake as error:
        hint = error.hint or "write always-read, never, or assume-unchanged 10m"
        collector.add(document, "changes", error.quoted, hint)
        return ChangePolicy.ALWAYS_READ, None


def _read_transform(
    document: Document,
    value: Mapping[str, object],
    parts: Mapping[str, object],
    sql: SqlText | None,
    collector: Collector,
) -> SqlNode | None:
    value = _explain_inputs(document, value, collector)
    fields = collector.structure(document, value, _TransformDocument)
    if fields is None:
        return None
    location = sql.location if sql is not None else document.location("transform")
    start = document.place("transform").text
    if sql is None and start is not None:
        location = attrs.evolve(location, line=start[0], column=start[1])
    if not fields.transform.strip():
        collector.add(document, "transform", "holds no SQL")
    for index, entry in enumerate(fields.inputs):
        if not _REFERENCE.fullmatch(entry.ref):
            path = join(join("inputs", index), "ref")
            collector.add(document, path, "is not a node", "write kind.name, as in source.orders")
    return SqlNode(
        name=fields.name,
        location=document.location(),
        description=fields.description,
        owner=fields.owner,
        tags=fields.tags,
        contract=fields.contract,
        sql=fields.transform,
        inputs=tuple(entry.ref for entry in fields.inputs),
        sql_location=location,
        **parts,  # type: ignore[arg-type]  # the fields of every node, by name
    )


def _explain_inputs(
    document: Document, value: Mapping[str, object], collector: Collector
) -> Mapping[str, object]:
    """Note inputs that are bare strings, with what to write, and go on as if written so."""
    inputs = value.get("inputs")
    if not isinstance(inputs, list):
        return value
    for index, item in enumerate(inputs):
        if isinstance(item, str):
            path = join("inputs", index)
            collector.add(document, path, "is a string, not a mapping", f"write - ref: {item}")
    return {
        **value,
        "inputs": [{"ref": item} if isinstance(item, str) else item for item in inputs],
    }


def is_without_sql(document: Document) -> bool:
    """Return whether a document is a transform whose SQL must stand in a file of its own."""
    value = document.value
    if not isinstance(value, Mapping) or value.get("transform") is not None:
        return False
    if value.get("kind") is None:
        known = {*keys_of(_TransformDocument), *_LEGACY}
        return "source" not in value and all(key in known for key in value)
    return value.get("kind") == "transform"
