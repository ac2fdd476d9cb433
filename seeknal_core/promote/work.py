"""What the steps of a promotion hand on: the request, the two environments, and what was found."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.apply.report import Reporter
from seeknal_core.apply.scheduler import Options
from seeknal_core.contract.types import Snapshot
from seeknal_core.plan.replacing import Confirm
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.promote.report import PromotionReport, Rows
from seeknal_core.state.manifest import Manifest, load_manifest
from seeknal_core.state.promotion_table import Abort
from seeknal_core.state.promotions import Promotion
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.bindings import Bindings, bind
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import SnapshotStore


class Policy(enum.Enum):
    """``--ship``, ``--rebuild``, or what the content keys say."""

    AUTO = "auto"
    SHIP = "ship"
    REBUILD = "rebuild"


class Verification(enum.StrEnum):
    """What is compared before a promotion is published; the values are those of ``--verify``."""

    COUNTS = "counts"
    CHECKSUM = "checksum"


@attrs.frozen(kw_only=True)
class PromoteRequest:
    """What ``seeknal env promote`` was asked for.

    ``verify`` is None for checksums up to a size, and counts above it.
    ``max_row_change`` is a fraction of the destination's rows, None for no gate.
    ``abort`` is None where nothing unfinished is ended. ``confirm`` hears of the tables
    that lose rows to a full refresh, before anything is staged. ``source_profile`` is the
    profile file of the promoted environment, None for the one that the rules choose.
    """

    policy: Policy = Policy.AUTO
    verify: Verification | None = None
    max_row_change: float | None = None
    dry_run: bool = False
    force: bool = False
    resume: bool = False
    abort: Abort | None = None
    prune: bool = False
    options: Options = Options()
    confirm: Confirm | None = None
    source_profile: str | None = None


@attrs.frozen(kw_only=True)
class Side:
    """One of the two environments, and what it holds."""

    session: Session
    record: EnvironmentRecord
    manifest: Manifest

    @property
    def bindings(self) -> Bindings:
        """Where all targets and sources lead; made once, and in the source seldom needed.

        Raises:
            ConfigError: mistakes in connections, tables, options and names.
        """
        return bind(self.session)

    @classmethod
    def of(cls, session: Session, record: EnvironmentRecord | None = None) -> Side:
        """Read what a session's environment holds.

        Args:
            record: its record, where it is read already.

        Raises:
            StateError: its record is unreadable.
        """
        name = session.environment.name
        return cls(
            session=session,
            record=record or session.state.load(name) or EnvironmentRecord(name=name),
            manifest=load_manifest(session.state, name),
        )


@attrs.frozen(kw_only=True)
class Choice:
    """The nodes of a promotion.

    ``promoted`` says whose rows each has. ``nodes`` are the destination's records as far as they
    are known: all but those to be rebuilt. ``removed`` are the destination's nodes that the
    project lacks.
    """

    promoted: Mapping[str, Rows] = attrs.field(factory=dict)
    nodes: Mapping[str, NodeRecord] = attrs.field(factory=dict)
    removed: tuple[str, ...] = ()

    @property
    def rebuilt(self) -> tuple[str, ...]:
        """The nodes to be run over there, in graph order."""
        return tuple(id for id, rows in self.promoted.items() if rows is Rows.REBUILT)


@attrs.frozen(kw_only=True)
class Sides:
    """The two environments of a promotion."""

    source: Side
    destination: Side


@attrs.frozen(kw_only=True)
class Promoting:
    """A promotion, as far as its steps have come.

    ``session`` is the destination's. ``sides`` is None where an earlier command's promotion is
    gone on with: its document has all that is needed. ``checks`` are the destination's targets
    as its stores showed them, ``records`` its nodes as they will be, ``wanted`` the targets to
    publish. ``errors`` are failures of targets that cannot be staged, by key. ``ended`` is set
    by the step that is the last one.
    """

    session: Session
    request: PromoteRequest
    reporter: Reporter
    store: SnapshotStore
    sides: Sides | None = None
    checks: Mapping[str, TargetCheck] = attrs.field(factory=dict)
    choice: Choice = attrs.field(factory=Choice)
    records: Mapping[str, NodeRecord] = attrs.field(factory=dict)
    wanted: Sequence[TargetCheck] = ()
    report: PromotionReport | None = None
    document: Promotion | None = None
    snapshots: Mapping[str, Snapshot] = attrs.field(factory=dict)
    errors: Mapping[str, str] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()
    ended: PromotionReport | None = None

    @property
    def source(self) -> Side:
        """The promoted environment."""
        assert self.sides is not None
        return self.sides.source

    @property
    def destination(self) -> Side:
        """The environment that is promoted into."""
        assert self.sides is not None
        return self.sides.destination

    @property
    def promotion(self) -> Promotion:
        """The promotion's document."""
        assert self.document is not None
        return self.document
