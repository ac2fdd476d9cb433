"""The catalog that ``SEEKNAL_CATALOG_MODE`` names, made anew for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.catalog_in_mode import MODES, ModedCatalog, in_mode, rest_backing

if TYPE_CHECKING:
    from support.lake import LakeServer


@pytest.fixture
def moded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ModedCatalog]:
    """The mode before an empty catalog, its files beside it where the mode lets them."""
    name = os.environ.get("SEEKNAL_CATALOG_MODE", "plain")
    lake: LakeServer | None = None
    if MODES[name].on_s3:
        lake = request.getfixturevalue("lake")
    with (
        rest_backing(tmp_path / "server", lake, tokens=name == "expiring-tokens") as backing,
        in_mode(name, backing) as made,
    ):
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a REST catalog does not do yet."""
    why = "the namespace is made before the values are looked at"
    for item in items:
        if item.name.endswith("[timestamp in nanoseconds]"):
            item.add_marker(pytest.mark.xfail(reason=why, strict=True))
