"""What a promotion left in ``target/`` may have been changed: it leads to no foreign table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.cli import Cli, write

BIG = (
    "kind: transform\nname: big\ntransform: SELECT customer, total + %d AS total FROM "
    "ref('transform.totals')\nmaterialization: {type: folder, table: sales.big}\n"
)


@pytest.fixture
def state(seeknal: Cli, project: Path) -> Path:
    """A project's state, once something was promoted."""
    seeknal("run")
    write(project, {"seeknal/big.yml": BIG % 1})
    seeknal("run", "--env", "dev")
    seeknal("env", "promote", "dev")
    return project / "target" / "state"


def forge(state: Path, table: str, key: str | None = None) -> None:
    """Write down a promotion that published all but one target, which is another table."""
    record: dict[str, Any] = json.loads((state / "environments" / "prod.json").read_text("utf-8"))
    version = record.pop("schema_version")
    (real, held) = next(
        (key, one) for key, one in record["targets"].items() if one["node"] == "transform.big"
    )
    spec = {"node": held["node"], "table": table, "type": "folder"}
    spec |= {"connection": None, "mode": None, "unique_keys": [], "time_column": None}
    spec |= {"lookback": 0, "partition_by": [], "on_schema_change": "evolve", "options": {}}
    spec |= {"enabled": True, "covers": None}
    words = ("node", "bindings", "identity", "fingerprint", "content_key", "rows")
    write = {word: held[word] for word in words}
    write |= {"key": key or real, "name": table, "spec": spec, "staged": None}
    document = {"schema_version": version, "id": "p-forged", "source": "dev"}
    document |= {"destination": "prod", "started_at": "2026-01-01T00:00:00+00:00"}
    document |= {"step": "published", "parts": [], "direct": [write], "published": {}}
    document |= {"before": record, "after": record, "adopt": True}
    path = state / "promotions" / "prod.current.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document), "utf-8")


@pytest.mark.parametrize("command", [(), ("--resume",)])
def test_a_forged_promotion_makes_no_table(
    seeknal: Cli, project: Path, state: Path, command: tuple[str, ...]
) -> None:
    forge(state, "public.leak")
    said = seeknal("env", "promote", "dev", *command, code=1).said
    assert "public.leak is no target of this project's" in said
    assert not (project / "lake" / "public").exists()


def test_a_forged_promotion_overwrites_no_table(seeknal: Cli, project: Path, state: Path) -> None:
    theirs = project / "lake" / "public" / "theirs.parquet"
    theirs.parent.mkdir()
    pq.write_table(pa.table({"customer": ["them"], "total": [1]}), theirs)
    before = theirs.read_bytes()
    forge(state, "public.theirs", key="x")
    assert "public.theirs is no target" in seeknal("env", "promote", "dev", code=1).said
    assert theirs.read_bytes() == before


def test_a_promotion_goes_on_with_the_project_s_own_targets(
    seeknal: Cli, project: Path, state: Path
) -> None:
    forge(state, "sales.big")
    table = project / "lake" / "sales" / "big.parquet"
    table.unlink()
    seeknal("env", "promote", "dev")
    assert table.exists()
