"""The frozen values that cross the line between the core and a backend.

``...Spec`` is what the user wrote; the bare noun is what a hook receives. Only
the dispatcher makes a `Target` out of a `TargetSpec`, after ``namespace_for``,
so that a hook which writes cannot be handed a name that forgot its environment.
"""

from __future__ import annotations

from seeknal_core.contract.modes import Mode, SchemaChange
from seeknal_core.contract.redaction import redact
from seeknal_core.contract.types.cleanup import Owned, OwnedKind, Swept
from seeknal_core.contract.types.connections import Connection, ConnectionSpec, Environment, Profile
from seeknal_core.contract.types.context import Cancellation, ExecutionContext, Resources
from seeknal_core.contract.types.inspection import (
    Drift,
    Linked,
    Origin,
    Ownership,
    Since,
    TargetChange,
    TargetColumn,
    TargetState,
)
from seeknal_core.contract.types.options import BackendOptions
from seeknal_core.contract.types.promotion import (
    Batch,
    Checksum,
    PromotionNote,
    Published,
    PublishedTarget,
)
from seeknal_core.contract.types.snapshots import Snapshot, read_schema
from seeknal_core.contract.types.sources import Condition, Scan, Source, SourceSpec, SourceStream
from seeknal_core.contract.types.targets import (
    Binding,
    QualifiedName,
    Staged,
    Target,
    TargetSpec,
    WritePreview,
    WriteResult,
)
from seeknal_core.contract.types.values import Interval, Location, Secret, problem_at

__all__ = [
    "BackendOptions",
    "Batch",
    "Binding",
    "Cancellation",
    "Checksum",
    "Condition",
    "Connection",
    "ConnectionSpec",
    "Drift",
    "Environment",
    "ExecutionContext",
    "Interval",
    "Linked",
    "Location",
    "Mode",
    "Origin",
    "Owned",
    "OwnedKind",
    "Ownership",
    "Profile",
    "PromotionNote",
    "Published",
    "PublishedTarget",
    "QualifiedName",
    "Resources",
    "Scan",
    "SchemaChange",
    "Secret",
    "Since",
    "Snapshot",
    "Source",
    "SourceSpec",
    "SourceStream",
    "Staged",
    "Swept",
    "Target",
    "TargetChange",
    "TargetColumn",
    "TargetSpec",
    "TargetState",
    "WritePreview",
    "WriteResult",
    "problem_at",
    "read_schema",
    "redact",
]
