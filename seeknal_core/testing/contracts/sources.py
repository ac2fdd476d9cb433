"""Sources: one consistent view, exact, in bounded memory."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
import pytest

from seeknal_core.contract.errors import BackendError, ConfigError, WriteRefused
from seeknal_core.testing.contracts.base import NEW, OLD, Contract, Trial, needs, with_rows
from seeknal_core.testing.rows import difference
from seeknal_core.testing.values import awkward

_MANY = 200_000


class SourcesTests(Contract):
    """The base of what a backend promises that reads."""

    contract = "SourceContract"
    requires: ClassVar[frozenset[str]] = frozenset({"read_source"})


class SourceTests(SourcesTests):
    """``read_source`` and ``bind_source``."""

    def test_a_source_gives_all_rows(self, trial: Trial) -> None:
        """All rows and columns of a table, also those that others wrote."""
        target = trial.write(OLD)
        trial.intrude(target)
        found = trial.bench.command().read(trial.bench.source(target))
        different = difference(found, trial.read(target) or OLD)
        assert not different and found.num_rows == 4, different

    def test_a_projection_gives_its_columns(self, trial: Trial) -> None:
        """`columns` are read, in their order, and no others."""
        target = trial.write(pa.table({"a": [1], "b": [2], "c": [3]}))
        found = trial.bench.read(trial.bench.source(target, columns=("c", "a")))
        assert (found.column_names, found.to_pylist()) == (["c", "a"], [{"c": 3, "a": 1}])

    def test_no_rows_have_columns(self, trial: Trial) -> None:
        """An empty table gives its columns and no row."""
        found = trial.bench.read(trial.bench.source(trial.write(OLD.slice(0, 0))))
        assert (found.num_rows, found.column_names) == (0, OLD.column_names)

    def test_many_rows_come_in_batches(self, trial: Trial) -> None:
        """Some 40 megabytes come in several batches, so that memory stays bounded."""
        rows = pa.table(
            {"id": range(_MANY), "text": [f"{number:0>200}" for number in range(_MANY)]}
        )
        source = trial.bench.source(trial.write(rows))
        with trial.bench.dispatcher.read_source(trial.bench.context, source) as stream:
            sizes = [batch.num_rows for batch in stream.open()]
        assert sum(sizes) == _MANY
        assert max(sizes) < _MANY, "all rows came in one batch"

    def test_a_view_is_consistent(self, trial: Trial) -> None:
        """Rows that come while a view is read are not in it."""
        rows = pa.table({"id": range(_MANY), "name": ["n"] * _MANY})
        target = trial.write(rows)
        source = trial.bench.source(target)
        with trial.bench.dispatcher.read_source(trial.bench.context, source) as stream:
            reader = stream.open()
            count = reader.read_next_batch().num_rows
            trial.intrude(target)
            count += sum(batch.num_rows for batch in reader)
        assert count == _MANY
        assert trial.bench.count(target) == _MANY + 1

    def test_the_rows_are_those_of_the_version(self, trial: Trial) -> None:
        """Where a source has a version, the rows are that version's, whenever they are read."""
        target = trial.write(OLD)
        source = trial.bench.source(target)
        with trial.bench.dispatcher.read_source(trial.bench.context, source) as stream:
            version = stream.version
            trial.intrude(target)
            found = stream.open().read_all()
        if version is not None:
            different = difference(found, OLD)
            assert not different, different

    def test_a_version_changes_when_the_rows_change(self, trial: Trial) -> None:
        """A version, where there is one, stays while nothing is written, and then changes."""
        target = trial.write(OLD)
        first, second = self._seen(trial, target), self._seen(trial, target)
        trial.intrude(target)
        third = self._seen(trial, target)
        trial.bench.write(target, NEW)
        fourth = self._seen(trial, target)
        if first[1] is not None:
            assert first == second
            assert len({first[1], third[1], fourth[1]}) == 3

    def test_a_sources_identity_is_its_tables(self, trial: Trial) -> None:
        """A source's identity is its table's: the same tomorrow, another for another table."""
        target, other = trial.write(OLD), trial.write(OLD, "other")
        first = self._seen(trial, target)[0]
        trial.bench.write(target, NEW)
        assert first and self._seen(trial, target)[0] == first
        assert self._seen(trial, other)[0] != first

    def _seen(self, trial: Trial, target: object) -> tuple[str, str | None]:
        bench = trial.bench.command()
        source = bench.source(target)  # type: ignore[arg-type]
        with bench.dispatcher.read_source(bench.context, source) as stream:
            return stream.identity, stream.version

    @pytest.mark.parametrize("missing", ["table", "column"])
    def test_what_is_missing_is_named(self, trial: Trial, missing: str) -> None:
        """A table or a column that is not there is an error that names it."""
        target = trial.write(OLD)
        with pytest.raises((BackendError, ConfigError)) as raised:
            if missing == "table":
                trial.bench.read(trial.bench.source(table=trial.bench.text("nowhere")))
            else:
                trial.bench.read(trial.bench.source(target, columns=("id", "nowhere")))
        assert "nowhere" in str(raised.value)

    def test_a_view_that_is_not_read_is_closed(self, trial: Trial) -> None:
        """A view can be closed unread and half-read, and the table be written afterwards."""
        target = trial.write(OLD)
        for read in (False, True):
            source = trial.bench.source(target)
            with trial.bench.dispatcher.read_source(trial.bench.context, source) as stream:
                if read:
                    stream.open().read_next_batch()
        trial.bench.write(target, NEW)
        trial.expect(target, NEW)

    def test_reading_changes_nothing(self, trial: Trial) -> None:
        """A source leaves the store as it is."""
        target = trial.write(OLD)
        before = trial.outsider.objects()
        trial.bench.read(trial.bench.source(target))
        assert trial.outsider.objects() == before
        trial.expect(target, OLD)

    @needs(fixture="query")
    def test_a_query_is_answered_by_the_store(self, trial: Trial, query: str) -> None:
        """A source's `query` gives what it selects."""
        target = trial.write(OLD)
        text = query.format(table=str(target.target.name))
        found = trial.bench.read(trial.bench.source(query=text))
        different = difference(found, OLD)
        assert not different, different

    @needs(fixture="writing_query")
    def test_a_query_that_writes_is_refused(self, trial: Trial, writing_query: str) -> None:
        """A `query` that is more than one reading statement is refused, and writes nothing."""
        target = trial.write(OLD)
        text = writing_query.format(table=str(target.target.name))
        with pytest.raises((BackendError, ConfigError)):
            trial.bench.read(trial.bench.source(query=text))
        trial.expect(target, with_rows(OLD))


class SourceValueTests(SourcesTests):
    """What a source does to values."""

    # A store's intervals hold months, too, and may come as text.
    @pytest.mark.parametrize("kind", [kind for kind in awkward() if kind != "duration"])
    def test_values_are_read_exactly(self, trial: Trial, kind: str) -> None:
        """What can be written is read as it was written."""
        column = awkward()[kind]
        rows = pa.table({"id": pa.array(range(len(column))), "awkward": column})
        target = trial.bench.target()
        try:
            trial.bench.write(target, rows)
        except WriteRefused:
            return
        different = difference(trial.bench.read(trial.bench.source(target)), rows)
        assert not different, different
