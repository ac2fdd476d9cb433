"""What a target of type ``iceberg`` may say beside the fields of every target."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

import attrs

from seeknal_core.contract.options import Mistake

#: The property by which writers of a table agree on the size of its files.
FILE_SIZE = "write.target-file-size-bytes"
#: Properties that are no settings: a catalog takes them for something else.
_RESERVED = frozenset({
    "format-version", "uuid", "snapshot-count", "current-snapshot-id", "current-snapshot-summary",
    "current-snapshot-timestamp-ms", "current-schema", "default-partition-spec",
    "default-sort-order", "schema.name-mapping.default",
})  # fmt: skip
#: Properties by which files could go elsewhere, or be opened by other code.
_PLACES = frozenset({
    "write.data.path", "write.metadata.path", "write.folder-storage.path",
    "write.object-storage.path", "write.py-location-provider.impl", "write.location-provider.impl",
    "py-io-impl", "io-impl",
})  # fmt: skip
_STORAGE = ("s3.", "client.", "adls.", "gcs.", "header.", "rest.", "auth.")
_SIZE = re.compile(r"([0-9]+)\s*(KB|MB|GB)", re.IGNORECASE)
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
_SORT = re.compile(
    r"(?P<column>.+?)(?:\s+(?P<way>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?",
    re.IGNORECASE,
)


@attrs.frozen(kw_only=True)
class Sorting:
    """One entry of ``sort_order``."""

    column: str
    descending: bool
    nulls_first: bool


def read_sorting(entry: str) -> Sorting:
    """Read an entry of ``sort_order``: ``column [asc|desc] [nulls first|last]``.

    Without more, NULLs come first where values ascend, else last.
    """
    found = _SORT.fullmatch(entry.strip())
    assert found is not None
    descending = (found["way"] or "asc").lower() == "desc"
    nulls = (found["nulls"] or ("last" if descending else "first")).lower()
    return Sorting(column=found["column"], descending=descending, nulls_first=nulls == "first")


def _properties(value: Mapping[str, object] | None) -> Mapping[str, str]:
    made = {}
    for name, each in (value or {}).items():
        if name.startswith("seeknal."):
            raise Mistake("is Seeknal's own", "take it out", f"properties.{name}")
        if name in _RESERVED:
            raise Mistake("is no setting of a table", "take it out", f"properties.{name}")
        if name in _PLACES or name.startswith(_STORAGE):
            raise Mistake(
                "says where files are, or how they are opened, which is the profile's to say",
                "take it out",
                f"properties.{name}",
            )
        if isinstance(each, bool):
            made[name] = str(each).lower()
        elif isinstance(each, str | int | float):
            made[name] = str(each)
        else:
            raise Mistake("is no text or number", "put quotes around it", f"properties.{name}")
    return made


def _size(value: int | str | None) -> int | None:
    if value is None:
        return None
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    size = int(found[1]) * _UNITS[found[2].upper()] if found else value
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise Mistake("is no size", "write target_file_size: 128MB", "target_file_size")
    return size


@attrs.frozen(kw_only=True)
class IcebergTargetOptions:
    """What a target of type ``iceberg`` may say of its table."""

    properties: Mapping[str, object] = attrs.field(
        factory=dict,
        converter=_properties,
        metadata={"doc": "properties of the table, set when it is made and whenever they change"},
    )
    sort_order: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"doc": 'columns by which rows are sorted within each file: "ts desc nulls last"'},
    )
    target_file_size: int | str | None = attrs.field(
        default=None,
        converter=_size,
        metadata={"doc": "size at which a data file is ended and another begun: 128MB"},
    )

    expire_snapshots: timedelta | None = attrs.field(
        default=None,
        metadata={
            "doc": "age after which `seeknal gc` expires snapshots that no branch or tag names: 7d"
        },
    )

    def __attrs_post_init__(self) -> None:
        for number, entry in enumerate(self.sort_order):
            if not entry.strip():
                raise Mistake("is empty", "write a column", f"sort_order[{number}]")
        if self.target_file_size is not None and FILE_SIZE in self.properties:
            raise Mistake(
                "stands beside target_file_size", "keep one of the two", f"properties.{FILE_SIZE}"
            )

    def wanted(self) -> dict[str, str]:
        """Return the properties that the table is to have."""
        wanted = {name: str(value) for name, value in self.properties.items()}
        if self.target_file_size is not None:
            wanted[FILE_SIZE] = str(self.target_file_size)
        return wanted


def of(options: object) -> IcebergTargetOptions:
    """Return a target's options, those of one without any where it has none."""
    return options if isinstance(options, IcebergTargetOptions) else IcebergTargetOptions()
