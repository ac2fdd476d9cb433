"""The rules that every backend keeps, so that its author writes the store's part alone.

A backend may use any of this, or none. Nothing here opens a store or knows one:

- whose a table is: `is_ours`, `check_owner`, `check_drop`;
- rules of a write: `plan_write`, `check_snapshot`, `check_named_columns`, `check_columns`,
  `check_rows`, and `check_rows_in_sql` for a store that answers in SQL;
- the time that a write replaces: `day_of`, `intervals`, `check_covers`, `check_days`,
  and for rows in Arrow `count_days` and `inside`;
- rules of a promotion: `check_generation`, `check_base`, `check_published`;
- for a store whose transaction spans all its tables: `Transaction`, and over it all of
  `materialize`, `stage`, `prepare_publish`, `publish`, `revert`, `discard`, `drop_target`;
- sources, waiting and Arrow types: `projection`, `patiently`, `plain`.

A refusal names the target as the store does, and its hint says what to do. All of them are
written in `refusals`: a backend that finds out by itself that a key is duplicated raises
``refusals.duplicated_keys(…)``, and the user reads the same sentence for every store.
"""

from __future__ import annotations

from seeknal_core.contract.rules import refusals
from seeknal_core.contract.rules.checks import (
    Name,
    Record,
    Write,
    absent,
    check_base,
    check_columns,
    check_drop,
    check_generation,
    check_named_columns,
    check_owner,
    check_published,
    check_rows,
    check_rows_in_sql,
    check_snapshot,
    is_ours,
    plan_write,
)
from seeknal_core.contract.rules.helpers import (
    patiently,
    plain,
    projection,
)
from seeknal_core.contract.rules.times import (
    check_covers,
    check_days,
    count_days,
    day_of,
    inside,
    intervals,
)
from seeknal_core.contract.rules.transactions import (
    Open,
    Stage,
    Transaction,
    discard,
    drop_target,
    materialize,
    prepare_publish,
    publish,
    revert,
    stage,
)

__all__ = [
    "Name",
    "Open",
    "Record",
    "Stage",
    "Transaction",
    "Write",
    "absent",
    "check_base",
    "check_columns",
    "check_covers",
    "check_days",
    "check_drop",
    "check_generation",
    "check_named_columns",
    "check_owner",
    "check_published",
    "check_rows",
    "check_rows_in_sql",
    "check_snapshot",
    "count_days",
    "day_of",
    "discard",
    "drop_target",
    "inside",
    "intervals",
    "is_ours",
    "materialize",
    "patiently",
    "plain",
    "plan_write",
    "prepare_publish",
    "projection",
    "publish",
    "refusals",
    "revert",
    "stage",
]
