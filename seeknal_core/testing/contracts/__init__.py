"""What a backend promises, as tests: one class per group of hooks, to be subclassed.

Each is made of classes by theme. A test's name is the sentence that must hold.
"""

from __future__ import annotations

from seeknal_core.testing.contracts.cleanup import CleanupTests
from seeknal_core.testing.contracts.concurrency import ConcurrencyTests
from seeknal_core.testing.contracts.connections import ConnectionTests
from seeknal_core.testing.contracts.data import ShapeTests, ValueTests
from seeknal_core.testing.contracts.deaths import DeathTests, StagingDeathTests
from seeknal_core.testing.contracts.failures import FailureTests
from seeknal_core.testing.contracts.inspection import InspectionTests
from seeknal_core.testing.contracts.modes import ModeTests
from seeknal_core.testing.contracts.names import NameTests
from seeknal_core.testing.contracts.ownership import OwnershipTests
from seeknal_core.testing.contracts.publishing import PublishedValueTests, PublishTests
from seeknal_core.testing.contracts.reverting import DiscardTests, RevertTests
from seeknal_core.testing.contracts.schemas import SchemaTests
from seeknal_core.testing.contracts.sources import SourceTests, SourceValueTests
from seeknal_core.testing.contracts.staging import StageTests
from seeknal_core.testing.contracts.together import StagedTogetherTests, TogetherTests

__all__ = ["BackendContract", "CleanupContract", "SourceContract", "StagingContract"]


class BackendContract(
    ConnectionTests,
    NameTests,
    ValueTests,
    ShapeTests,
    ModeTests,
    SchemaTests,
    OwnershipTests,
    InspectionTests,
    TogetherTests,
    ConcurrencyTests,
    FailureTests,
    DeathTests,
):
    """What every backend promises: its required hooks, and the single optional ones."""


class StagingContract(
    StageTests,
    StagedTogetherTests,
    PublishTests,
    PublishedValueTests,
    RevertTests,
    DiscardTests,
    StagingDeathTests,
):
    """What a backend promises that stages: ``stage``, ``publish``, ``revert``, ``discard``."""


class SourceContract(SourceTests, SourceValueTests):
    """What a backend promises that reads: ``read_source``."""


class CleanupContract(CleanupTests):
    """What a backend promises that tidies up: ``list_owned``, ``drop_target``."""
