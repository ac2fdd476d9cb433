"""`seeknal_core.contract.errors` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.errors import *
from seeknal_core.contract.errors import __all__ as __all__
