"""Publish what is staged: new tables first, then the existing ones, by compare-and-set.

Nobody reads a new table yet, and dropping it undoes it, so those come first.
The existing tables of a catalog that can do it change in one commit. Elsewhere
they change one after the other, and where one has moved meanwhile those before
it are brought back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
from pyiceberg.io import load_file_io
from pyiceberg.table import StagedTable

from seeknal_core.contract.errors import BackendError, StaleStage, Unreachable
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Batch, ExecutionContext, Published, PublishedTarget, Target
from seeknal_iceberg.commit import capabilities, fences, many_tables, outcome, unfinished, updates
from seeknal_iceberg.commit.one_table import MOVED, OutcomeUnknown
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import (
    is_busy,
    is_unanswered,
    sentence,
    translate,
    translating,
    wait_of,
)
from seeknal_iceberg.connection.namespaces import ensure_namespace, missing_levels
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.ledger.staged_write import StagedWrite
from seeknal_iceberg.ledger.versions import version_of
from seeknal_iceberg.names import quote
from seeknal_iceberg.promotion import revert
from seeknal_iceberg.source.rows import rows_after, rows_of
from seeknal_iceberg.write import transactions

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table

log = logging.getLogger("seeknal")

#: Seconds between the looks for a commit whose answer was lost.
LOOKS = (0.2, 0.5, 1.0, 2.0)


def publish(context: ExecutionContext, batch: Batch) -> Published:
    """Carry out the hook of the same name."""
    with translating(catalogs.of(context)):
        return _Publish(context, batch).run()


@attrs.define(kw_only=True)
class _Item:
    target: Target
    write: StagedWrite
    table: Table | None
    #: The table that was created without rows, until it is published.
    begun: Table | None = None

    @property
    def name(self) -> str:
        return str(self.target.name)


class _Publish:
    """One publish: look at all tables, refuse, commit, and undo what cannot stay."""

    def __init__(self, context: ExecutionContext, batch: Batch) -> None:
        self.context = context
        self.batch = batch
        self.connection = catalogs.of(context)
        self.catalog = catalogs.open_catalog(context)
        self.items = [self._load(target) for target in batch.targets]

    def _load(self, target: Target) -> _Item:
        assert target.staged is not None
        write = StagedWrite.of(target.staged)
        ask = catalogs.look if write.created else catalogs.load
        table = ask(self.catalog, target.name.parts)
        if table is not None:
            capabilities.saw(self.context, table.metadata)
        item = _Item(target=target, write=write, table=table)
        self._load_begun(item)
        return item

    def _load_begun(self, item: _Item) -> None:
        """Load a new table that waits under another name, or in its place without rows."""
        if not item.write.begun:
            return
        table = item.table
        if table is None:
            table = catalogs.load(self.catalog, item.write.begun)
        elif not unfinished.is_unfinished(self.context, item.target.name.parts, table.metadata):
            item.begun = None
            return
        else:
            item.table = None  # nobody has been given it yet
        same = table is not None and str(table.metadata.table_uuid) == item.write.uuid
        item.begun = table if same else None

    def run(self) -> Published:
        """Publish all, or leave all as they were."""
        open = [item for item in self.items if not self._is_done(item)]
        try:
            for item in open:
                self._check(item)
            created = [item for item in open if item.write.created]
            changed = [item for item in open if not item.write.created]
            self._set_fences(changed)
            for item in created:
                if item.write.begun:
                    self._finish(item)
                else:
                    self._commit([item])
                self._look_again(item)
            for group in self._groups(changed):
                self._commit(group)
        except Unreachable:
            raise  # it may have gone through: the same call again finds out
        # Whatever it was, no table of the batch stays changed alone.
        except Exception:
            unstopped = outcome.unstoppable(self.context)
            revert.undo(unstopped, self.catalog, self.batch, overwrite=False)
            raise
        for item in self.items:
            self._forget_note(item)
        return Published(targets=tuple(self._published(item) for item in self.items))

    def _groups(self, items: Sequence[_Item]) -> list[Sequence[_Item]]:
        """Return existing tables as they are committed to: all at once, or one by one."""
        if items and many_tables.at_once(self.context, self.catalog):
            return [items]
        return [[item] for item in items]

    def _is_fenced(self, item: _Item) -> bool:
        before = item.write.before
        fits = before is not None and before.snapshot_id is not None
        return fits and fences.works(self.context)

    def _keeps_history(self) -> bool:
        return capabilities.of(self.context).history is True

    def _set_fences(self, changed: Sequence[_Item]) -> None:
        """Set the tags that the commits require, where a commit may land late."""
        promotion = self.batch.promotion

        def is_set(item: _Item) -> bool:
            return item.table is not None and fences.is_set(item.table.metadata, promotion)

        for group in self._groups([item for item in changed if self._is_fenced(item)]):
            missing = [item for item in group if not is_set(item)]
            if not missing:
                continue
            changes = [
                fences.to_set(promotion, item.write, item.table)
                for item in missing
                if item.table is not None
            ]
            try:
                self._sent(missing, changes, is_set)
            except BackendError as error:
                moved = isinstance(error, StaleStage) and any(
                    self._moved(item) is not None for item in missing
                )
                if isinstance(error, Unreachable) or moved or self._keeps_history():
                    raise
                # Some catalogs refuse every reference but main, or call it a conflict.
                log.debug("no tag can be set", exc_info=error)
                capabilities.learn(self.context, history=False)
                return
            if capabilities.of(self.context).history is None:
                # Some catalogs take a tag, and don't keep it.
                kept = self._landed(missing[:1], is_set)
                capabilities.learn(self.context, history=kept)

    def _forget_note(self, item: _Item) -> None:
        """Remove a note, unless undoing needs to know of namespaces or folders made for this."""
        parts, write_id = item.target.name.parts, item.write.write_id
        note = write_notes.read_staged(self.context, parts, write_id)
        if note.there and not note.namespaces and not note.made:
            write_notes.forget_staged(self.context, parts, write_id)
        elif note.there:
            with outcome.note_of(self.context, item.target, item.write) as kept:
                kept.is_published()

    def _is_done(self, item: _Item) -> bool:
        """Tell whether a table holds already what its target's publish makes of it."""
        table, write = item.table, item.write
        if table is None:
            return False
        if write.snapshot_id is None:
            if str(table.metadata.table_uuid) != write.uuid:
                return False
            content_key = self.batch.content_keys[item.target.key]
            return not write.appends or ledger.has_appended(table.properties, content_key)
        return outcome.is_published(table.metadata, write, self.batch.promotion)

    def _check(self, item: _Item) -> None:
        """Refuse a target that is not as it was when it was staged.

        Raises:
            StaleStage: it has moved, was promoted, or its staged files are gone.
        """
        moved = self._moved(item)
        if moved is not None:
            raise moved
        if item.write.begun and item.begun is None:
            raise self._is_gone(item, f"table {quote(item.write.begun)}")
        found = item.table or item.begun
        io = found.io if found is not None else self._io(item)
        # Without keys of a catalog that lends them with its tables, nobody can look yet.
        if io is not None and not io.new_input(item.write.snapshot().manifest_list).exists():
            raise self._is_gone(item, item.write.location)

    def _look_again(self, item: _Item) -> None:
        """Look for the files of a new table whose keys came with it only now.

        Raises:
            StaleStage: what was staged is gone.
        """
        if item.write.snapshot_id is None or self._io(item) is not None:
            return
        table = catalogs.existing(self.context, item.target.name.parts)
        if not table.io.new_input(item.write.snapshot().manifest_list).exists():
            raise self._is_gone(item, item.write.location)

    def _is_gone(self, item: _Item, where: str) -> StaleStage:
        return refusals.stage_is_gone(item.name, self.batch.promotion, where)

    def _moved(self, item: _Item) -> StaleStage | None:
        """Return the refusal to publish over what happened since staging, None for nothing."""
        table, write, name = item.table, item.write, item.name
        before = write.before
        assert item.target.staged is not None
        base = item.target.staged.base
        if table is None:
            return None if before is None else refusals.moved(name, "staged", base, None)
        metadata = table.metadata
        version = version_of(metadata)
        if before is None or version != base or write.snapshot_id is None:
            return refusals.moved(name, "staged", base, version)
        why = ""
        if str(metadata.table_uuid) != write.uuid:
            why = "is another table now than when it was staged"
        elif (metadata.current_schema_id, metadata.default_spec_id) != (
            before.schema_id,
            before.spec_id,
        ):
            why = "has another schema or partitioning than when it was staged"
        elif ledger.sequence_of(metadata) != before.sequence:
            why = "was written, on a branch, since it was staged"
        if why:
            return StaleStage(f"{name} {why}", target=name)
        promotions = ledger.generation(self.context, table.properties)
        if promotions >= self.batch.generation:
            return refusals.another_promotion(promotions, self.batch.generation, name)
        return None

    def _io(self, item: _Item) -> FileIO | None:
        return catalogs.known_io(self.catalog, item.write.location)

    def _commit(self, items: Sequence[_Item]) -> None:
        """Commit for some targets at once, and know what became of it.

        Raises:
            StaleStage, BackendError: none of them landed.
            Unreachable: it is not known whether they did.
        """
        self._sent(items, [self._change(item) for item in items], self._is_done)
        self._note_sent(items, 0.0)

    def _finish(self, item: _Item) -> None:
        """Commit the rows of a table that was created without them, and give it its name.

        Raises:
            StaleStage, BackendError: it is not published.
            Unreachable: it is not known whether it is.
        """
        parts = item.target.name.parts
        if not self._has_rows(item):
            self._sent([item], [self._change(item)], self._has_rows)
        if item.begun is not None and item.begun.name() != parts:
            named = unfinished.rename(self.context, self.catalog, item.begun, parts)
            if named is None:
                raise StaleStage(
                    f"{item.name} was made by somebody else since it was staged", target=item.name
                )
            item.table, item.begun = named, None
        self._note_sent([item], 0.0)

    def _has_rows(self, item: _Item) -> bool:
        """Tell whether the rows of a table that was created without them are committed."""
        table = item.begun or item.table
        return table is not None and ledger.has_landed(table.metadata, item.write.write_id)

    def _sent(
        self,
        items: Sequence[_Item],
        changes: Sequence[many_tables.Change],
        is_done: Callable[[_Item], bool],
    ) -> None:
        """Note that a commit is on its way, and send it; the note stays where it landed."""
        self._note_sent(items, time.time())
        try:
            self._send(items, changes, is_done)
        except Unreachable:
            raise  # the notes stay: what undoes or discards it fences it off
        except Exception:
            self._note_sent(items, 0.0)
            raise

    def _note_sent(self, items: Sequence[_Item], sent: float) -> None:
        """Note that a commit is on its way, where another process carries it out."""
        if self.connection.catalog_type == "sql":
            return
        for item in items:
            with outcome.note_of(self.context, item.target, item.write) as note:
                bare = not item.write.created and not self._is_fenced(item)
                note.set_sent(sent, self.batch.promotion, bare=bare)

    def _send(
        self,
        items: Sequence[_Item],
        changes: Sequence[many_tables.Change],
        is_done: Callable[[_Item], bool],
    ) -> None:
        for left in reversed(range(many_tables.BUSY)):
            try:
                many_tables.commit(self.context, self.catalog, changes)
                return
            except MOVED as error:
                if self._landed(items, is_done):
                    return
                name = items[0].name if len(items) == 1 else "a table of the batch"
                raise StaleStage(
                    f"{name} was changed by somebody else while it was published",
                    target=items[0].name,
                ) from error
            # A lost answer looks like any failure of any library below; the tables decide.
            except Exception as error:
                if left and is_busy(error):
                    # It says when to ask again: it did not carry the commit out, or has by then.
                    time.sleep(wait_of(error, 1.0))
                    if self._landed(items, is_done):
                        return
                    continue
                if self._looked_for(items, error, is_done):
                    return
                raise (translate(error, self.connection, items[0].name) or error) from error

    def _looked_for(
        self, items: Sequence[_Item], error: Exception, is_done: Callable[[_Item], bool]
    ) -> bool:
        """Look for a commit whose answer was not understood."""
        unanswered = is_unanswered(error, self.connection)
        known = translate(error, self.connection, items[0].name)
        looked = False
        for pause in LOOKS if unanswered else LOOKS[:1]:
            time.sleep(pause)
            try:
                if self._landed(items, is_done):
                    return True
                looked = True
            # Whatever fails here, it only means that there is no answer yet.
            except Exception:  # noqa: BLE001
                continue
        if looked and not unanswered:
            return False
        raise OutcomeUnknown(
            f"{known or f'{items[0].name}: the catalog fails: {sentence(error)}'}; whether the "
            "commit went through is not known",
            target=items[0].name,
        ) from error

    def _landed(self, items: Sequence[_Item], is_done: Callable[[_Item], bool]) -> bool:
        for item in items:
            ask = catalogs.look if item.write.created else catalogs.load
            item.table = ask(self.catalog, item.target.name.parts)
            self._load_begun(item)
        return all(is_done(item) for item in items)

    def _change(self, item: _Item) -> many_tables.Change:
        if item.table is not None:
            requirements, made = updates.to_publish(
                self.context,
                self.batch,
                item.target,
                item.write,
                item.table.metadata,
                fenced=self._is_fenced(item),
                tells=fences.needed(self.context) and not self._keeps_history(),
                tags=capabilities.of(self.context).history is not False,
            )
            return many_tables.Change(table=item.table, requirements=requirements, updates=made)
        self._make_namespace(item)
        parts = item.target.name.parts
        requirements, made = updates.to_publish(
            self.context,
            self.batch,
            item.target,
            item.write,
            None,
            fenced=False,
            tells=False,
            tags=False,
        )
        if item.begun is not None:
            return many_tables.Change(table=item.begun, requirements=requirements, updates=made)
        table = StagedTable(
            identifier=transactions.identifier(self.connection, parts),
            metadata=item.write.new_metadata(),
            metadata_location=f"{item.write.metadata_folder}/unknown",
            io=self._io(item) or load_file_io({}, item.write.location),
            catalog=self.catalog,
        )
        return many_tables.Change(table=table, requirements=requirements, updates=made)

    def _make_namespace(self, item: _Item) -> None:
        parts = item.target.name.parts
        missing = missing_levels(self.catalog, parts[:-1])
        if missing:
            with outcome.note_of(self.context, item.target, item.write) as note:
                note.add_namespaces(missing)
            ensure_namespace(
                self.catalog, self.connection, parts[:-1], ledger.made_by(self.context)
            )

    def _published(self, item: _Item) -> PublishedTarget:
        write, table = item.write, item.table
        if write.snapshot_id is None:
            assert table is not None
            version, rows = version_of(table.metadata), rows_after(table)
        else:
            version = write.version
            summary = write.snapshot().summary
            known = rows_of(summary.additional_properties) if summary is not None else None
            rows = known if known is not None else self._count(item)
        return PublishedTarget(
            key=item.target.key, version=version, rows_after=rows, created=write.created
        )

    def _count(self, item: _Item) -> int:
        table = catalogs.existing(self.context, item.target.name.parts)
        return rows_after(table, item.write.snapshot_id)
