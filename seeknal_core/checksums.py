"""`seeknal_core.contract.checksums` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.checksums import *
from seeknal_core.contract.checksums import __all__ as __all__
