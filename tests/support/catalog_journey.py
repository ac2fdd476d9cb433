"""A project's life on one catalog: through the hooks, and through the command."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError

from seeknal_core.contract.types import Mode, Target
from seeknal_iceberg import plugin
from support.cli import Cli, Result, write
from support.iceberg import Bench


@attrs.frozen
class Look:
    """Reads a catalog's tables by pyiceberg alone.

    Args:
        options: pyiceberg's properties, past whatever stands before the catalog.
    """

    options: Mapping[str, str]

    @contextlib.contextmanager
    def catalog(self) -> Any:
        """Open the catalog."""
        made: Catalog = load_catalog("look", **self.options)
        try:
            yield made
        finally:
            made.close()

    def rows(self, *name: str) -> list[tuple[Any, ...]] | None:
        """Return a table's rows, sorted; None where there is no table."""
        with self.catalog() as catalog:
            try:
                found = catalog.load_table(name).scan().to_arrow()
            except NoSuchTableError:
                return None
        return sorted(tuple(row.values()) for row in found.to_pylist())

    def tables(self, *levels: str) -> list[str]:
        """Return the names of a namespace's tables; none where it is not there."""
        with self.catalog() as catalog:
            if not catalog.namespace_exists(levels):
                return []
            return sorted(name[-1] for name in catalog.list_tables(levels))


