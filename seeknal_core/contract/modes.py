"""The modes of writing, and what each means in every store.

A mode is a member of `Mode` and a `ModeRule`. Code that has to know what a mode does asks its
rule; it doesn't compare modes. How a store carries a mode out is in the backend, one class a
mode. To add a mode: a member, its rule in `rule_of`, and one class in each backend.
"""

from __future__ import annotations

import enum
from typing import assert_never

import attrs


class Mode(enum.Enum):
    """How a target takes a snapshot (``docs/projects.md``, "Targets")."""

    FULL = "full"
    APPEND = "append"
    UPSERT_BY_KEY = "upsert_by_key"
    INCREMENTAL_BY_TIME = "incremental_by_time"
    INSERT_OVERWRITE = "insert_overwrite"

    @property
    def rule(self) -> ModeRule:
        """What the mode means in every store."""
        return rule_of(self)


class SchemaChange(enum.Enum):
    """What a write does when the snapshot's columns differ from the table's."""

    EVOLVE = "evolve"
    FAIL = "fail"
    SYNC = "sync"


class Keeps(enum.Enum):
    """Which rows of a table are left by a write."""

    NOTHING = "none: the snapshot replaces them all"
    OTHERS = "those that no row of the snapshot replaces"
    ALL = "all: the snapshot adds its rows"


class Field(enum.Enum):
    """A field of a target that a mode works by; the value is its name in YAML."""

    UNIQUE_KEYS = "unique_keys"
    TIME_COLUMN = "time_column"
    PARTITION_BY = "partition_by"


@attrs.frozen(kw_only=True)
class ModeRule:
    """What a mode means, the same in every store.

    Attributes:
        keeps: which older rows a write leaves in the table.
        needs: the field that the user must set for it; None: none.
        placing: the field with the columns that tell which of the table's rows a row replaces.
            They must be columns of the snapshot, without NULL. None: no row replaces another.
        unique: whether two rows of a snapshot with the same values there are refused.
        repairs: whether writing the snapshot again restores its rows, whatever somebody did to
            the table. Where it doesn't, a changed table is the user's to decide about.
        once: whether writing a snapshot a second time adds nothing. The ledger remembers the
            content keys.
    """

    keeps: Keeps
    needs: Field | None = None
    placing: Field | None = None
    unique: bool = False
    repairs: bool = False
    once: bool = False

    @property
    def replaces(self) -> bool:
        """Whether after a write the table has the snapshot's rows and no others.

        Then a snapshot shows what the table holds: it can be shipped by a promotion, and
        copied in place of another environment's table.
        """
        return self.keeps is Keeps.NOTHING


def rule_of(mode: Mode) -> ModeRule:
    """Return what a mode means in every store."""
    match mode:
        case Mode.FULL:
            return _FULL
        case Mode.APPEND:
            return _APPEND
        case Mode.UPSERT_BY_KEY:
            return _UPSERT_BY_KEY
        case Mode.INCREMENTAL_BY_TIME:
            return _INCREMENTAL_BY_TIME
        case Mode.INSERT_OVERWRITE:
            return _INSERT_OVERWRITE
        case _ as never:
            assert_never(never)


_FULL = ModeRule(keeps=Keeps.NOTHING, repairs=True)
_APPEND = ModeRule(keeps=Keeps.ALL, once=True)
_UPSERT_BY_KEY = ModeRule(
    keeps=Keeps.OTHERS,
    needs=Field.UNIQUE_KEYS,
    placing=Field.UNIQUE_KEYS,
    unique=True,
    repairs=True,
)
_INCREMENTAL_BY_TIME = ModeRule(
    keeps=Keeps.OTHERS, needs=Field.TIME_COLUMN, placing=Field.TIME_COLUMN
)
_INSERT_OVERWRITE = ModeRule(keeps=Keeps.OTHERS, needs=Field.PARTITION_BY)
