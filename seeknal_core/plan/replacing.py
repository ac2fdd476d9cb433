"""Rows that a full refresh takes from tables whose mode keeps rows.

Such a table holds what earlier snapshots brought. A full refresh leaves what the node
gives now, so the user is asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from seeknal_core.contract.errors import BackendError
from seeknal_core.plan.decide import is_refused
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class Replaced:
    """A table whose rows a full refresh replaces. ``rows`` is None where they can't be counted."""

    name: str
    node: str
    mode: str
    rows: int | None

    def __str__(self) -> str:
        many = "an unknown number of rows" if self.rows is None else _counted(self.rows)
        return (
            f"{self.name} ({self.mode}) has {many}: --full-refresh deletes them, and leaves only "
            f"what {self.node} gives now"
        )


#: Asks whether the tables' rows may go; raises where the answer is no.
Confirm = Callable[[Sequence[Replaced]], None]


def _counted(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def replaced(
    session: Session, checks: Iterable[TargetCheck], record: EnvironmentRecord
) -> tuple[Replaced, ...]:
    """Return the tables from which a full refresh takes rows. Only counts, changes nothing.

    Tables in mode ``full``, empty and absent ones, links, and what is refused anyhow
    are not among them.
    """
    if not session.context.full_refresh:
        return ()
    found = []
    for check in checks:
        target = check.resolved.target
        held = record.targets.get(target.key)
        if target.mode.rule.replaces or (held is not None and held.link):
            continue
        if check.state is not None and (not check.state.exists or check.state.linked):
            continue
        if held is not None and not session.context.adopt and is_refused(check, held):
            continue
        session.context.cancellation.check()
        rows: int | None
        try:
            rows = session.dispatcher.count_rows(session.context, check.resolved)
        except BackendError:
            # A damaged table is replaced by a full refresh, too. A backend that can't say
            # whether a table is there can't count one that was never written.
            if check.state is None and held is None:
                continue
            rows = None
        if rows != 0:
            found.append(
                Replaced(name=str(target.name), node=target.node, mode=target.mode.value, rows=rows)
            )
    return tuple(found)
