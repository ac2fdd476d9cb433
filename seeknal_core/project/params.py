"""Declared columns and audits of a node, and the params of sources that are files."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.contract.errors import OptionError
from seeknal_core.contract.options import Mistake, join, kind_of, nearest, quoted
from seeknal_core.project.formats import declared, read_params
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.specs import Audit, ColumnSpec, Severity
from seeknal_core.project.yaml import Document

#: Audit type -> its fields; all are required but those of ``row_count``, which needs one.
_AUDIT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "not_null": ("columns",),
    "unique": ("columns",),
    "accepted_values": ("columns", "values"),
    "row_count": ("min", "max"),
    "custom_sql": ("sql",),
    "relationships": ("column", "to", "field"),
}


@attrs.frozen(kw_only=True)
class _ColumnDocument:
    description: str = ""
    dtype: str | None = attrs.field(default=None, metadata={"aliases": ("data_type",)})


@attrs.frozen(kw_only=True)
class _SchemaDocument:
    name: str
    data_type: str | None = attrs.field(default=None, metadata={"aliases": ("dtype",)})
    description: str = ""


@attrs.frozen(kw_only=True)
class _AuditDocument:
    type: str
    severity: Severity = Severity.ERROR
    columns: tuple[str, ...] = ()
    values: tuple[object, ...] = ()
    min: int | None = None
    max: int | None = None
    sql: str | None = None
    column: str | None = None
    to: str | None = None
    field: str | None = None


def check_file_params(
    document: Document, params: Mapping[str, object], type: str, path: str, collector: Collector
) -> None:
    """Collect the mistakes in the params of a source that is a file.

    Args:
        type: one of ``FILE_TYPES``.
        path: where they stand in the document.
    """
    try:
        read_params(type, params, path=path)
    except OptionError as error:
        collector.problems += document.problems(error)


def read_columns(
    document: Document, node: Mapping[str, object], collector: Collector
) -> tuple[ColumnSpec, ...]:
    """Read ``columns`` and ``schema``; a column in both takes what each says of it."""
    columns: dict[str, ColumnSpec] = {}
    described = node.get("columns")
    if described is not None and not isinstance(described, Mapping):
        hint = "write name: description, or name: {description: ..., dtype: ...}"
        collector.add(document, "columns", f"is {kind_of(described)}, not a mapping", hint)
    elif isinstance(described, Mapping):
        for name, value in described.items():
            path = join("columns", name)
            if value is None or isinstance(value, str):
                value = {"description": value}
            column = collector.structure(document, value, _ColumnDocument, path)
            if column is not None:
                dtype = _dtype(document, column.dtype, join(path, "dtype"), collector)
                columns[name] = ColumnSpec(name=name, dtype=dtype, description=column.description)
    _add_schema(document, node.get("schema"), columns, collector)
    return tuple(columns.values())


def _add_schema(
    document: Document, schema: object, columns: dict[str, ColumnSpec], collector: Collector
) -> None:
    if schema is None:
        return
    if not isinstance(schema, list):
        hint = "write one '- {name: ..., data_type: ...}' a line"
        collector.add(document, "schema", f"is {kind_of(schema)}, not a list", hint)
        return
    seen: set[str] = set()
    for index, value in enumerate(schema):
        path = join("schema", index)
        entry = collector.structure(document, value, _SchemaDocument, path)
        if entry is None:
            continue
        if entry.name in seen:
            collector.add(document, path, f"column {entry.name!r} is declared twice")
        seen.add(entry.name)
        dtype = _dtype(document, entry.data_type, join(path, "data_type"), collector)
        other = columns.get(entry.name, ColumnSpec(name=entry.name))
        if dtype and other.dtype and dtype != other.dtype:
            message = f"column {entry.name!r} is {dtype} here and {other.dtype} under 'columns'"
            collector.add(document, path, message)
        columns[entry.name] = attrs.evolve(
            other,
            dtype=dtype or other.dtype,
            description=entry.description or other.description,
        )


def _dtype(document: Document, word: str | None, path: str, collector: Collector) -> str | None:
    if word is None:
        return None
    try:
        return declared.parse(word).text
    except Mistake as mistake:
        collector.add(document, path, mistake.quoted, mistake.hint)
        return None


def read_audits(
    document: Document, node: Mapping[str, object], collector: Collector
) -> tuple[Audit, ...]:
    """Read ``audits``."""
    value = node.get("audits")
    if value is None:
        return ()
    if not isinstance(value, list):
        hint = "write one '- type: ...' for each audit"
        collector.add(document, "audits", f"is {kind_of(value)}, not a list", hint)
        return ()
    found = (
        _read_audit(document, item, join("audits", index), collector)
        for index, item in enumerate(value)
    )
    return tuple(audit for audit in found if audit is not None)


def _read_audit(document: Document, value: object, path: str, collector: Collector) -> Audit | None:
    fields = collector.structure(document, value, _AuditDocument, path)
    if fields is None:
        return None
    uses = _AUDIT_FIELDS.get(fields.type)
    if uses is None:
        message = f"{quoted(fields.type)} is not one of {', '.join(_AUDIT_FIELDS)}"
        collector.add(document, join(path, "type"), message, nearest(fields.type, _AUDIT_FIELDS))
        return None
    before = len(collector.problems)
    assert isinstance(value, Mapping)
    given = {key for key, item in value.items() if item is not None}
    for key in sorted(given - {"type", "severity", *uses}):
        hint = nearest(key, uses) or f"it takes {', '.join(uses)}"
        collector.add(document, join(path, key), f"no field of a {fields.type} audit", hint)
    if fields.type == "row_count":
        _check_row_count(document, fields, path, collector)
    else:
        for key in uses:
            if getattr(fields, key) in (None, (), ""):
                collector.add(document, path, f"a {fields.type} audit needs {key!r}")
    if fields.to is not None and "." not in fields.to:
        collector.add(
            document, join(path, "to"), "is not a node", "write kind.name, as in source.x"
        )
    if len(collector.problems) > before:
        return None
    return Audit(**attrs.asdict(fields, recurse=False), location=document.location(path))


def _check_row_count(
    document: Document, fields: _AuditDocument, path: str, collector: Collector
) -> None:
    if fields.min is None and fields.max is None:
        collector.add(document, path, "a row_count audit needs 'min' or 'max'")
    for key in ("min", "max"):
        if (getattr(fields, key) or 0) < 0:
            collector.add(document, join(path, key), "is negative")
    if fields.min is not None and fields.max is not None and fields.min > fields.max:
        collector.add(document, join(path, "min"), "is greater than 'max'")
