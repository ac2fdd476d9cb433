"""Results of hooks, held to the types of their fields."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from seeknal_core.contract import types
from seeknal_core.contract.types import (
    Binding,
    Checksum,
    Owned,
    OwnedKind,
    Ownership,
    Published,
    PublishedTarget,
    QualifiedName,
    SourceStream,
    Staged,
    Swept,
    TargetColumn,
    TargetState,
    WritePreview,
    WriteResult,
)
from seeknal_core.plugins import results
from seeknal_core.plugins.results import wrong

# To mypy these are of any type: that they are not is what is tested.
evolve: Any = attrs.evolve
make: Any = lambda cls, **fields: cls(**fields)  # noqa: E731

NAME = QualifiedName(parts=("a", "b"), quoted="a.b")
OWNER = Ownership(project="p", environment="e", state_id="s", content_key="k", run_id="r")
DONE = PublishedTarget(key="k", version="v", rows_after=1)
STATE = TargetState(exists=True, identity="i", version="v", owner=OWNER, rows=1)
RIGHT: list[Any] = [
    WriteResult(rows_written=1, rows_after=0, version="", notes=("a",)),
    Binding(connection="c", parts=("a",)),
    NAME,
    STATE,
    TargetState(exists=False, identity="i"),
    Staged(promotion="p", base=None, rows=0, data={"a": [1, {"b": None}]}),
    Published(targets=(DONE,)),
    Checksum(rows=1, columns={"a": "1"}),
    (Owned(kind=OwnedKind.TABLE, name=NAME),),
    make(SourceStream, identity="i", version=None, open=lambda: None),
    Swept(removed=1, kept=("a",)),
    WritePreview(refused="no"),
    (STATE, STATE),
    True,
    0,
    "text",
    None,
]
WRONG: list[tuple[Any, str]] = [
    (-1, "-1, which is no count"),
    (evolve(NAME, parts=["a"]), "parts is of type list, not tuple[str, ...]"),
    (evolve(NAME, parts=("a", 1)), "parts[1] is of type int, not str"),
    (evolve(STATE, rows=-1), "rows is -1, which is no count"),
    (evolve(STATE, rows=1.0), "rows is of type float, not int | None"),
    (evolve(STATE, generation=None), "generation is None, not int"),
    (evolve(STATE, owner="me"), "owner is of type str, not Ownership | None"),
    (evolve(STATE, owner=evolve(OWNER, run_id=None)), "owner.run_id is None, not str"),
    (
        evolve(STATE, columns=(make(TargetColumn, name="a", type=None),)),
        "columns[0].type is None, not str",
    ),
    ((STATE, evolve(STATE, version=7)), "[1].version is of type int, not str | None"),
    (make(Staged, promotion="p", base=None, rows=-2), "rows is -2, which is no count"),
    (
        make(Staged, promotion="p", base="", rows=0, data={1: 2}),
        "a key of data is of type int, not str",
    ),
    (make(Staged, promotion="p", base="", rows=0, data={"a": b""}), "data['a'] is of type bytes"),
    (Published(targets=(evolve(DONE, version=None),)), "targets[0].version is None"),
    (make(Checksum, rows=1, columns={"a": 1}), "columns['a'] is of type int, not str"),
    (make(Checksum, rows=1, columns={1: "a"}), "a key of columns is of type int, not str"),
    (
        (make(Owned, kind="table", name=NAME),),
        "[0].kind is of type str, not OwnedKind",
    ),
    (
        make(SourceStream, identity=None, version=None, open=lambda: None),
        "identity is None, not str",
    ),
]


@pytest.mark.parametrize("result", RIGHT, ids=lambda value: type(value).__name__)
def test_what_is_right_passes(result: object) -> None:
    assert wrong(result) == ""


@pytest.mark.parametrize(("result", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_wrong_is_named(result: object, words: str) -> None:
    assert words in wrong(result)


def test_every_result_can_be_looked_at() -> None:
    """All hints of the contract's values resolve, without pyarrow."""
    for value in vars(types).values():
        ours = isinstance(value, type) and value.__module__ == types.__name__
        # What only the core makes, or looks into itself.
        skipped = value in (types.Snapshot, types.Scan)
        if ours and attrs.has(value) and not skipped:
            assert results._hints(value) is not None
