"""The frozen values that cross the line between the core and a backend.

``...Spec`` is what the user wrote; the bare noun is what a hook receives. Only
the dispatcher makes a `Target` out of a `TargetSpec`, after ``namespace_for``,
so that a hook which writes cannot be handed a name that forgot its environment.
"""

from __future__ import annotations

import builtins
import contextlib
import enum
import functools
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import attrs

from seeknal_core import verified
from seeknal_core.errors import Interrupted, Problem
from seeknal_core.redaction import MASK, remember
from seeknal_core.redaction import redact as redact

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


class Secret:
    """A string that must never be shown.

    ``str``, ``repr`` and formatting give ``***``; `reveal` gives the value.
    Every value is remembered for `redact`, the last line of defence in front
    of a terminal or a log.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)

    def reveal(self) -> str:
        """Return the value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a Secret is not serialized")


@attrs.frozen(kw_only=True)
class Location:
    """A place in a file: ``file`` relative to the project root, the rest from 1."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


def problem_at(
    location: Location | None, message: str, *, path: str = "", hint: str = ""
) -> Problem:
    """Return a mistake at a place, or at none where it is not known."""
    place = location or Location(file="")
    return Problem(
        message, file=place.file, line=place.line, column=place.column, path=path, hint=hint
    )


class Mode(enum.Enum):
    """How a target takes a snapshot (``project-format.md``, "Targets")."""

    FULL = "full"
    APPEND = "append"
    UPSERT_BY_KEY = "upsert_by_key"
    INCREMENTAL_BY_TIME = "incremental_by_time"
    INSERT_OVERWRITE = "insert_overwrite"


class SchemaChange(enum.Enum):
    """What a write does when the snapshot's columns differ from the table's."""

    EVOLVE = "evolve"
    FAIL = "fail"
    SYNC = "sync"


@attrs.frozen(kw_only=True)
class Interval:
    """A half-open interval of time: ``start`` belongs to it, ``end`` does not.

    Both are in UTC and have no time zone. A column without a time zone is compared as it
    is written, a moment by its time in UTC, a date by its midnight.
    """

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"[{_short(self.start)}, {_short(self.end)})"


def _short(time: datetime) -> str:
    """Return a time as text, a midnight as its date."""
    return time.isoformat(sep=" ").removesuffix(" 00:00:00")


@attrs.frozen(kw_only=True)
class Environment:
    """One environment, by its canonical name.

    ``prefix`` is what convention-based namespacing puts before a target's
    outermost namespace, complete (``dev_``), or empty where names stay as written.
    """

    name: str
    is_production: bool
    prefix: str = ""


@attrs.frozen(kw_only=True)
class Connection:
    """A resolved connection; a backend subclasses it with its own typed fields.

    Secrets are `Secret`. `describe` and `bindings` are whitelists: a field that
    is not named in them is never shown nor digested.
    """

    name: str
    type: str

    def describe(self) -> Mapping[str, str]:
        """Return what may be shown to a user, in the order of showing."""
        return {"type": self.type}

    def bindings(self) -> Mapping[str, str]:
        """Return what decides *where* the connection leads, never a secret.

        A plan is refused when these changed since it was made, so a password,
        a timeout or a pool size is not among them.
        """
        return {"type": self.type}

    def reads(self) -> Mapping[str, str]:
        """Return what else decides which rows a source sees by this connection.

        A search path, say, or the role where policies count. Beside `bindings` it is part
        of what a source is bound to; empty where nothing is unusual. Never a secret.
        """
        return {}


@attrs.frozen(kw_only=True)
class ConnectionSpec:
    """A connection as the profile has it, interpolated.

    ``options`` is the raw mapping without ``type``. ``locations`` maps a dotted
    path inside it to the place it was written at, for messages. ``inline`` tells that
    the profile lets nodes write options of this connection themselves.
    """

    name: str
    type: str
    options: Mapping[str, object] = attrs.field(repr=False)
    locations: Mapping[str, Location] = attrs.field(factory=dict, eq=False, repr=False)
    inline: bool = False


@attrs.frozen(kw_only=True)
class Profile:
    """The one profile of a command, chosen once (``environments.md`` 1).

    ``path`` is None where the project needs no connection; ``reason`` says in a
    few words which rule chose it. ``default_mode`` and ``catalog_connection``
    come from the legacy ``materialization`` section; the latter names the
    entry of ``connections`` that was made from its ``catalog``.
    ``prefix`` is the explicit ``namespace: {prefix: ...}`` (None: not given).
    ``warnings`` are about what the file holds to no effect. ``given`` tells that the
    user named the file, where otherwise a rule chose it. ``inline_types`` are the types
    of sources whose nodes may write connection options themselves. ``files_allow`` are
    further folders and files that the project may read, absolute.
    """

    path: str | None
    reason: str
    convention: bool = False
    connections: Mapping[str, ConnectionSpec] = attrs.field(factory=dict, repr=False)
    source_defaults: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict, repr=False)
    default_mode: Mode | None = None
    catalog_connection: str | None = None
    materialization_enabled: bool = True
    prefix: str | bool | None = None
    protected: bool = False
    warnings: tuple[Problem, ...] = ()
    given: bool = False
    inline_types: frozenset[str] = frozenset()
    files_allow: tuple[str, ...] = ()

    def of_type(self, type: str) -> tuple[str, ...]:
        """Return the names of the connections of one (canonical) type, as written in the file."""
        return tuple(name for name, spec in self.connections.items() if spec.type == type)


class Cancellation:
    """Tells running work that the user wants to stop.

    `check` is called between batches; a callback is for work that waits inside
    a driver and needs to be woken. Thread-safe.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Interrupted` if somebody asked to stop."""
        if self._event.is_set():
            raise Interrupted("stopped by the user")

    def request(self) -> None:
        """Ask all running work to stop, and wake what waits."""
        self._event.set()
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def on_request(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` (from another thread) on a request; return its removal.

        The callback must not raise. It is called at once if a request was made already.
        """
        with self._lock:
            self._callbacks.append(callback)
        if self._event.is_set():
            callback()

        def remove() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return remove


class Resources:
    """What one command keeps open in the stores: pools, catalogs, file systems.

    `get` opens a resource once per key, also under threads; `close` closes all
    of them in reverse order of opening, whatever happened. A failing close does
    not keep the others from being closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key_locks: dict[Hashable, threading.Lock] = {}
        self._opened: dict[Hashable, tuple[object, Callable[[Any], None]]] = {}

    def get(self, key: Hashable, open: Callable[[], T], close: Callable[[T], None]) -> T:
        """Return the resource of `key`, opening it if this is the first call for it."""
        with self._lock:
            key_lock = self._key_locks.setdefault(key, threading.Lock())
        with key_lock:
            with self._lock:
                found = self._opened.get(key)
            if found is None:
                resource = open()
                with self._lock:
                    self._opened[key] = (resource, close)
                return resource
            return cast(T, found[0])

    def close(self) -> None:
        """Close everything; raise the first failure after all were tried."""
        with self._lock:
            opened = list(self._opened.values())
            self._opened.clear()
        failure: Exception | None = None
        for resource, close in reversed(opened):
            try:
                close(resource)
            except Exception as error:  # noqa: BLE001 - every resource gets its turn
                failure = failure or error
        if failure is not None:
            raise failure


