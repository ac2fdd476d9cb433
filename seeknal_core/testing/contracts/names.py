"""Names: a prefix in one place, two targets never in one table."""

from __future__ import annotations

import pytest

from seeknal_core.contract.errors import BackendError, ConfigError
from seeknal_core.testing.bench import Bench
from seeknal_core.testing.contracts.base import NEW, OLD, BackendTests, Trial

_LONG = "n" * 300
#: Namespaces and tables that a careless name would confuse.
_PLACES = (
    ("a_b", "c"), ("a", "b_c"), ("ab", "c"), ("a", "bc"), ("dev_a", "c"), ("a", "dev_c"),
    ("A", "c"), ("a", "C"), (_LONG, "t"), (_LONG + "x", "t"), ("a", _LONG), ("a", _LONG + "x"),
    ("a", "n" * 63), ("a", "n" * 64), ("a", "é" * 40), ("a", "é" * 41),
)  # fmt: skip
#: Names that need quotes somewhere.
_ODD = ("Order Details", "select", "naïve", "emoji😀", "a-b", "semi;colon", "per%cent", "1st")


class NameTests(BackendTests):
    """``namespace_for`` and ``bind_target``."""

    def test_the_prefix_stands_before_one_namespace(self, bench: Bench) -> None:
        """Production's name and dev's differ by the prefix of one namespace."""
        written = bench.target().target.name.parts
        dev = bench.development().target().target.name.parts
        assert len(dev) == len(written)
        different = [(a, b) for a, b in zip(written, dev, strict=True) if a != b]
        assert different and all(b == f"dev_{a}" for a, b in different), (written, dev)
        assert len(different) == 1 and dev[-1] == written[-1], (written, dev)

    def test_a_name_is_always_the_same(self, bench: Bench) -> None:
        """Two commands give a target one name."""
        for namespace, table in _PLACES[:8]:
            try:
                first = bench.target(table, namespace=namespace).target.name
            except ConfigError:
                continue  # refusing a name is right, too
            assert bench.command().target(table, namespace=namespace).target.name == first

    def test_different_targets_have_different_names(self, bench: Bench) -> None:
        """No two targets of an environment get one name, however long or odd."""
        for command in (bench, bench.development()):
            seen: dict[tuple[str, ...], tuple[str, str]] = {}
            for namespace, table in _PLACES:
                try:
                    name = command.target(table, namespace=namespace).target.name
                except ConfigError:
                    continue  # refusing a name is right, too
                assert name.parts not in seen, f"{(namespace, table)} and {seen[name.parts]}"
                seen[name.parts] = (namespace, table)
            assert len({str(command.target(t).target.name) for t in ("a", "b")}) == 2

    def test_long_names_get_tables_of_their_own(self, trial: Trial) -> None:
        """Names that differ only past a store's limit lead to two tables."""
        first, second = (trial.bench.target("n" * 62 + end) for end in ("xa", "xb"))
        trial.bench.write(first, OLD)
        trial.bench.write(second, NEW)
        trial.expect(first, OLD)
        trial.expect(second, NEW)

    @pytest.mark.parametrize("table", _ODD)
    def test_an_odd_name_is_written_or_refused(self, trial: Trial, table: str) -> None:
        """A name with blanks, signs or other letters is a table's, or is refused."""
        before = trial.outsider.objects()
        try:
            target = trial.bench.target(f'"{table}"')
            trial.bench.write(target, OLD)
        except (BackendError, ConfigError) as error:
            assert str(error).strip() and trial.outsider.objects() == before
            return
        trial.expect(target, OLD)
        assert trial.bench.count(target) == OLD.num_rows

    def test_environments_write_tables_of_their_own(self, trial: Trial) -> None:
        """What dev writes is not in production's table, and the other way round."""
        dev = trial.bench.development()
        here, there = trial.bench.target(), dev.target()
        trial.bench.write(here, OLD)
        dev.write(there, NEW)
        trial.expect(here, OLD)
        trial.expect(there, NEW)
        trial.bench.command(full_refresh=True).write(here, NEW)
        trial.expect(there, NEW)
