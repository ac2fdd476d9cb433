"""What fuzzing found, and what it began with, is read again by every run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.replaying import replay
from fuzz.target import CORPUS
from fuzz.targets import BACKENDS, CORE


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
@pytest.mark.parametrize("name", CORE)
def test_every_kept_input_ends_in_a_result_or_an_error_of_ours(name: str, tmp_path: Path) -> None:
    replay(CORE[name], tmp_path)


def test_every_corpus_is_of_a_target_and_small() -> None:
    kept = [path for path in CORPUS.rglob("*") if path.is_file()]
    backends = {name for names in BACKENDS.values() for name in names}
    assert {path.parent.name for path in kept} == {*CORE, *backends}
    assert len(kept) < 250
    assert max(path.stat().st_size for path in kept) <= 4_500
