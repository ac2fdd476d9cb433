"""`seeknal_core.contract.hooks` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.hooks import *
from seeknal_core.contract.hooks import __all__ as __all__
