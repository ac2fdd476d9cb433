"""What a staged write keeps for its publish: the backend's form of `Staged.data`.

Journals keep it as JSON, so it is a document of texts, lists and flags there. `StageData` is
the only place that writes or reads that form.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.contract.types import Mode, Target


@attrs.frozen(kw_only=True)
class StageData:
    """What a publish has to know about a staged write, besides its rows.

    ``table`` is the stage table, as printed. ``mode`` is the mode in force. ``shape`` is a
    digest of all that was found out about the table (`shape_of`), empty if there was none.
    ``rewrites``, ``retype``, ``left`` and ``drop`` are columns, as `Change` has them. ``sent``
    names the further columns that keep values as they were sent. ``known`` tells that an
    append's rows are in the table already, ``undo`` that the tables which will undo the publish
    were made. ``changes`` says whether the table's columns change, None in an older version's
    journal. ``read`` holds the Arrow types of columns that come back in another one.
    """

    table: str
    mode: Mode
    shape: str = ""
    rewrites: tuple[str, ...] = ()
    retype: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    sent: Mapping[str, str] = attrs.field(factory=dict)
    known: bool = False
    undo: bool = False
    changes: bool | None = None
    read: str = ""

    def document(self) -> dict[str, object]:
        """Return it as values of JSON."""
        return {
            "table": self.table,
            "mode": self.mode.value,
            "shape": self.shape,
            "rewrites": list(self.rewrites),
            "retype": list(self.retype),
            "left": list(self.left),
            "drop": list(self.drop),
            "sent": dict(self.sent),
            "known": self.known,
            "undo": self.undo,
            "changes": self.changes,
            "read": self.read,
        }

    @classmethod
    def of(cls, target: Target) -> StageData:
        """Return what was staged for a target; what an older journal lacks has its default."""
        data = target.staged.data if target.staged is not None else {}
        return cls(
            table=str(data.get("table", "")),
            mode=Mode(data.get("mode", target.mode.value)),
            shape=str(data.get("shape", "")),
            rewrites=_texts(data.get("rewrites")),
            retype=_texts(data.get("retype")),
            left=_texts(data.get("left")),
            drop=_texts(data.get("drop")),
            sent=_mapping(data.get("sent")),
            known=bool(data.get("known", False)),
            undo=bool(data.get("undo", False)),
            changes=bool(data["changes"]) if data.get("changes") is not None else None,
            read=str(data.get("read", "")),
        )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


def _mapping(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): str(one) for name, one in value.items()}
