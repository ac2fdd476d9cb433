"""Make ``docs/compatibility.md`` of what the conformance suite found.

``python tests/meta/compatibility_page.py REPORT...`` takes the files that
``pytest --seeknal-report`` wrote into ``docs/compatibility.json``, and makes the page of it.
With ``--check`` it changes nothing, and says where reports and file differ.

``--modes FOLDER`` takes the reports of ``tox -e catalog-modes -- --reports FOLDER``, one for each
way in which an Iceberg catalog answers, into ``docs/catalog-modes.json``; ``FOLDER`` may lack some.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
DATA, PAGE = DOCS / "compatibility.json", DOCS / "compatibility.md"
MODES_DATA = DOCS / "catalog-modes.json"

PASSED, REFUSED, NOT_APPLICABLE = "passed", "refused", "not applicable"
#: The backends of the page, in its order; reports of others are left aside.
TYPES = {
    "postgresql": "PostgreSQL",
    "iceberg": "Iceberg",
    "duckdb": "DuckDB (example)",
    "memory": "memory (reference)",
}
GROUPS = {
    "targets": ("resolve_profile", "namespace_for", "materialize", "count_rows"),
    "sources": ("read_source",),
    "inspection: drift, ownership, `--adopt`": ("inspect_target",),
    "... of many targets at once": ("inspect_targets",),
    "many small targets written, or staged, at once": ("materialize_targets", "stage_targets"),
    "staging: promotions all or nothing": ("stage", "publish", "revert", "discard"),
    "its commit can decide over several stores": ("prepare_publish",),
    "checksums of what is staged": ("checksum",),
    "cleaning up": ("list_owned", "drop_target"),
    "`gc` sweeps what killed commands left": ("sweep",),
    "`check --connections`": ("check_connection",),
}
MODES = {
    "`full`": "test_a_full_write_replaces_all_rows",
    "`append`": "test_an_append_adds_its_rows",
    "`upsert_by_key`": "test_an_upsert_updates_and_inserts",
    "`incremental_by_time`": "test_an_increment_replaces_its_days",
    "`insert_overwrite`": "test_an_overwrite_replaces_its_partitions",
}
VALUES = "test_values_come_back_exactly_or_are_refused"
CONTRACTS = ("BackendContract", "StagingContract", "SourceContract", "CleanupContract")

_INTRODUCTION = """\
# Compatibility

What each backend was seen to do by the conformance suite (`seeknal_core.testing`). `yes`: a test
has passed. `refused`: the backend cannot, and says so before anything is written. `-`: it lacks
the hooks. [writing-a-backend.md](writing-a-backend.md) tells how another backend is held to the
suite. This page is made from `compatibility.json` by `tests/meta/compatibility_page.py`.
"""

_MODES_INTRODUCTION = """\
## Iceberg catalogs, by their way of answering

A column for each way in which catalogs answer, put before a real catalog by a proxy
(`tests/support/catalog_modes.py`). The journey is `run`, `plan`, `apply`, `promote` of changed
and new tables, `rollback`, `delete`; it is part of every test run. The suite's rows count its
tests; `-`: it was not run in this way for this page. `tox -e catalog-modes` runs it in all.
"""


def condensed(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page needs of reports: hooks and outcomes, by type."""
    found: dict[str, Any] = {}
    for report in reports:
        for backend in report["backends"]:
            if backend["type"] in TYPES:
                outcomes: dict[str, dict[str, str]] = {}
                for test in backend["tests"]:
                    outcomes.setdefault(test["contract"], {})[test["test"]] = test["outcome"]
                about = {"distribution": backend["distribution"], "hooks": backend["hooks"]}
                found[backend["type"]] = {**about, "outcomes": outcomes}
    return {type: found[type] for type in TYPES if type in found}


def text(data: Mapping[str, Any]) -> str:
    """Return data as it stands in the file."""
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def page(data: Mapping[str, Any]) -> str:
    """Return the page's text."""
    sections = [_INTRODUCTION]
    for title, rows in (
        ("Abilities", _abilities(data)),
        ("Modes", _modes(data)),
        ("Values that come back exactly", _values(data)),
        ("Outcomes of the suite's tests", _counts(data)),
    ):
        sections.append(f"## {title}\n\n{_table(data, rows)}")
    modes = json.loads(MODES_DATA.read_text("utf-8"))
    return "\n".join([*sections, *_modes_sections(modes)])


def _modes_sections(modes: Mapping[str, Any]) -> Iterator[str]:
    yield _MODES_INTRODUCTION
    for group in dict.fromkeys(one["group"] for one in modes.values()):
        ours = {name: one for name, one in modes.items() if one["group"] == group}
        lines = [["", *(f"`{name}`" for name in ours)], ["---"] * (len(ours) + 1)]
        lines.append(["how it answers", *(one["says"] for one in ours.values())])
        lines.append(["who does", *(one["who"] for one in ours.values())])
        lines.append(["the journey", *(one["journey"] for one in ours.values())])
        for contract in CONTRACTS:
            lines.append([contract, *(_count(one["suite"].get(contract)) for one in ours.values())])
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        yield f"### {group}\n\n{table}"


