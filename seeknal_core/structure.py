"""`seeknal_core.contract.options` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.options import *
from seeknal_core.contract.options import __all__ as __all__
