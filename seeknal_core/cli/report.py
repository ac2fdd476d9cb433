"""What a person, or ``--json``, sees of a run: the profile, closing tables, the closing line."""

from __future__ import annotations

from typing import Any

from seeknal_core.apply.report import (
    NodeStatus,
    RunReport,
    TargetStatus,
)
from seeknal_core.cli.output import (
    say,
)
from seeknal_core.cli.progress import _QUIET
from seeknal_core.cli.tables import _width, counted, print_table
from seeknal_core.contract.types import redact
from seeknal_core.workspace.session import Session

_WIDTH_FOR_ALL = 110


def profile_line(session: Session) -> str:
    """Return the first line of every command that touches a store."""
    profile = session.profile
    environment = session.environment
    said = f"names prefixed with {environment.prefix}"
    line = f"project {session.settings.name}, environment {environment.name}"
    line += f", profile: {profile.reason}"
    return f"{line}, {said}" if environment.prefix and said not in line else line


def render_report(report: RunReport, *, verbose: bool) -> None:
    """Print the closing tables and one sentence; what was left as it was, only if asked."""
    nodes = [node for node in report.nodes if verbose or node.status is not NodeStatus.REUSED]
    if nodes:
        print_table(
            ("node", "status", "rows", "seconds"),
            [
                (
                    node.id,
                    node.status.value,
                    "" if node.rows is None else f"{node.rows:,}",
                    f"{node.seconds:.2f}",
                )
                for node in nodes
            ],
            numeric=2,
        )
    quiet = () if verbose else _QUIET
    shown = [target for target in report.targets if target.status not in quiet]
    if shown:
        # What the lines above have said already gives way to whole names.
        wide = _width() >= _WIDTH_FOR_ALL
        print_table(
            (
                "target",
                *(("node", "mode") if wide else ()),
                *("status", "written", "rows", "seconds"),
            ),
            [
                (
                    target.name,
                    *((target.node, target.mode) if wide else ()),
                    target.status.value,
                    "" if target.rows_written is None else f"{target.rows_written:,}",
                    "" if target.rows_after is None else f"{target.rows_after:,}",
                    f"{target.seconds:.2f}",
                )
                for target in shown
            ],
            numeric=3,
        )
    say(closing_line(report))


def status_of(report: RunReport) -> str:
    """Return in a word how a run ended."""
    if report.interrupted:
        return "interrupted"
    return "failed" if report.failed else "refused" if report.refused else "done"


def closing_line(report: RunReport) -> str:
    """Return the last line: what happened, in numbers."""
    parts = []
    for node_status in NodeStatus:
        count = sum(node.status is node_status for node in report.nodes)
        if count:
            parts.append(f"{count} {node_status.value}")
    line = counted(len(report.nodes), "node")
    line += f" ({', '.join(parts)})" if parts else ""
    parts = []
    for status in TargetStatus:
        count = sum(target.status is status for target in report.targets)
        if count:
            parts.append(f"{count} {status.value}")
    line += "; " + counted(len(report.targets), "target")
    line += f" ({'; '.join(parts)})" if parts else ""
    if any(target.status is TargetStatus.LEFT_OUT for target in report.targets):
        line += "; --all-targets writes what is left out"
    end = {"interrupted": "stopped"}.get(status_of(report), status_of(report))
    line = f"{end} in {report.seconds:.1f} s: {line}"
    if report.failed or report.interrupted:
        first = "fix what failed and " if report.failed else ""
        line += f"\nNext: {first}run the same command again; what is done is not repeated"
    return line


def report_as_mapping(report: RunReport) -> dict[str, Any]:
    """Return a report as JSON-able values, for ``--json``."""
    return {
        "run_id": report.run_id,
        "environment": report.environment,
        "profile": report.profile or None,
        "profile_reason": report.profile_reason,
        "status": status_of(report),
        "seconds": round(report.seconds, 3),
        "nodes": [
            {
                "id": node.id,
                "status": node.status.value,
                "rows": node.rows,
                "seconds": round(node.seconds, 3),
                "detail": node.detail,
                "hint": node.hint,
                "notes": [redact(note) for note in node.notes],
            }
            for node in report.nodes
        ],
        "targets": [
            {
                "node": target.node,
                "type": target.type,
                "name": target.name,
                "mode": target.mode,
                "status": target.status.value,
                "rows_written": target.rows_written,
                "rows_after": target.rows_after,
                "reason": target.reason,
                "seconds": round(target.seconds, 3),
                "detail": target.detail,
                "hint": target.hint,
            }
            for target in report.targets
        ],
    }