def _count(outcomes: Mapping[str, int] | None) -> str:
    if outcomes is None:
        return "-"
    return ", ".join(f"{count} {word}" for word, count in outcomes.items())


def modes_data(folder: Path | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says of ways of answering, with what reports in a folder add."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from support.catalog_modes import GROUPS

    found: dict[str, Any] = {}
    for group, modes in GROUPS.items():
        for mode in modes:
            suite = known.get(mode.name, {}).get("suite", {})
            report = folder / f"{mode.name}.json" if folder is not None else None
            if report is not None and report.exists():
                suite = _counts_of(json.loads(report.read_text("utf-8")))
            about = {"group": group, "says": mode.says, "who": mode.who, "journey": "yes"}
            found[mode.name] = {**about, "suite": suite}
    return found


def _counts_of(report: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for backend in report["backends"]:
        for test in backend["tests"]:
            counts = found.setdefault(test["contract"], {})
            counts[test["outcome"]] = counts.get(test["outcome"], 0) + 1
    return {name: dict(sorted(found[name].items())) for name in CONTRACTS if name in found}


def _table(data: Mapping[str, Any], rows: Iterable[tuple[str, list[str]]]) -> str:
    lines = [["", *(TYPES[type] for type in data)], ["---"] * (len(data) + 1)]
    lines += [[name, *cells] for name, cells in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _abilities(data: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for name, hooks in GROUPS.items():
        yield name, ["yes" if {*hooks} <= {*one["hooks"]} else "-" for one in data.values()]


def _modes(data: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for name, test in MODES.items():
        yield name, [_word(one["outcomes"]["BackendContract"][test]) for one in data.values()]


def _values(data: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    tests = {
        test: None
        for one in data.values()
        for test in one["outcomes"]["BackendContract"]
        if test.startswith(f"{VALUES}[")
    }
    for test in sorted(tests, key=str.lower):
        name = test.removeprefix(f"{VALUES}[").removesuffix("]")
        found = [one["outcomes"]["BackendContract"].get(test, "") for one in data.values()]
        yield name.replace("*", r"\*"), [_word(outcome) for outcome in found]


def _word(outcome: str) -> str:
    return {PASSED: "yes", NOT_APPLICABLE: "-"}.get(outcome, outcome)


def _counts(data: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for contract in CONTRACTS:
        cells = []
        for one in data.values():
            outcomes = list(one["outcomes"].get(contract, {}).values())
            words = sorted(set(outcomes), key=(PASSED, REFUSED, NOT_APPLICABLE).index)
            cells.append(", ".join(f"{outcomes.count(word)} {word}" for word in words))
        yield contract, cells


def differences(data: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Say where what was found differs from the data; a part of the suite may have run."""
    lines = []
    for type, one in found.items():
        known = data.get(type, {"hooks": [], "outcomes": {}})
        if one["hooks"] != known["hooks"]:
            lines.append(f"{type} has the hooks {', '.join(one['hooks'])}")
        for contract, outcomes in one["outcomes"].items():
            for test, outcome in outcomes.items():
                before = known["outcomes"].get(contract, {}).get(test, "not there")
                if before != outcome:
                    lines.append(f"{type}: {test} is {outcome}; in the file it is {before}")
    return lines


def main() -> None:
    """Make the page, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--modes", metavar="FOLDER", type=Path)
    parser.add_argument("reports", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.modes is not None:
        known = json.loads(MODES_DATA.read_text("utf-8")) if MODES_DATA.exists() else {}
        MODES_DATA.write_text(text(modes_data(arguments.modes, known)), encoding="utf-8")
    data = json.loads(DATA.read_text("utf-8")) if DATA.exists() else {}
    found = condensed(json.loads(path.read_text("utf-8")) for path in arguments.reports)
    if arguments.check:
        lines = differences(data, found)
        if lines:
            remake = "Next: pytest --seeknal-report, then tests/meta/compatibility_page.py"
            sys.exit("\n".join([*lines, f"docs/compatibility.json is out of date. {remake}"]))
        return
    data = {type: {**data, **found}[type] for type in TYPES if type in {**data, **found}}
    broken = [
        f"{type}: {test}"
        for type, one in data.items()
        for outcomes in one["outcomes"].values()
        for test, outcome in outcomes.items()
        if outcome not in (PASSED, REFUSED, NOT_APPLICABLE)
    ]
    if broken:
        sys.exit("\n".join([*broken, "a failed suite makes no page"]))
    DATA.write_text(text(data), encoding="utf-8")
    PAGE.write_text(page(data), encoding="utf-8")


if __name__ == "__main__":
    main()
