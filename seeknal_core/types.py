"""`seeknal_core.contract.types` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.types import *
from seeknal_core.contract.types import __all__ as __all__
