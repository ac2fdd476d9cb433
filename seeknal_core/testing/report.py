"""The machine-readable result of a conformance run (``--seeknal-report FILE``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from seeknal_core import __version__
from seeknal_core.contract.hooks import HOOK_API

SCHEMA_VERSION = 1

PASSED, FAILED, REFUSED, NOT_APPLICABLE = "passed", "failed", "refused", "not applicable"


@attrs.frozen(kw_only=True)
class Entry:
    """How one test of the suite ended for one backend.

    ``outcome`` is ``passed``; ``failed``; ``refused``: the backend lacks what was asked
    for and says so before it writes, which is right; or ``not applicable``: it doesn't
    implement the hooks that the test needs. ``test`` is the function's name, with the
    case in brackets; ``suite`` the class that the backend's authors wrote.
    """

    suite: str
    type: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    contract: str
    test: str
    outcome: str
    detail: str = ""


def entries(found: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return the entries of what pytest's plugin noted, in values of JSON."""
    names = {field.name for field in attrs.fields(Entry)}
    return [
        Entry(**{**{key: one[key] for key in names & set(one)}, "hooks": tuple(one["hooks"])})
        for one in found
    ]


def summary(found: Iterable[Entry]) -> list[str]:
    """Return a line for each suite: which contracts it was held to, and how that ended."""
    suites: dict[str, list[Entry]] = {}
    for entry in found:
        suites.setdefault(entry.suite, []).append(entry)
    lines = []
    for name in sorted(suites):
        first = suites[name][0]
        parts = []
        for contract in dict.fromkeys(sorted(one.contract for one in suites[name])):
            outcomes = [one.outcome for one in suites[name] if one.contract == contract]
            counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
            told = ", ".join(f"{counts[one]} {one}" for one in sorted(counts, reverse=True))
            parts.append(f"{contract}: {told}")
        lines.append(f"{first.type} ({first.distribution} {first.version}), {name}")
        lines += [f"  {part}" for part in parts]
    return lines


def document(entries: Iterable[Entry]) -> dict[str, object]:
    """Return the report's document: one entry per suite, and in it one per test."""
    suites: dict[str, dict[str, object]] = {}
    tests: dict[str, list[Mapping[str, str]]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.suite, entry.contract, entry.test)):
        suites.setdefault(
            entry.suite,
            {
                "suite": entry.suite,
                "type": entry.type,
                "distribution": entry.distribution,
                "version": entry.version,
                "hooks": list(entry.hooks),
            },
        )
        row = {"contract": entry.contract, "test": entry.test, "outcome": entry.outcome}
        tests.setdefault(entry.suite, []).append(
            row | ({"detail": entry.detail} if entry.detail else {})
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "seeknal_core": __version__,
        "hook_api": HOOK_API,
        "backends": [
            {
                **suite,
                "contracts": contracts(tests[name]),
                "tests": tests[name],
            }
            for name, suite in suites.items()
        ],
    }


def contracts(tests: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return for each contract whether it holds, fails, or does not apply."""
    found: dict[str, set[str]] = {}
    for test in tests:
        found.setdefault(test["contract"], set()).add(test["outcome"])
    return {
        name: FAILED
        if FAILED in outcomes
        else NOT_APPLICABLE
        if outcomes == {NOT_APPLICABLE}
        else PASSED
        for name, outcomes in found.items()
    }


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(entries), ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
