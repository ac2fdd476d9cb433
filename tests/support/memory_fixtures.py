"""What the suite asks of the authors of the reference backend, for it and for broken ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from seeknal_core.testing import Outsider
from support.memory_outsider import MemoryOutsider

PASSWORD = "s3cret-word"


@pytest.fixture
def connection() -> Mapping[str, object]:
    return {"path": "store", "password": PASSWORD}


@pytest.fixture
def outsider(tmp_path: Path) -> Outsider:
    return MemoryOutsider(tmp_path / "store", PASSWORD)


@pytest.fixture
def unreachable() -> Mapping[str, object]:
    return {"path": "no/such/folder/store", "password": PASSWORD}


@pytest.fixture
def rejected(outsider: Outsider) -> Mapping[str, object]:
    outsider.write(("there", "table"), pa.table({"id": [1]}))
    return {"path": "store", "password": "wr0ng-word"}


@pytest.fixture
def query() -> str:
    return "SELECT * FROM {table}"


@pytest.fixture
def writing_query() -> str:
    return "CREATE TABLE x AS SELECT * FROM {table}"
