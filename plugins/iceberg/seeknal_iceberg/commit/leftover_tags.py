"""Tags that a catalog keeps although their removal was requested.

Lakekeeper up to 0.7 answers that a reference is removed, and keeps it; other catalogs may
refuse. The tag does no harm but that expiry keeps what it leads to. It is noted in the
tool's own folder, so that ``seeknal gc`` asks again, and says which stay.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.commit import many_tables, updates
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.files.durable_note import make_folder
from seeknal_iceberg.ledger.staged_write import undo_tag
from seeknal_iceberg.names import quote

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

_FOLDER = "iceberg-tags"


def keep(
    context: ExecutionContext, catalog: Catalog, promotion: str, tables: Sequence[Table]
) -> list[str]:
    """Look, once, whether the undo tags of a promotion are gone; note and name those that stay."""
    stay = []
    for table in tables:
        # If the check fails now, the next sweep reports it.
        with contextlib.suppress(Exception):
            found = catalogs.load(catalog, table.name())
            if found is None or not updates.keeps_undo(promotion, found.metadata):
                continue
        _write(context, table.name(), promotion)
        stay.append(quote(table.name()))
    return stay


def noted(context: ExecutionContext) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield the notes on tables of the call's connection: path, table, promotion."""
    root = os.path.join(context.target_dir, _FOLDER)
    if not os.path.isdir(root):
        return
    for entry in sorted(os.listdir(root)):
        path = os.path.join(root, entry)
        with contextlib.suppress(OSError, ValueError, KeyError):
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            parts = tuple(found["parts"])
            if found["identity"] == catalogs.identity(catalogs.of(context), parts):
                yield path, parts, str(found["promotion"])


def kept_in(
    context: ExecutionContext, parts: tuple[str, ...], metadata: TableMetadata
) -> list[str]:
    """Return which tags a table keeps: those noted here, and fences, which go with the next commit."""
    noted_here = [undo_tag(promotion) for _, other, promotion in noted(context) if other == parts]
    tags = [*noted_here, *(name for name in metadata.refs if name.startswith(updates.FENCE))]
    if not tags:
        return []
    if len(tags) == 1:
        return [f"the catalog keeps our tag {tags[0]}, which does no harm"]
    return [f"the catalog keeps {len(tags)} tags of ours ({tags[0]}, …), which do no harm"]


def sweep(context: ExecutionContext, catalog: Catalog) -> list[str]:
    """Request again to remove leftover tags, and report those that still stay."""
    said = []
    for path, parts, promotion in list(noted(context)):
        if not _is_gone(context, catalog, parts, promotion):
            said.append(
                f"{quote(parts)}: the catalog keeps the tag {undo_tag(promotion)}, though it was "
                "asked to remove it; it does no harm"
            )
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(os.path.dirname(path))
    return said


def _is_gone(
    context: ExecutionContext, catalog: Catalog, parts: tuple[str, ...], promotion: str
) -> bool:
    def is_gone() -> bool:
        table = catalogs.load(catalog, parts)
        return table is None or not updates.keeps_undo(promotion, table.metadata)

    table = catalogs.load(catalog, parts)
    if table is None or not updates.keeps_undo(promotion, table.metadata):
        return True
    requirements, made = updates.to_untag(promotion, table.metadata)
    change = many_tables.Change(table=table, requirements=requirements, updates=made)
    # No matter what it answers, the tag tells.
    with contextlib.suppress(Exception):
        many_tables.carry_out(context, catalog, [change], is_gone)
    return is_gone()


def _write(context: ExecutionContext, parts: tuple[str, ...], promotion: str) -> None:
    identity = catalogs.identity(catalogs.of(context), parts)
    name = catalogs.short_hash(f"{identity} {promotion}")
    path = os.path.join(context.target_dir, _FOLDER, f"{name}.json")
    make_folder(os.path.dirname(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        json.dump({"identity": identity, "parts": parts, "promotion": promotion}, file)
