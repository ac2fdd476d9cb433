"""What fuzzing found in what a catalog sends is read again by every run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.replaying import replay
from fuzz.targets import BACKENDS, target


@pytest.mark.parametrize("name", BACKENDS["seeknal_iceberg"])
def test_every_kept_answer_ends_in_a_result_or_an_error_of_ours(name: str, tmp_path: Path) -> None:
    replay(target(name), tmp_path)