@attrs.frozen(kw_only=True)
class ExecutionContext:
    """What every hook receives: who runs, where, with which profile.

    ``connection`` is the resolved connection of the call's target or source; it
    is None only in ``resolve_profile``, ``bind_target``, ``bind_source`` and
    ``describe_options``. ``project_root`` is the absolute path of the project:
    relative paths in a profile are relative to it. ``target_dir`` is where the
    tool may write. ``state_id`` identifies the state folder (two checkouts of
    one project have two). ``adopt`` lets a write take over a table that bears
    no record of this project and environment. ``promoting`` says that the call is a part of
    a promotion, which can be undone: `preview_write` says what `stage` will note. ``inputs`` holds, by node, the nodes
    that it reads directly: what a plugin that follows lineage needs to know.
    """

    project: str
    project_root: str
    target_dir: str
    state_id: str
    environment: Environment
    run_id: str
    started_at: datetime
    profile: Profile
    resources: Resources = attrs.field(repr=False)
    cancellation: Cancellation = attrs.field(repr=False)
    connection: Connection | None = None
    adopt: bool = False
    full_refresh: bool = False
    promoting: bool = False
    inputs: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, repr=False)

    def connected(self, connection: Connection) -> ExecutionContext:
        """Return this context for a call on `connection`."""
        return attrs.evolve(self, connection=connection)


