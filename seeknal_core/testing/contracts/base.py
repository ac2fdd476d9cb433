"""What all contracts stand on: the fixtures `bench` and `trial`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import attrs
import pyarrow as pa
import pytest

from seeknal_core.contract.errors import BackendError, ConfigError, WriteRefused
from seeknal_core.contract.types import Mode, Snapshot
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.testing.backend import Backend
from seeknal_core.testing.bench import Bench, Command
from seeknal_core.testing.outsider import Outsider
from seeknal_core.testing.plugin import REFUSED
from seeknal_core.testing.rows import difference

#: Rows of no particular interest, before a write and after it.
OLD = pa.table({"id": [1, 2, 3], "name": ["a", "b", None]})
NEW = pa.table({"id": [3, 4], "name": ["", "d"]})
#: What somebody else writes.
FOREIGN = pa.table({"id": [99], "name": ["theirs"]})

Rows: TypeAlias = Snapshot | pa.Table | Mapping[str, Any]


def needs(*hooks: str, fixture: str | None = None) -> pytest.MarkDecorator:
    """Mark a test that makes sense only with hooks, or with an optional fixture."""
    return pytest.mark.seeknal_needs(*hooks, fixture=fixture)


@contextmanager
def refused(expected: BackendError) -> Iterator[None]:
    """Expect a refusal in the words of `seeknal_core.contract.rules.refusals`.

    The words may go on: with an example, say. The hint must be there.
    """
    with pytest.raises(type(expected)) as raised:
        yield
    assert raised.value.message.startswith(expected.message)
    assert raised.value.hint


@attrs.frozen(kw_only=True)
class Trial:
    """A store, the hooks on it, and somebody who looks at it from outside."""

    bench: Bench
    outsider: Outsider
    record: Callable[[str, object], None]

    def begin(self, mode: Mode, rows: Rows, **fields: Any) -> ResolvedTarget | None:
        """Make a table by a first write in `mode`.

        Returns:
            None where the backend refuses the mode, having written nothing.
        """
        before = self.outsider.objects()
        try:
            target = self.bench.target(mode=mode, **fields)
            self.bench.write(target, rows)
        except (WriteRefused, ConfigError) as error:
            assert self.outsider.objects() == before, "the mode was refused after a write"
            self.record(REFUSED, str(error))
            return None
        return target

    def write(self, rows: Rows, table: str = "orders") -> ResolvedTarget:
        """Make a table that holds `rows`."""
        target = self.bench.target(table)
        self.bench.write(target, rows)
        return target

    def read(self, target: ResolvedTarget) -> pa.Table | None:
        """Return what a reader sees."""
        return self.outsider.read(target.target.name.parts)

    def expect(self, target: ResolvedTarget, wanted: pa.Table | None) -> None:
        """Assert what a reader sees; None where there must be no table."""
        found = self.read(target)
        name = target.target.name
        if wanted is None:
            assert found is None, f"{name} is there, and must not be"
            return
        different = difference(found, wanted)
        assert not different, f"{name}: {different}"

    def intrude(self, target: ResolvedTarget, rows: pa.Table = FOREIGN) -> None:
        """Add rows to a target's table, as somebody else."""
        self.outsider.write(target.target.name.parts, rows)


def with_rows(*tables: pa.Table) -> pa.Table:
    """Return the rows of all tables; a column that one lacks is NULL in it."""
    return pa.concat_tables(tables, promote_options="permissive")


class Contract:
    """The base of all contracts.

    ``contract`` names the class that a backend's authors subclass; ``requires`` the
    hooks without which none of the class's tests applies.
    """

    seeknal_contract = True
    contract = ""
    requires: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def bench(
        self, backend: Backend, connection: Mapping[str, object], tmp_path: Path
    ) -> Iterator[Bench]:
        """One command in production."""
        made = Bench(backend, connection, tmp_path, Command())
        yield made
        made.close()

    @pytest.fixture
    def trial(
        self,
        bench: Bench,
        outsider: Outsider,
        record_property: Callable[[str, object], None],
    ) -> Trial:
        """The store from both sides."""
        return Trial(bench=bench, outsider=outsider, record=record_property)


class BackendTests(Contract):
    """The base of what every backend promises."""

    contract = "BackendContract"


class StagingTests(Contract):
    """The base of what a backend promises that stages."""

    contract = "StagingContract"
    requires: ClassVar[frozenset[str]] = frozenset(
        {"stage", "publish", "revert", "discard", "inspect_target"}
    )
