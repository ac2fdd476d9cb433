"""Names that fit a store, for backends' ``namespace_for``."""

from __future__ import annotations

import hashlib

__all__ = ["fit"]

_HASH_LENGTH = 8


def fit(name: str, limit: int) -> str:
    """Return `name`, or a shortened form of it that stays distinct.

    Args:
        name: any identifier.
        limit: the most bytes (UTF-8) the store keeps, at least 16. Some stores
            cut the rest off in silence.

    Returns:
        `name` itself where it fits, else its longest prefix that fits, ``_`` and
        eight hexadecimal digits of a hash of the whole name.
    """
    encoded = name.encode()
    if len(encoded) <= limit:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:_HASH_LENGTH]
    head = encoded[: limit - _HASH_LENGTH - 1].decode(errors="ignore")
    return f"{head}_{digest}"