@attrs.frozen(kw_only=True)
class QualifiedName:
    """A name in a store: its parts, unquoted, and its text as the store quotes it."""

    parts: tuple[str, ...]
    quoted: str

    def __str__(self) -> str:
        return self.quoted


@attrs.frozen(kw_only=True)
class Binding:
    """Which connection a target or source means, and how its ``table`` splits."""

    connection: str
    parts: tuple[str, ...]


@attrs.frozen(kw_only=True)
class TargetSpec:
    """A target as the user wrote it, normalized.

    ``parts`` is ``table`` split by ``bind_target``, empty before. ``options``
    are the fields that the core does not know, for the backend's own class.
    ``mode`` is None where the user named none. ``covers`` holds ``from`` and ``to``
    of the node's ``covers``: as written, or expanded once the target is bound.
    ``lookback`` has no effect.
    """

    node: str
    type: str
    table: str
    connection: str | None = None
    mode: Mode | None = None
    unique_keys: tuple[str, ...] = ()
    time_column: str | None = None
    lookback: timedelta = timedelta(0)
    partition_by: tuple[str, ...] = ()
    on_schema_change: SchemaChange = SchemaChange.EVOLVE
    enabled: bool = True
    options: Mapping[str, object] = attrs.field(factory=dict)
    parts: tuple[str, ...] = ()
    location: Location | None = attrs.field(default=None, eq=False)
    covers: tuple[str, str] | None = None

    @property
    def key(self) -> str:
        """Identify this target within the project, in state and messages."""
        return f"{self.node} > {self.type}:{self.connection or ''}:{self.table}"


@attrs.frozen(kw_only=True)
class Staged:
    """A write that waits, unseen by readers, in its target's own store.

    ``promotion`` names the batch it belongs to. ``base`` is the version that the
    target had when this was staged (`TargetState.version`), None where it was
    absent. ``rows`` is how many rows were staged. ``data`` is the backend's own:
    values of JSON, no secret; it survives a round trip through a file. ``notes`` are
    sentences that the user should see once it is published.
    """

    promotion: str
    base: str | None
    rows: int
    data: Mapping[str, object] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Target:
    """A target as a hook receives it: named for its environment.

    ``name`` is what ``namespace_for`` gave; ``options`` is an instance of the
    class that ``describe_options`` named for targets, or None. With ``staged``
    the call is about what waits for this target, not about what readers see.
    ``covers`` is the time that the node's rows are complete for, None where the user
    did not say. ``lookback`` has no effect.
    """

    key: str
    node: str
    type: str
    name: QualifiedName
    mode: Mode
    unique_keys: tuple[str, ...] = ()
    time_column: str | None = None
    lookback: timedelta = timedelta(0)
    partition_by: tuple[str, ...] = ()
    on_schema_change: SchemaChange = SchemaChange.EVOLVE
    options: object = None
    staged: Staged | None = None
    covers: Interval | None = None


