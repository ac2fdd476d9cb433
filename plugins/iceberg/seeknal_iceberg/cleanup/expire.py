"""Expires old snapshots of tables whose targets declare it, and keeps those that are needed.

These are kept: what a branch or a tag names (the tags of undo and fences among them), the
current snapshot, our last write and all after it (they tell what others did since), and
what a property of ours names. A snapshot's age counts from when it stopped being the
current one: who began to read it at the last moment can do so for as long.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import attrs
from pyiceberg.manifest import read_manifest_list
from pyiceberg.table.update import RemoveSnapshotsUpdate

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import ExecutionContext, Swept, Target
from seeknal_iceberg.commit import many_tables
from seeknal_iceberg.commit.updates import head_is
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.files.durable_note import write_durably
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.ledger.staged_write import same_table
from seeknal_iceberg.write import options

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot

_FOLDER = "iceberg-expired"


def expire_all(
    context: ExecutionContext, targets: tuple[Target, ...], swept: Swept, *, dry_run: bool
) -> Swept:
    """Expire for each target that declares an age; a table that fails is only reported."""
    done: list[str] = []
    kept: list[str] = []
    for target in targets:
        age = options.of(target.options).expire_snapshots
        if age is None or catalogs.absent(catalogs.of(context)):
            continue
        context.cancellation.check()
        try:
            with translating(catalogs.of(context), str(target.name)):
                done += _Expiry(context, target, age).run(kept, dry_run=dry_run)
        except BackendError as error:
            kept.append(f"{target.name}: no snapshots were expired: {error.message}")
    return attrs.evolve(swept, done=(*swept.done, *done), kept=(*swept.kept, *kept))


class _Expiry:
    """The expiry of one table's snapshots."""

    def __init__(self, context: ExecutionContext, target: Target, age: timedelta) -> None:
        self._context = context
        self._parts = target.name.parts
        self._name = str(target.name)
        self._age = age
        self._catalog: Catalog = catalogs.open_catalog(context)
        identity = catalogs.identity(catalogs.of(context), self._parts)
        self._note = os.path.join(
            context.target_dir, _FOLDER, f"{catalogs.short_hash(identity)}.json"
        )

    def run(self, kept: list[str], *, dry_run: bool) -> Iterator[str]:
        """Expire, delete the files that nothing names any more, and report it."""
        table = catalogs.look(self._catalog, self._parts)
        if table is None or not ledger.is_ours(self._context, table.properties):
            return
        if not dry_run:
            self._delete(table, self._noted())
        before = time.time() * 1000 - self._age / timedelta(milliseconds=1)
        old = expired(table.metadata, before)
        if not old:
            return
        count = f"{len(old)} snapshot{'' if len(old) == 1 else 's'}"
        files = self._files_of(table, old) if self._deletes(table) else frozenset()
        if dry_run:
            yield (
                f"{self._name}: would expire {count}, and delete {len(files)} files that no "
                "other snapshot names"
            )
            return
        self._keep_note(files)
        if not self._commit(table, old):
            self._forget_note()
            kept.append(f"{self._name}: the catalog keeps {count} that it was asked to expire")
            return
        deleted = self._delete(catalogs.existing(self._context, self._parts), files)
        yield f"{self._name}: expired {count}, and deleted {deleted} files"

    def _deletes(self, table: Table) -> bool:
        # With this property a table says that others use its files, too.
        return table.properties.get("gc.enabled", "true").lower() != "false"

    def _files_of(self, table: Table, old: frozenset[int]) -> frozenset[str]:
        """Return the files that only old snapshots name, where the table's own files are."""
        metadata = table.metadata
        left = [each for each in metadata.snapshots if each.snapshot_id not in old]
        gone = [each for each in metadata.snapshots if each.snapshot_id in old]
        root = f"{metadata.location.rstrip('/')}/"
        own = {file for file in _named(table, gone) if file.startswith(root)}
        return frozenset(own - _named(table, left))

    def _commit(self, table: Table, old: frozenset[int]) -> bool:
        metadata = table.metadata
        heads = tuple(head_is(ref.snapshot_id, name) for name, ref in metadata.refs.items())
        change = many_tables.Change(
            table=table,
            requirements=(same_table(str(metadata.table_uuid)), *heads),
            updates=(cast(Any, RemoveSnapshotsUpdate)(snapshot_ids=sorted(old)),),
        )

        def is_done() -> bool:
            there = catalogs.existing(self._context, self._parts).metadata.snapshots
            return not old & {each.snapshot_id for each in there}

        many_tables.carry_out(self._context, self._catalog, [change], is_done)
        # Some catalogs answer 200 and do nothing.
        return is_done()

    def _delete(self, table: Table, files: frozenset[str]) -> int:
        """Delete files that no snapshot names by now."""
        unused = files - _named(table, table.metadata.snapshots) if files else files
        for file in sorted(unused):
            self._context.cancellation.check()
            with contextlib.suppress(FileNotFoundError):
                table.io.delete(file)
        self._forget_note()
        return len(unused)

    def _noted(self) -> frozenset[str]:
        """Return the files of an expiry that was killed before it had deleted them."""
        try:
            with open(self._note, encoding="utf-8") as file:
                return frozenset(map(str, json.load(file)))
        except (FileNotFoundError, ValueError):
            return frozenset()

    def _keep_note(self, files: frozenset[str]) -> None:
        write_durably(self._note, json.dumps(sorted(files)))

    def _forget_note(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._note)


