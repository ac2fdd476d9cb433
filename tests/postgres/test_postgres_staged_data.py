"""What a staged write remembers: one form, which today's journals have too."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from seeknal_core.contract.types import Mode, QualifiedName, Staged, Target
from seeknal_postgres.ledger.staged import StageData

#: As version 0.1.0 wrote it, for a table whose columns changed.
JOURNAL: dict[str, Any] = {
    "table": "_seeknal_prod.stage_1f",
    "mode": "full",
    "shape": "ab12",
    "rewrites": ["n"],
    "known": False,
    "retype": ["v"],
    "left": ["old", "gone"],
    "drop": ["gone"],
    "sent": {"doc": "_seeknal_sent_2"},
    "undo": True,
    "read": "AAAA",
}


def target(data: dict[str, Any], mode: Mode = Mode.APPEND) -> Target:
    name = QualifiedName(parts=("s", "t"), quoted="s.t")
    staged = Staged(promotion="p-1", base="1:2:3", rows=3, data=data)
    return Target(
        key="k", node="transform.n", type="postgresql", name=name, mode=mode, staged=staged
    )


def test_a_journal_of_an_older_version_is_read_and_written_as_it_was() -> None:
    data = StageData.of(target(JOURNAL))
    assert (data.mode, data.retype, data.sent) == (Mode.FULL, ("v",), {"doc": "_seeknal_sent_2"})
    assert data.changes is None
    assert json.loads(json.dumps(data.document())) == {**JOURNAL, "changes": None}


@pytest.mark.parametrize("lacking", JOURNAL)
def test_what_a_journal_lacks_has_its_default(lacking: str) -> None:
    data = StageData.of(target({key: one for key, one in JOURNAL.items() if key != lacking}))
    default = StageData(table="", mode=Mode.APPEND)
    assert getattr(data, lacking) == getattr(default, lacking)
    whole = StageData.of(target(JOURNAL))
    assert attrs.evolve(data, **{lacking: getattr(whole, lacking)}) == whole


@pytest.mark.parametrize("changes", [True, False])
def test_a_journal_says_whether_columns_change(changes: bool) -> None:
    data = StageData(table="s.t", mode=Mode.FULL, changes=changes)
    assert StageData.of(target(json.loads(json.dumps(data.document())))) == data