@attrs.frozen(kw_only=True)
class Batch:
    """The targets of one connection that a promotion publishes together.

    Each target's ``staged`` is what ``stage`` returned. It is None only in a
    batch that is discarded after ``stage`` may have died: whatever was staged for
    this promotion and target is meant then. ``content_keys`` holds, by target
    key, the content key of what was staged. ``generation`` is the environment's
    generation in this store once the batch is published, one more than
    `TargetState.generation` said before; it counts promotions from 1.
    """

    promotion: str
    generation: int
    targets: tuple[Target, ...]
    content_keys: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class PublishedTarget:
    """A target as readers see it after a publish.

    ``key`` is the target's; ``version`` is what ``inspect_target`` gives from now
    on, until somebody writes; ``rows_after`` is what a reader counts; ``created``
    tells whether the publish made the table; ``mark`` is as in `TargetState`, empty
    where the backend gives none.
    """

    key: str
    version: str
    rows_after: int
    created: bool = False
    mark: str = ""


@attrs.frozen(kw_only=True)
class Published:
    """What a publish did: one entry per target of the batch, in the batch's order."""

    targets: tuple[PublishedTarget, ...]
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Checksum:
    """An order-independent checksum of a table's rows.

    ``columns`` holds, by column name, a text that two tables share exactly when
    their columns hold equal values equally often (but for a collision of 64-bit
    sums). Comparable within one process only; see `seeknal_core.checksums`.
    """

    rows: int
    columns: Mapping[str, str]


@attrs.frozen(kw_only=True)
class SourceSpec:
    """A backend's source as the user wrote it, with ``source_defaults`` merged in.

    ``params`` is everything under ``params:``, templates expanded.
    """

    node: str
    type: str
    table: str | None = None
    connection: str | None = None
    params: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    watermark: str | None = None
    declared: Mapping[str, str] = attrs.field(factory=dict)
    location: Location | None = attrs.field(default=None, eq=False)


@attrs.frozen(kw_only=True)
class Source:
    """A source as a hook receives it.

    Exactly one of ``parts`` (non-empty) and ``query`` decides what is read;
    ``query`` wins. ``columns`` is the projection, None for all. ``watermark``
    names a column whose maximum the user declares to tell versions apart.
    ``options`` is an instance of the class that ``describe_options`` named for
    sources, or None. ``declared`` are the types that the user declares, by column,
    in the words of `seeknal_core.formats.declared`: a backend reads a column as
    ``string``, say, where it is declared so, and never gives a value that is not exact.
    """

    node: str
    type: str
    parts: tuple[str, ...] = ()
    query: str | None = None
    columns: tuple[str, ...] | None = None
    watermark: str | None = None
    declared: Mapping[str, str] = attrs.field(factory=dict)
    options: object = None


@attrs.frozen(kw_only=True)
class Condition:
    """A condition on one column of a table: ``column operator value``.

    ``operator`` is one of ``= <> < <= > >= in``, ``is null`` and ``is not null``. ``value`` is
    as SQL has it: a bool, int, Decimal, str, date or datetime (without a zone); a tuple
    of them with ``in``; None with the last two. A text may stand for a date or a time.
    """

    column: str
    operator: str
    value: object = None


@attrs.frozen(kw_only=True)
class Scan:
    """A table of a store that runs no queries, for the core to run a source's query over.

    ``schema`` is that of all columns. ``names`` are the ways to write the table's name, as
    parts, the shortest first. ``open`` is given the columns that the query needs, None
    for all, and conditions that all rows it needs meet; it returns those columns in that
    order, and may leave out rows that do not meet the conditions, as SQL compares. What
    it can't tell for sure it leaves in: the query looks at each row again.
    """

    schema: pa.Schema = attrs.field(eq=False, repr=False)
    names: tuple[tuple[str, ...], ...]
    open: Callable[[tuple[str, ...] | None, tuple[Condition, ...]], pa.RecordBatchReader]


