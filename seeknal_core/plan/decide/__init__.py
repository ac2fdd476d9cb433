"""What happens to a node and to a target: the one place that decides.

A plan shows these decisions, a run or an apply carries them out, a promotion asks for them.
The functions get facts (records, stored keys, proofs, what stands in the stores) and change
nothing. Content keys are compared here, and nowhere else in the core, but for the facts:
`seeknal_core.plan.look` and ``state recover`` find out by a store's ledger who wrote a table
last, and `seeknal_core.plan.proofs` whether a proof holds.

An answer is yes, no, or *it depends*: on rows that are not read yet (`Action.READ`,
`Action.DEPENDS`, `Writing.DEPENDS`), or on a table that nobody looked at
(`Writing.UNLOOKED`). Such an answer is decided again, by the same function, when the rows or
the table are known.
"""

from __future__ import annotations

from seeknal_core.plan.decide.node import (
    Action,
    Holder,
    NodeDecision,
    Rows,
    SourceFacts,
    Stored,
    TransformFacts,
    audits_hold,
    gives_rows_of,
    has_inputs_of,
    has_rows_of,
    is_assumed_unchanged,
    no_proof,
    rows,
    source,
    transform,
)
from seeknal_core.plan.decide.shared import Candidate, SharedDecision, shared
from seeknal_core.plan.decide.target import (
    Need,
    Production,
    TargetDecision,
    Writing,
    gone,
    in_words,
    is_as_promoted,
    is_refused,
    keeps_rows,
    target,
)

__all__ = [
    "Action",
    "Candidate",
    "Holder",
    "Need",
    "NodeDecision",
    "Production",
    "Rows",
    "SharedDecision",
    "SourceFacts",
    "Stored",
    "TargetDecision",
    "TransformFacts",
    "Writing",
    "audits_hold",
    "gives_rows_of",
    "gone",
    "has_inputs_of",
    "has_rows_of",
    "in_words",
    "is_as_promoted",
    "is_assumed_unchanged",
    "is_refused",
    "keeps_rows",
    "no_proof",
    "rows",
    "shared",
    "source",
    "target",
    "transform",
]
