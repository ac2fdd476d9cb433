"""`seeknal_core.contract.rules` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.rules import *
from seeknal_core.contract.rules import __all__ as __all__