class SourceStream:
    """One consistent view of a source, opened lazily. A context manager.

    Args:
        identity: where the rows come from, physically: equal for two
            connections that lead to the same table of the same store, never a
            secret. Part of the content key.
        version: a token that changes whenever the rows may have changed, or
            None where the store has none. With a version that is stored
            already, the core does not call `open`.
        open: starts reading; the reader yields record batches in bounded memory.
            Called at most once, and before `close`.
        close: frees what the view holds; called always, whether or not `open` was.
        sees: a digest of what only the store knows to decide which rows this login sees
            (settings of its role, say); empty where nothing does. Sources bound alike
            with two of these are not the same.
        scan: where the source has a query and the store runs none: the table that the
            core runs it over. `open` is not called then.
    """

    def __init__(
        self,
        *,
        identity: str,
        version: str | None,
        open: Callable[[], pa.RecordBatchReader],
        close: Callable[[], None] = lambda: None,
        sees: str = "",
        scan: Scan | None = None,
    ) -> None:
        self.identity = identity
        self.version = version
        self.open = open
        self.close = close
        self.sees = sees
        self.scan = scan

    def __enter__(self) -> SourceStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@attrs.frozen(kw_only=True)
class Snapshot:
    """A node's output: an immutable Parquet data set under its content key.

    ``schema`` is read from the first file when it is first asked for, unless given.
    ``files`` are absolute local paths, each with the same schema, at least one
    even for zero rows. The files are never changed nor deleted while a command
    runs; a store copies their bytes and never refers to them. `reader` and `open` check
    what they read against the digests of what was stored; who reads ``files`` otherwise
    is checked afterwards, by reading them once more.
    ``former_keys`` are what older versions called these rows: a ledger may know them by one.
    ``document`` is the digest of the store's document about it, empty where it is not stored.
    """

    node: str
    content_key: str
    row_count: int
    files: tuple[str, ...]
    bytes: int = 0
    former_keys: tuple[str, ...] = attrs.field(default=(), eq=False)
    document: str = attrs.field(default="", eq=False, repr=False)
    _schema: pa.Schema | None = attrs.field(default=None, alias="schema", eq=False, repr=False)
    _sums: tuple[verified.FileSums, ...] = attrs.field(
        default=(), alias="sums", eq=False, repr=False
    )
    #: The numbers of the files that `open` checked to their end.
    _checked: set[int] = attrs.field(factory=set, alias="checked", eq=False, repr=False)

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The columns' names and Arrow types; all nullable, without metadata."""
        return self._schema if self._schema is not None else read_schema(self.files[0])

    @property
    def keys(self) -> tuple[str, ...]:
        """The content key and the former ones."""
        return (self.content_key, *self.former_keys)

    @contextlib.contextmanager
    def open(self, number: int) -> Iterator[BinaryIO]:
        """Open one of the files; its bytes count where the block ends without an error.

        Raises:
            DamagedOutput: they are not what was stored.
        """
        sums = self._sums[number] if self._sums else None
        with verified.opened(self.files[number], self.node, sums) as file:
            yield cast("BinaryIO", file)
        self._checked.add(number)

    def chunks(self, number: int, end: int) -> Iterator[builtins.bytes]:
        """Yield the bytes of one of the files up to a place, in order, to be copied.

        Raises:
            DamagedOutput: they are not what was stored; nothing of the copy counts.
        """
        with self.open(number) as file:
            yield from verified.chunks(file, self.node, end)

    @contextlib.contextmanager
    def confirmed(self) -> Iterator[Snapshot]:
        """Give a snapshot whose files may be read in any way while the block runs.

        What was not read by `open` or `reader` is checked at the block's end.

        Raises:
            DamagedOutput: what was read is not what was stored.
        """
        read = attrs.evolve(self, checked=set())
        before = [verified.stamp_at(file) for file in self.files] if self._sums else []
        yield read
        for number, stamp in enumerate(before):
            if number in read._checked or stamp == self._sums[number].stamp:
                continue
            if verified.check(self.files[number], self.node, self._sums[number]) != stamp:
                raise verified.changed(self.node)

    def reader(
        self, columns: Sequence[str] | None = None, batch_rows: int = 65_536
    ) -> pa.RecordBatchReader:
        """Open a fresh stream over all rows, in file order.

        Args:
            columns: the projection, None for all.
            batch_rows: the most rows of one batch.

        Raises:
            DamagedOutput: from the stream, the files are not what was stored.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(columns) if columns is not None else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])

        def batches() -> Any:
            for number in range(len(self.files)):
                with self.open(number) as opened, pq.ParquetFile(_whole(opened)) as file:
                    # A row group at a time: one iterator over all of them keeps more and
                    # more in memory.
                    for group in range(file.num_row_groups):
                        for batch in file.iter_batches(batch_rows, [group], names):
                            # Files of one data set may differ in nullability flags only.
                            yield batch.cast(schema) if batch.schema != schema else batch

        return pa.RecordBatchReader.from_batches(schema, batches())


def _whole(file: BinaryIO) -> Any:
    """Return a file for a Parquet reader: a small one that is checked at once, in memory."""
    if isinstance(file, verified.VerifiedFile):
        import pyarrow as pa

        small = file.size <= verified.PIECE
        return pa.BufferReader(file.read()) if small else pa.PythonFile(file, mode="r")
    return file.name


def read_schema(path: str | os.PathLike[str]) -> pa.Schema:
    """Return the schema of a stored Parquet file as backends see it.

    Columns are nullable (a file says "not null" where its rows happen to be)
    and metadata is dropped, so that equal types mean equal schemas.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    return pa.schema([pa.field(field.name, field.type, nullable=True) for field in schema])


