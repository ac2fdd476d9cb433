"""Texts that are easily taken for one another, as types of their own.

All of them are strings at run time. mypy keeps a definition from being passed where a content
key is meant. `docs/architecture.md` says what each digest covers.
"""

from __future__ import annotations

from typing import NewType

#: What a node's text means, its inputs' definitions included; the same in every environment.
Definition = NewType("Definition", str)
#: A node's output, named before it is computed; a snapshot is stored under it.
ContentKey = NewType("ContentKey", str)
#: A target, or audits, as the user declared them.
Fingerprint = NewType("Fingerprint", str)
#: Where a connection, or a source, leads.
BindingDigest = NewType("BindingDigest", str)
#: A table, whatever connection leads to it.
Identity = NewType("Identity", str)
