"""The decider, answer by answer: facts go in, what happens to a node or a target comes out."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

import seeknal_core
from seeknal_core.contract.types import (
    Connection,
    Drift,
    Mode,
    Origin,
    Ownership,
    QualifiedName,
    Target,
    TargetChange,
    TargetSpec,
    TargetState,
)
from seeknal_core.contract.types.digests import BindingDigest, ContentKey, Definition
from seeknal_core.plan.decide import (
    Action,
    Candidate,
    Holder,
    Need,
    Production,
    SourceFacts,
    TransformFacts,
    Writing,
    audits_hold,
    gives_rows_of,
    gone,
    has_inputs_of,
    is_as_promoted,
    shared,
    source,
    target,
    transform,
)
from seeknal_core.plan.proofs import Proof
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.project.specs import ChangePolicy
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, TargetRecord


@attrs.frozen
class Keys:
    """A store that has these keys, each under the key that it is stored as."""

    known: Mapping[str, str]

    def stored_as(self, node: str, content_key: str) -> ContentKey | None:
        found = self.known.get(content_key)
        return ContentKey(found) if found is not None else None


def node(key: str, **more: Any) -> NodeRecord:
    return NodeRecord(**{"definition": "d", "content_key": key, "rows": 1, **more})


def holders(*records: NodeRecord) -> list[Holder]:
    return [Holder(name=f"env{i}", record=record) for i, record in enumerate(records)]


PROOF = Proof(stored="old", sentence="it does not read x")

TRANSFORMS: dict[str, tuple[dict[str, Any], dict[str, str], Proof | None, bool, Any]] = {
    # facts, stored keys, a proof, whether audits passed; action, key, reused from
    "volatile": ({"volatile": ("now",)}, {}, None, True, (Action.COMPUTE, "", "")),
    "volatile comes first": (
        {"volatile": ("now",), "unknown": ("a",)},
        {},
        None,
        True,
        (Action.COMPUTE, "", ""),
    ),
    "inputs unknown": ({"unknown": ("a",)}, {}, PROOF, True, (Action.DEPENDS, "", "")),
    "not stored": ({"key": "k"}, {}, None, True, (Action.COMPUTE, "k", "")),
    "a proof whose rows are gone": ({"key": "k"}, {}, PROOF, True, (Action.COMPUTE, "k", "")),
    "proved": ({"key": "k"}, {"old": "old"}, PROOF, True, (Action.CHECK, "old", "")),
    "held": (
        {"key": "k", "holders": holders(node("k"))},
        {"k": "k"},
        None,
        True,
        (Action.REUSE, "k", "env0"),
    ),
    "held by the second": (
        {"key": "k", "holders": holders(node("other"), node("k"))},
        {"k": "k"},
        None,
        True,
        (Action.REUSE, "k", "env1"),
    ),
    "held, its audits have not passed": (
        {"key": "k", "holders": holders(node("k"))},
        {"k": "k"},
        None,
        False,
        (Action.CHECK, "k", "env0"),
    ),
    "held with another definition": (
        {"key": "k", "holders": holders(node("k", definition="e"))},
        {"k": "k"},
        None,
        True,
        (Action.CHECK, "k", ""),
    ),
    "stored, held by nobody": ({"key": "k"}, {"k": "k"}, None, True, (Action.CHECK, "k", "")),
    "a second name": (
        {"key": "k", "holders": holders(node("old"))},
        {"k": "old"},
        None,
        True,
        (Action.REUSE, "old", "env0"),
    ),
    "a second name that is proved here, too": (
        {"key": "k"},
        {"k": "old", "old": "old"},
        PROOF,
        True,
        (Action.CHECK, "old", ""),
    ),
}


@pytest.mark.parametrize("case", TRANSFORMS)
def test_what_happens_to_a_transform(case: str) -> None:
    facts, known, proof, passed, wanted = TRANSFORMS[case]
    decision = transform(
        TransformFacts(id="transform.t", definition="d", **facts),
        Keys(known),
        lambda: proof,
        lambda held: passed,
    )
    assert (decision.action, decision.content_key, decision.reused_from) == wanted
    proved = proof is not None and "old" in known and not facts.get("unknown")
    assert decision.proof == (PROOF.sentence if proved else "")


NOW = datetime.now(UTC)
HELD = node("k", binding="here", read_at=(NOW - timedelta(minutes=5)).isoformat())
SOURCES: dict[str, tuple[dict[str, Any], dict[str, str], bool, Any]] = {
    # facts, stored keys, whether audits passed; action, key, reason
    "nothing is known": ({}, {}, True, (Action.READ, "", "")),
    "held": ({"holders": holders(HELD)}, {"k": "k"}, True, (Action.REUSE, "k", "")),
    "held, not stored": ({"holders": holders(HELD)}, {}, True, (Action.READ, "", "")),
    "held, its audits have not passed": (
        {"holders": holders(HELD)},
        {"k": "k"},
        False,
        (Action.CHECK, "k", "its audits are to be run"),
    ),
    "changed": (
        {"holders": holders(attrs.evolve(HELD, definition=Definition("e")))},
        {"k": "k"},
        True,
        (Action.READ, "", ""),
    ),
    "bound to another place": (
        {"holders": holders(attrs.evolve(HELD, binding=BindingDigest("there"))), "rebound": True},
        {"k": "k"},
        True,
        (Action.READ, "", "bound to another place"),
    ),
    "read anew": (
        {"holders": holders(HELD), "anew": True, "in_store": True},
        {"k": "k"},
        True,
        (Action.READ, "", "sources are read anew"),
    ),
    "never changes": (
        {
            "holders": holders(HELD),
            "anew": True,
            "in_store": True,
            "changes": ChangePolicy.NEVER,
        },
        {"k": "k"},
        True,
        (Action.REUSE, "k", "changes: never"),
    ),
    "never changes, but leads elsewhere": (
        {
            "holders": holders(attrs.evolve(HELD, binding=BindingDigest("there"))),
            "anew": True,
            "in_store": True,
            "changes": ChangePolicy.NEVER,
        },
        {"k": "k"},
        True,
        (Action.READ, "", "sources are read anew"),
    ),
    "assumed unchanged for long enough": (
        {
            "holders": holders(HELD),
            "anew": True,
            "in_store": True,
            "changes": ChangePolicy.ASSUME_UNCHANGED,
            "assume_for": timedelta(minutes=10),
        },
        {"k": "k"},
        True,
        (Action.REUSE, "k", "changes: assume-unchanged"),
    ),
    "assumed unchanged too long ago": (
        {
            "holders": holders(HELD),
            "anew": True,
            "in_store": True,
            "changes": ChangePolicy.ASSUME_UNCHANGED,
            "assume_for": timedelta(minutes=1),
        },
        {"k": "k"},
        True,
        (Action.READ, "", "sources are read anew"),
    ),
    "files as they were": (
        {"holders": holders(HELD), "anew": True, "key": "k"},
        {"k": "k"},
        True,
        (Action.REUSE, "k", ""),
    ),
    "files that changed": (
        {"holders": holders(HELD), "anew": True, "key": "new"},
        {"k": "k"},
        True,
        (Action.READ, "new", "sources are read anew"),
    ),
    "files that another environment read": (
        {"key": "new"},
        {"new": "new"},
        True,
        (Action.CHECK, "new", "stored already"),
    ),
    "files that changed, and were read by another environment": (
        {"holders": holders(HELD), "anew": True, "key": "new"},
        {"k": "k", "new": "new"},
        True,
        (Action.CHECK, "new", "stored already"),
    ),
    "its Python may not run": (
        {"holders": holders(HELD), "anew": True, "refused": "no Python"},
        {"k": "k"},
        True,
        (Action.REUSE, "k", "as stored, no Python runs"),
    ),
    "its Python may not run, and nothing is stored": (
        {"anew": True, "refused": "no Python"},
        {},
        True,
        (Action.READ, "", "no Python"),
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_what_happens_to_a_source(case: str) -> None:
    facts, known, passed, wanted = SOURCES[case]
    decision = source(
        SourceFacts(id="source.s", definition="d", binding="here", **facts),
        Keys(known),
        lambda held: passed,
    )
    assert (decision.action, decision.content_key, decision.reason) == wanted


def check(
    drift: Drift = Drift.NONE,
    *,
    mode: Mode = Mode.FULL,
    exists: bool = True,
    linked: bool = False,
    owner: str = "",
    **more: Any,
) -> TargetCheck:
    ledger = Ownership(
        project="p", environment="e", state_id="s", content_key=owner or "k", run_id="r"
    )
    values: dict[str, Any] = {
        "identity": "place",
        "bindings": "b",
        "fingerprint": "f",
        "state": TargetState(
            exists=exists, identity="place", owner=ledger if owner else None, linked=linked
        ),
        "change": TargetChange(drift=drift) if drift is not Drift.NONE else None,
    }
    name = QualifiedName(parts=("s", "t"), quoted="s.t")
    found = Target(key="transform.t", node="transform.t", type="x", name=name, mode=mode)
    spec = TargetSpec(node="transform.t", type="x", table="s.t")
    found = attrs.evolve(found, key=spec.key)
    return TargetCheck(
        resolved=ResolvedTarget(spec=spec, connection=Connection(name="c", type="x"), target=found),
        **{**values, **more},
    )


KEY = TargetSpec(node="transform.t", type="x", table="s.t").key


def record(key: str = "k", **more: Any) -> TargetRecord:
    values = {
        "node": "transform.t",
        "name": "s.t",
        "type": "x",
        "connection": "c",
        "bindings": "b",
        "identity": "place",
        "fingerprint": "f",
        "content_key": key,
        "version": "1",
        "rows": 1,
        "written_at": "",
    }
    return TargetRecord(**{**values, **more})


PROD = Production(
    record=EnvironmentRecord(
        name="prod", nodes={"transform.t": node("k")}, targets={KEY: record(name="prod.t")}
    )
)
#: Production has the rows by another definition: they were proved to stay.
PROVED = Production(
    record=EnvironmentRecord(
        name="prod",
        nodes={"transform.t": node("k", definition="e")},
        targets={KEY: record(name="prod.t")},
    )
)
NONE = Production(record=None)
W, N = Writing, Need

TARGETS: dict[str, tuple[TargetCheck, str | None, TargetRecord | None, Production, Any, Any]] = {
    "new": (check(exists=False), "k", None, NONE, {}, (W.WRITE, N.NEW)),
    "new, rows unknown": (check(exists=False), None, None, NONE, {}, (W.WRITE, N.NEW)),
    "the same as production": (
        check(exists=False), "k", None, PROD, {}, (W.SHARED, N.SAME_AS_PRODUCTION),
    ),
    "the same as production, by a proof over another definition": (
        check(exists=False), "k", None,
        PROVED,
        {}, (W.SHARED, N.SAME_AS_PRODUCTION),
    ),
    "perhaps the same": (check(exists=False), None, None, PROD, {}, (W.DEPENDS, N.NEW)),
    "production's, and to be written": (
        check(), "k", None, attrs.evolve(PROD, all_targets=True), {}, (W.WRITE, N.NEW),
    ),
    "other rows than production": (check(), "other", None, PROD, {}, (W.WRITE, N.NEW)),
    "another target than production": (
        check(fingerprint="g"), "k", None, PROD, {}, (W.WRITE, N.NEW),
    ),
    "unchanged": (check(), "k", record(), NONE, {}, (W.KEEP, N.CURRENT)),
    "unchanged, nobody looked": (
        check(state=None), "k", record(), NONE, {"looked": False}, (W.UNLOOKED, N.CURRENT),
    ),
    "other rows": (check(), "other", record(), NONE, {}, (W.WRITE, N.CONTENT)),
    "rows unknown": (check(), None, record(), NONE, {}, (W.DEPENDS, N.CONTENT)),
    "missing": (check(exists=False), "k", record(), NONE, {}, (W.WRITE, N.MISSING)),
    "missing, rows unknown": (
        check(exists=False), None, record(), NONE, {}, (W.WRITE, N.MISSING),
    ),
    "missing, its rows were kept nowhere": (
        check(exists=False, mode=Mode.APPEND), "k", record(), NONE, {}, (W.REFUSED, N.REFUSED),
    ),
    "the same, written anew on request": (
        check(exists=False, mode=Mode.APPEND), "k", record(), NONE, {"full_refresh": True},
        (W.WRITE, N.REFRESH),
    ),
    "moved": (check(identity="new"), "k", record(), NONE, {}, (W.WRITE, N.MOVED)),
    "another mode": (check(fingerprint="g"), "k", record(), NONE, {}, (W.WRITE, N.CHANGED)),
    "changed by somebody": (check(Drift.CHANGED), "k", record(), NONE, {}, (W.WRITE, N.DRIFTED)),
    "changed by somebody, can't be restored": (
        check(Drift.CHANGED, mode=Mode.APPEND), "k", record(), NONE, {}, (W.REFUSED, N.REFUSED),
    ),
    "the same, taken over": (
        check(Drift.CHANGED, mode=Mode.APPEND), "k", record(), NONE, {"adopt": True},
        (W.ADOPT, N.ADOPTED),
    ),
    "rows were added to what keeps them": (
        check(Drift.ADDED, mode=Mode.APPEND), "k", record(), NONE, {}, (W.KEEP, N.CURRENT),
    ),
    "rows were added to what equals its rows": (
        check(Drift.ADDED), "k", record(), NONE, {}, (W.WRITE, N.DRIFTED),
    ),
    "another table has its name": (
        check(Drift.REPLACED), "k", record(), NONE, {}, (W.REFUSED, N.REFUSED),
    ),
    "another table, taken over": (
        check(Drift.REPLACED), "k", record(), NONE, {"adopt": True}, (W.WRITE, N.DRIFTED),
    ),
    "another checkout wrote it": (
        check(Drift.ELSEWHERE, owner="z"), "k", record(), NONE, {}, (W.REFUSED, N.REFUSED),
    ),
    "another checkout wrote these rows, taken over": (
        check(Drift.ELSEWHERE, owner="k"), "k", record("z"), NONE, {"adopt": True},
        (W.ADOPT, N.ADOPTED),
    ),
    "a command that died wrote it": (
        check(unrecorded="z"), "k", record(), NONE, {}, (W.WRITE, N.UNRECORDED),
    ),
    "a command that died appended": (
        check(unrecorded="z", mode=Mode.APPEND), "k", record(), NONE, {}, (W.KEEP, N.CURRENT),
    ),
    "a link": (
        check(linked=True), "k", record(link="prod.t"), PROD, {}, (W.KEEP, N.CURRENT),
    ),
    "a link, production moved on": (
        check(linked=True), "k", record("z", link="prod.t"), PROD, {},
        (W.SHARED, N.SAME_AS_PRODUCTION),
    ),
    "a link that became other rows": (
        check(linked=True), "other", record(link="prod.t"), PROD, {}, (W.WRITE, N.CONTENT),
    ),
    "a link, rows unknown": (
        check(linked=True), None, record(link="prod.t"), PROD, {}, (W.DEPENDS, N.CONTENT),
    ),
    "a link in whose place a table stands": (
        check(), "k", record(link="prod.t"), PROD, {}, (W.SHARED, N.SAME_AS_PRODUCTION),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TARGETS)
def test_what_happens_to_a_target(case: str) -> None:
    found, key, held, production, options, wanted = TARGETS[case]
    decision = target(found, key, held, production, **options)
    assert (decision.writing, decision.need) == wanted
    assert decision.need.writes == (decision.writing in (W.WRITE, W.DEPENDS))


ORIGIN = Origin(
    name=QualifiedName(parts=("t",), quoted="t"),
    identity="there",
    environment="prod",
    content_key="k",
)


def test_what_is_the_same_as_production_is_linked_copied_or_left_out() -> None:
    def decided(production: Production = PROD, copied: int = 0, **facts: Any) -> Writing:
        values = {"check": check(), "bytes": 10, "origin": ORIGIN, **facts}
        [one] = shared([Candidate(**values)], production, copied=copied)
        return one.writing

    small = attrs.evolve(PROD, copy_limit=15)
    assert decided() is W.LINK
    assert decided(no_link="no links") is W.COPY
    assert decided(no_link="private: row security") is W.LEFT_OUT
    assert decided(no_link="no links", check=check(mode=Mode.APPEND)) is W.LEFT_OUT
    assert decided(small, no_link="no links") is W.COPY
    assert decided(small, 6, no_link="no links") is W.LEFT_OUT
    assert decided(attrs.evolve(PROD, only_changed=True)) is W.LEFT_OUT
    assert decided(attrs.evolve(PROD, unchanged="skip")) is W.LEFT_OUT
    assert decided(check=check(identity="there")) is W.LEFT_OUT
    two = [Candidate(check=check(), bytes=10, no_link="no links")] * 2
    assert [one.writing for one in shared(two, small, copied=0)] == [W.COPY, W.LEFT_OUT]


#: Modules that compare content keys to find facts, and what the facts are about.
_FACTS = {
    "plan/look.py": "who wrote a table last, by the ledger",
    "environments/recover.py": "the same",
    "plan/proofs.py": "whether a proof is about the rows that were used",
}


def test_nobody_else_compares_content_keys() -> None:
    root = Path(seeknal_core.__file__).parent
    found = []
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        if name.startswith(("plan/decide/", "engine/", "testing/")) or name in _FACTS:
            continue
        for compared in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(compared, ast.Compare)
                and isinstance(compared.ops[0], (ast.Eq, ast.NotEq))
                and any(
                    isinstance(one, ast.Attribute) and one.attr == "content_key"
                    for one in (compared.left, *compared.comparators)
                )
            ):
                found.append(f"{name}:{compared.lineno}")
    assert found == [], "let seeknal_core.plan.decide compare them"


def test_a_target_that_left_the_project_stays_unless_it_is_pruned() -> None:
    assert [gone(prune=prune)[0] for prune in (False, True)] == [W.GONE, W.DROP]


def test_audits_hold_for_just_these_rows_and_no_age() -> None:
    held = node("k", audits="a")
    assert audits_hold(held, "a", ages=False)
    assert not audits_hold(held, "b", ages=False)
    assert not audits_hold(held, "a", ages=True)
    assert not audits_hold(None, "a", ages=False)


def test_a_promotion_ships_what_the_node_would_give_there() -> None:
    store = Keys({"k": "k", "alias": "k"})
    assert gives_rows_of(node("k"), "transform.t", "k", store)
    assert gives_rows_of(node("k"), "transform.t", "alias", store)
    assert not gives_rows_of(node("k"), "transform.t", "other", store)
    assert not gives_rows_of(node("gone"), "transform.t", "gone", store)
    assert has_inputs_of(node("k", inputs={"a": "1"}), {"a": "1"})
    assert not has_inputs_of(node("k", inputs={"a": "1"}), {"a": "2"})


@pytest.mark.parametrize(
    ("changed", "current"),
    [
        ({}, True),
        ({"content_key": "z"}, False),
        ({"fingerprint": "g"}, False),
        ({"identity": "new"}, False),
        ({"version": "2"}, False),
    ],
)
def test_a_promotion_leaves_a_table_that_is_as_wanted(
    changed: dict[str, str], current: bool
) -> None:
    state = TargetState(exists=True, identity="place", version="1")
    assert is_as_promoted(check(state=state), "k", record(**changed)) is current