def _named(table: Table, snapshots: Sequence[Snapshot]) -> set[str]:
    """Return the files that a reader of any of the snapshots, or an undo, may open.

    A data file that a manifest only lists as deleted is none of them.
    """
    io = table.io
    used: set[str] = set()
    lists = [each.manifest_list for each in snapshots]
    lists += [place for name, place in table.properties.items() if name.startswith(ledger.UNDO)]
    manifests = {}
    for place in lists:
        used.add(place)
        # A missing manifest names no files: nobody can read that snapshot.
        with contextlib.suppress(FileNotFoundError):
            for manifest in read_manifest_list(io.new_input(place)):
                manifests[manifest.manifest_path] = manifest
    for path, manifest in manifests.items():
        used.add(path)
        with contextlib.suppress(FileNotFoundError):
            entries = manifest.fetch_manifest_entry(io, discard_deleted=True)
            used |= {entry.data_file.file_path for entry in entries}
    return used


def expired(metadata: TableMetadata, before: float) -> frozenset[int]:
    """Return the snapshots that nothing needs and that were replaced before a moment.

    Args:
        before: milliseconds since 1970.
    """
    replaced: dict[int, int] = {}

    def note(snapshot_id: int | None, at: int) -> None:
        if snapshot_id is not None:
            replaced[snapshot_id] = max(at, replaced.get(snapshot_id, 0))

    for snapshot in metadata.snapshots:
        note(snapshot.snapshot_id, snapshot.timestamp_ms)
        note(snapshot.parent_snapshot_id, snapshot.timestamp_ms)
    log = metadata.snapshot_log
    for entry, following in itertools.pairwise(log):
        note(entry.snapshot_id, following.timestamp_ms)
    needed = _needed(metadata)
    return frozenset(
        each.snapshot_id
        for each in metadata.snapshots
        if each.snapshot_id not in needed and replaced[each.snapshot_id] < before
    )


def _needed(metadata: TableMetadata) -> set[int]:
    by_id = {each.snapshot_id: each for each in metadata.snapshots}
    needed = {ref.snapshot_id for ref in metadata.refs.values()}
    undo = {value for name, value in metadata.properties.items() if name.startswith(ledger.UNDO)}
    needed |= {each.snapshot_id for each in metadata.snapshots if each.manifest_list in undo}
    wrote = metadata.properties.get(ledger.WRITE_ID)
    since: set[int] = set()
    current = metadata.current_snapshot_id
    if current is not None:
        needed.add(current)
    while current is not None and current in by_id:
        since.add(current)
        summary = by_id[current].summary
        if summary and wrote and summary.additional_properties.get(ledger.WRITE_ID) == wrote:
            return needed | since
        current = by_id[current].parent_snapshot_id
    return needed