@attrs.frozen(kw_only=True)
class WriteResult:
    """What a write did.

    ``rows_written`` counts the snapshot's rows that reached the table (0 where an
    append found its rows there already); ``rows_after`` is what a reader counts
    afterwards; ``version`` is the token that ``inspect_target`` gives from now on,
    until somebody writes; ``created`` tells whether the table is new; ``notes``
    are sentences the user should see; ``mark`` is as in `TargetState`, taken in the
    transaction that wrote, empty where the backend gives none.
    """

    rows_written: int
    rows_after: int
    version: str
    created: bool = False
    notes: tuple[str, ...] = ()
    mark: str = ""


@attrs.frozen(kw_only=True)
class Ownership:
    """Who wrote a target last, by the store's ledger."""

    project: str
    environment: str
    state_id: str
    content_key: str
    run_id: str


@attrs.frozen(kw_only=True)
class TargetColumn:
    """A column of a target in the store's own words."""

    name: str
    type: str


@attrs.frozen(kw_only=True)
class TargetState:
    """What stands in the store where a target is, or would be.

    ``identity`` is the physical identity: the same for two connections that lead
    to one table, different for two tables, known also while the table is
    absent; it holds no secret. ``version`` changes with every write of anybody,
    None where absent. ``owner`` is None where no record of Seeknal's names the table.
    ``generation`` counts the promotions that this project's environment had in
    this store (or, where a store keeps no such count, in this table), 0 for none.
    ``rows`` is what `count_rows` would say, None where that takes a question of its own.
    ``notes`` are sentences that a plan says of the target, such as which trigger may
    change the values that are written.
    ``table_id`` is the store's own name for the table that is there, as a UUID, where
    ``identity`` can't see that two addresses lead to one catalog, or, where there is none
    yet, for its place, as the store compares names. None where the store has no such thing.
    ``mark`` costs no reading of the table: while it stays the same, nobody changed rows or
    columns. Another mark is a suspicion, no proof. None where the store has no such thing.
    ``linked`` tells that no table of its own is there, but a link to another one.
    ``foresees`` tells that `preview_write` has something to say of a table that is not there,
    such as that its name is refused; the columns may then be unknown, and are none.
    """

    exists: bool
    identity: str
    columns: tuple[TargetColumn, ...] = ()
    version: str | None = None
    owner: Ownership | None = None
    generation: int = 0
    rows: int | None = None
    notes: tuple[str, ...] = ()
    table_id: str | None = None
    # A mark that moved proves nothing, so two states with different ones may be the same.
    mark: str | None = attrs.field(default=None, eq=False)
    linked: bool = False
    foresees: bool = False


