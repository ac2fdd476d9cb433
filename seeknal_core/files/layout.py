"""Where everything lies in ``target/``, the one folder that the tool writes to."""

from __future__ import annotations

from pathlib import Path

import attrs


@attrs.frozen
class Layout:
    """The paths under ``target/``.

    What backends keep there, in folders named after themselves, is not among them.
    """

    target: Path

    @classmethod
    def of_project(cls, root: Path) -> Layout:
        """Return the layout of a project, by the project's own folder."""
        return cls(root / "target")

    @property
    def state(self) -> Path:
        """Records, journals, plans, promotions: what must not be lost."""
        return self.target / "state"

    @property
    def snapshots(self) -> Path:
        """The stored outputs of nodes."""
        return self.target / "snapshots"

    @property
    def cache(self) -> Path:
        """What earlier commands found out. Losing it costs time, nothing else."""
        return self.target / "cache"

    @property
    def parsed(self) -> Path:
        """Nodes as they were parsed, by file."""
        return self.cache / "nodes.json"

    @property
    def sql(self) -> Path:
        """What is known of SQL texts."""
        return self.cache / "sql.json"

    @property
    def scratch(self) -> Path:
        """Files of one command, removed at its end."""
        return self.target / "tmp"

    @property
    def file_digests(self) -> Path:
        """The digests of files that sources name, by size and time."""
        return self.state / "file-digests.json"

    @property
    def https_seen(self) -> Path:
        """What servers said of files that were read before."""
        return self.state / "https-files.json"

    def scratch_of(self, environment: str) -> Path:
        """Return where a run of an environment puts files while it lasts."""
        return self.scratch / environment


#: The names of ours in ``target/``. ``plans`` and ``logs`` are earlier versions'.
OURS = frozenset({"state", "cache", "plans", "logs", "tmp", "snapshots", ".gitignore"})
