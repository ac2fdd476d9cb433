"""`seeknal_core.contract.names` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.names import *
from seeknal_core.contract.names import __all__ as __all__