@attrs.frozen(kw_only=True)
class Origin:
    """Another environment's target that a link reads.

    ``identity`` is what that environment recorded of it; ``content_key`` is what it holds.
    """

    name: QualifiedName
    identity: str
    environment: str
    content_key: str


@attrs.frozen(kw_only=True)
class Linked:
    """A link that was made.

    ``version`` is what ``inspect_target`` gives from now on: a link's version changes with
    its definition, not with the rows that it shows. ``notes`` are sentences the user should
    see.
    """

    version: str
    notes: tuple[str, ...] = ()


class Drift(enum.Enum):
    """What somebody else did to a target since it was written."""

    NONE = "as written"
    ADDED = "rows were added"
    CHANGED = "changed by somebody else"
    REPLACED = "another table has its name"
    ELSEWHERE = "written from another checkout"


@attrs.frozen(kw_only=True)
class Since:
    """What is recorded of a target's last write: version, rows, and mark (maybe empty)."""

    version: str
    rows: int
    mark: str = ""


@attrs.frozen(kw_only=True)
class TargetChange:
    """What an exact look found to have happened to a target.

    A backend answers with `Drift.NONE`, ``ADDED`` (rows were added, none changed or
    deleted) or ``CHANGED``; the rest is the core's. ``detail`` says in words what happened.
    ``version``, ``rows`` and ``mark`` are those of now. ``others`` counts rows that somebody
    else inserted or changed, as far as the store knows.
    """

    drift: Drift
    version: str = ""
    rows: int = 0
    mark: str = ""
    detail: str = ""
    others: int = 0


@attrs.frozen(kw_only=True)
class WritePreview:
    """What a write would do to a target's columns.

    ``notes`` are sentences about columns that are added, changed, dropped, or kept.
    ``refused`` says why the write would be refused, empty where it would not; ``hint`` is what
    to do then.
    """

    notes: tuple[str, ...] = ()
    refused: str = ""
    hint: str = ""


class OwnedKind(enum.Enum):
    """What an owned object of a store is."""

    TABLE = "table"
    NAMESPACE = "namespace"


@attrs.frozen(kw_only=True)
class Owned:
    """A table or namespace that this project made in this environment, by the store's ledger.

    ``identity`` is a table's physical identity, as in `TargetState`, and empty
    for a namespace.
    """

    kind: OwnedKind
    name: QualifiedName
    identity: str = ""


@attrs.frozen(kw_only=True)
class PromotionNote:
    """What a store keeps of a promotion, so that another machine can go on with it.

    ``document`` is the core's own: JSON, no secret. ``state_id`` is the state folder's that
    wrote it; ``written_at`` is when the first was kept, by the store's clock (ISO 8601, UTC),
    empty where it isn't stored yet.
    """

    promotion: str
    state_id: str
    document: str
    written_at: str = ""


@attrs.frozen(kw_only=True)
class Swept:
    """What ``sweep`` found of commands that died.

    ``removed`` counts the writes whose leftovers were deleted, or would be. ``kept`` says
    in a sentence each what stays, and until when. ``done`` says what else was done, or
    would be, for targets that declare it.
    """

    removed: int = 0
    kept: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class BackendOptions:
    """The attrs classes behind a backend's options.

    ``connection`` structures a connection's mapping, ``source`` the keys of a
    source's ``params`` that are not connection options (None: only ``query``
    and ``columns``), ``target`` the extra fields of a target (None: none).
    Field docs are in attrs metadata under ``"doc"``. Connection options that a node writes in
    ``params`` are refused, unless the profile says ``inline: true``: they could send a secret to
    another server. A field of ``connection`` that only says what is read, or how, has
    ``"node": True`` in its metadata and may be written in any node. A source's field that a later version
    added has ``"later": True`` there: while it is at its default it is no part of content
    keys, and what was stored before stays valid. ``limits`` are sentences about what
    depends on the store, and what a store may be unable to do.
    """

    connection: type
    source: type | None = None
    target: type | None = None
    limits: tuple[str, ...] = ()