class HooksJourney:
    """What a promotion and all around it does to tables, by the hooks themselves.

    Each step is a command of its own, as far as the backend knows: with its own catalogs.
    """

    def __init__(self, options: Mapping[str, str], root: Path, look: Look) -> None:
        self._options, self._root, self._look = {"catalog": dict(options)}, root, look
        self.namespace = f"ns_{uuid.uuid4().hex[:10]}"
        self._open: list[Bench] = []

    def _bench(self, environment: str = "prod") -> Bench:
        prefix = "" if environment == "prod" else f"{environment}_"
        bench = Bench(self._options, self._root, environment=environment, prefix=prefix)
        self._open.append(bench)
        return bench

    def _target(self, bench: Bench, table: str, **fields: Any) -> Target:
        return bench.target(f"{self.namespace}.{table}", **fields)

    def _rows(self, table: str) -> list[tuple[Any, ...]] | None:
        return self._look.rows(self.namespace, table)

    def go(self) -> None:
        """Run, dev, promotion of changed and new tables, rollback, promotion, delete."""
        self._run()
        self._dev()
        promotion = self._promote("p-1")
        assert promotion.revert(self._bench())
        assert self._rows("orders") == [(1,), (2,)] and self._rows("keyed") == [(1, "a")]
        assert self._rows("new") is None
        promotion.discard(self._bench())
        self._promote("p-2").discard(self._bench())
        self._delete()

    def _run(self) -> None:
        bench = self._bench()
        bench.write(self._target(bench, "orders"), {"id": [1, 2]})
        bench.write(self._target(bench, "keyed"), {"id": [1], "s": ["a"]})
        source = self._target(bench, "orders")
        assert bench.read(source).num_rows == bench.count(source) == 2

    def _dev(self) -> None:
        bench = self._bench("dev")
        bench.write(self._target(bench, "orders"), {"id": [1, 2, 3]})
        again = bench.write(self._target(bench, "orders", mode=Mode.APPEND), {"id": [4]})
        assert again.rows_after == 4
        assert self._look.rows(f"dev_{self.namespace}", "orders") == [(n,) for n in (1, 2, 3, 4)]

    def _promote(self, name: str) -> Any:
        bench = self._bench()
        promotion = bench.promotion(name, generation=int(name[-1]))
        promotion.stage(self._target(bench, "orders"), {"id": [1, 2, 3]})
        keyed = self._target(bench, "keyed", mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
        promotion.stage(keyed, {"id": [1, 2], "s": ["A", "b"]})
        promotion.stage(self._target(bench, "new"), pa.table({"id": [5]}))
        promotion.publish(self._bench())
        assert self._rows("orders") == [(1,), (2,), (3,)]
        assert self._rows("keyed") == [(1, "A"), (2, "b")] and self._rows("new") == [(5,)]
        return promotion

    def _delete(self) -> None:
        bench = self._bench("dev")
        for owned in plugin.list_owned(bench.context):
            plugin.drop_target(bench.context, owned)
        assert self._look.tables(f"dev_{self.namespace}") == []
        assert self._look.tables(self.namespace) == ["keyed", "new", "orders"]

    def close(self) -> None:
        """Close all that was opened."""
        for bench in self._open:
            bench.close()


class CommandJourney:
    """The same with the ``seeknal`` command, as a user types it."""

    def __init__(self, options: Mapping[str, str], folder: Path, look: Look) -> None:
        self.look = look
        self.namespace = f"ns_{uuid.uuid4().hex[:10]}"
        root = folder / "shop"
        profile = {"connections": {"lake": {"type": "iceberg", "catalog": dict(options)}}}
        write(root, {"seeknal_project.yml": "name: shop\n", "profiles.yml": json.dumps(profile)})
        self.root = root
        self.seeknal = Cli(cwd=root, environ={"HOME": str(folder / "home")}, warm=True)

    def node(self, name: str, sql: str, more: str = "") -> None:
        """Write a transform with a target."""
        target = f"{{type: iceberg, connection: lake, table: {self.namespace}.{name}{more}}}"
        head = f"/* ---\nmaterializations:\n  - {target}\n--- */\n"
        write(self.root, {f"seeknal/{name}.sql": f"{head}{sql}\n"})

    def become(self, version: int) -> None:
        """Write a version of the project: other rows, and from the second on a new table."""
        rows = f"SELECT id, id * {version} AS amount FROM range(5) AS r(id)"
        self.node("kept", rows)
        self.node("keyed", rows, ", mode: upsert_by_key, unique_keys: [id]")
        if version > 1:
            self.node("new", f"SELECT id, {version} AS version FROM range(3) AS r(id)")

    def expect(self, version: int, namespace: str = "") -> None:
        """Check that a version's rows are in the tables, all of them."""
        namespace = namespace or self.namespace
        amounts = [(n, n * version) for n in range(5)]
        assert self.look.rows(namespace, "kept") == amounts
        assert self.look.rows(namespace, "keyed") == amounts
        wanted = [(n, version) for n in range(3)] if version > 1 else None
        assert self.look.rows(namespace, "new") == wanted

    def source(self) -> None:
        """Add a node that reads a table of the catalog."""
        source = f"kind: source\nname: read\nsource: iceberg\ntable: {self.namespace}.kept\n"
        write(self.root, {"seeknal/read.yml": f"{source}params: {{connection: lake}}\n"})
        self.node("copied", "SELECT id, amount FROM source.read")

    def go(self) -> None:
        """Run, dev, plan and apply, promotion, rollback, promotion, source, delete."""
        seeknal = self.seeknal
        self.become(1)
        seeknal("run")
        self.expect(1)
        self.become(2)
        seeknal("env", "plan", "dev")
        seeknal("env", "apply", "dev")
        self.expect(2, f"dev_{self.namespace}")
        seeknal("env", "promote", "dev")
        self.expect(2)
        seeknal("env", "rollback", "prod")
        self.expect(1)
        seeknal("env", "plan", "dev")
        seeknal("env", "apply", "dev")
        seeknal("env", "promote", "dev")
        self.expect(2)
        self.source()
        seeknal("run")
        assert self.look.rows(self.namespace, "copied") == [(n, n * 2) for n in range(5)]
        status: Result = seeknal("env", "status", "prod", "--exit-code")
        assert "drift" not in status.said.lower() or status.code == 0
        seeknal("env", "delete", "dev", "--yes")
        assert self.look.tables(f"dev_{self.namespace}") == []
        self.expect(2)

    def promotion_is_killed_and_finished(
        self, way: str, killer: str, hooks: str, point: str
    ) -> None:
        """Kill a promotion, and go on with it or take it back, as ``status`` says.

        Args:
            way: ``--resume`` or ``--abort``.
            killer: the path on which `support.seeknal_killer` is installed.
            hooks: what it counts.
            point: where it kills.
        """
        self.become(1)
        self.seeknal("run")
        self.become(2)
        self.seeknal("env", "plan", "dev")
        self.seeknal("env", "apply", "dev")
        cold = attrs.evolve(self.seeknal, warm=False)
        dies = {"SEEKNAL_KILL_HOOKS": hooks, "SEEKNAL_KILL_AT": point, "PYTHONPATH": killer}
        cold("env", "promote", "dev", code=-9, **dies)
        assert way in self.seeknal("env", "status", "prod", code=5).said
        self.seeknal("env", "promote", "dev", "prod", way)
        self.expect(2 if way == "--resume" else 1)
        self.seeknal("env", "status", "prod")
