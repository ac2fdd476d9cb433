"""What the user wrote: the project file and the nodes, as frozen values.

Made by `seeknal_core.project` (YAML, SQL files) and `seeknal_core.pipeline`
(Python), read by the graph, the engine and the commands. Nothing here has been
resolved against a profile or an environment.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from datetime import timedelta

import attrs

from seeknal_core.contract.types import Location, TargetSpec


class Severity(enum.Enum):
    """What a failed audit does: stop the node, or only warn."""

    ERROR = "error"
    WARN = "warn"


@attrs.frozen(kw_only=True)
class EngineSettings:
    """The engine and its limits (``engine:`` in the project file).

    ``memory_limit`` is in the engine's own words (``2GB``); ``threads`` are the
    engine's own threads, None for one per core; ``temp_directory`` is where it
    spills, relative to the project root.
    """

    name: str = "duckdb"
    memory_limit: str | None = None
    threads: int | None = None
    temp_directory: str | None = None


@attrs.frozen(kw_only=True)
class ProjectSettings:
    """``seeknal_project.yml``. ``root`` is the absolute path of its folder.

    ``unchanged`` is what becomes of an environment's targets that are the same as
    production's: ``link``, ``copy`` or ``skip``; ``copy_limit`` is in bytes, for an
    environment. ``files_allow`` are folders and files beside the project that it may read,
    as written; ``env_vars`` are the environment variables that its templates may read.
    """

    name: str
    root: str
    version: str = ""
    description: str = ""
    production: str = "prod"
    engine: EngineSettings = EngineSettings()
    environment_ttl: timedelta = timedelta(days=7)
    promote: str = "auto"
    unchanged: str = "link"
    copy_limit: int = 10**9
    files_allow: tuple[str, ...] = ()
    env_vars: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ColumnSpec:
    """A declared column. ``dtype`` is a type as `formats.declared` writes it, or None."""

    name: str
    dtype: str | None = None
    description: str = ""


@attrs.frozen(kw_only=True)
class Audit:
    """One audit. Fields that the type does not use are empty.

    ``type`` is one of ``not_null unique accepted_values row_count custom_sql
    relationships``; ``to`` is a node id.
    """

    type: str
    severity: Severity = Severity.ERROR
    columns: tuple[str, ...] = ()
    values: tuple[object, ...] = ()
    min: int | None = None
    max: int | None = None
    sql: str | None = None
    column: str | None = None
    to: str | None = None
    field: str | None = None
    location: Location | None = attrs.field(default=None, eq=False)


@attrs.frozen(kw_only=True)
class Freshness:
    """How old a source's newest row may be. ``column`` None: the files' age."""

    warn_after: timedelta | None = None
    error_after: timedelta | None = None
    column: str | None = None


class ChangePolicy(enum.Enum):
    """Whether a store's source is read again (``changes:``)."""

    ALWAYS_READ = "always-read"
    ASSUME_UNCHANGED = "assume-unchanged"
    NEVER = "never"


@attrs.frozen(kw_only=True)
class Node:
    """What a source and a transform share. ``id`` is ``<kind>.<name>``.

    ``covers`` holds ``from`` and ``to`` of the time that the rows are complete for, as
    written; None where the user did not say.
    """

    name: str
    location: Location = attrs.field(eq=False)
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    columns: tuple[ColumnSpec, ...] = ()
    contract: bool = False
    audits: tuple[Audit, ...] = ()
    targets: tuple[TargetSpec, ...] = ()
    covers: tuple[str, str] | None = None

    @property
    def kind(self) -> str:
        """``source`` or ``transform``."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """The node's id."""
        return f"{self.kind}.{self.name}"


@attrs.frozen(kw_only=True)
class SourceNode(Node):
    """``kind: source``, as written: templates unexpanded, defaults not merged.

    ``type`` is the word under ``source:``; ``params`` is raw.
    """

    type: str
    table: str | None = None
    params: Mapping[str, object] = attrs.field(factory=dict)
    freshness: Freshness | None = None
    watermark: str | None = None
    changes: ChangePolicy = ChangePolicy.ALWAYS_READ
    assume_unchanged_for: timedelta | None = None
    max_rows: int | None = None
    max_bytes: int | None = None

    @property
    def kind(self) -> str:
        """The first part of the node's id."""
        return "source"


@attrs.frozen(kw_only=True)
class SqlNode(Node):
    """``kind: transform`` with SQL; ``inputs`` are node ids as written.

    ``sql_location`` is where the SQL text starts, for messages.
    """

    sql: str
    inputs: tuple[str, ...] = ()
    sql_location: Location = attrs.field(eq=False)

    @property
    def kind(self) -> str:
        """The first part of the node's id."""
        return "transform"


@attrs.frozen(kw_only=True)
class PythonNode(Node):
    """A function decorated with ``@transform`` or ``@source``.

    ``load`` imports its file and returns the function; nothing else runs the project's
    Python. ``qualname`` is the function's, ``text`` its source.
    ``code_digest`` covers its module and every project module that it imports.
    ``context_names`` are the attributes of the node's context (``env_name``,
    ``run_id``, ``today``, ``var``) that this code names anywhere: what they give
    enters the content key. ``volatile`` names Python functions of this
    code that give another answer in the next run; ``sql_texts`` is the SQL it gives to
    ``ctx.sql``, as far as it is written out. ``has_namesake`` tells that another node of
    the file has a function of the same name: made in a loop, they differ in what no code shows.
    """

    load: Callable[[], Callable[..., object]] = attrs.field(eq=False, repr=False)
    qualname: str
    text: str = attrs.field(default="", eq=False, repr=False)
    node_kind: str = "transform"
    inputs: tuple[str, ...] = ()
    code_digest: str = ""
    has_namesake: bool = False
    context_names: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()
    sql_texts: tuple[str, ...] = attrs.field(default=(), repr=False)

    @property
    def kind(self) -> str:
        """The first part of the node's id."""
        return self.node_kind


AnyNode = SourceNode | SqlNode | PythonNode

#: The names that ``engine:`` in the project file may have.
ENGINES = ("duckdb",)

#: Source types that the engine reads itself.
FILE_TYPES = ("csv", "parquet", "json", "jsonl", "xlsx")
