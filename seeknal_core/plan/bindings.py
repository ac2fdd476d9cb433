"""Where connections, sources and targets lead, as digests that are compared.

A digest covers what a connection may show; never a password.
"""

from __future__ import annotations

from seeknal_core.contract.types import Connection
from seeknal_core.contract.types.digests import BindingDigest, Identity
from seeknal_core.plan.keys import asked_of
from seeknal_core.plugins.resolved import ResolvedSource, ResolvedTarget
from seeknal_core.state.digests import digest


def bindings_digest(connection: Connection) -> BindingDigest:
    """Digest where a connection leads."""
    return BindingDigest(digest("bindings", connection.type, dict(connection.bindings())))


def source_binding(source: ResolvedSource) -> BindingDigest:
    """Digest where a store's source is read and what is asked of it there."""
    asked = (bindings_digest(source.connection), source.source.parts, asked_of(source.source))
    # Connections with nothing unusual keep the digests that older records hold.
    unusual = dict(source.connection.reads())
    return BindingDigest(digest("source", *asked, unusual) if unusual else digest("source", *asked))


def seen_binding(binding: BindingDigest, sees: str) -> BindingDigest:
    """Return what is recorded of a source that was read: its binding, and what its login sees."""
    return BindingDigest(f"{binding}+{sees}" if sees else binding)


def is_bound_alike(held: str, binding: str, own: str = "") -> bool:
    """Return whether a source, bound as `binding` now, reads what a record holds.

    Args:
        held: the recorded binding.
        own: what this environment recorded of the source itself, if anything. It tells what
            its login sees; where that is not known, only a login without settings of its
            own is taken to be alike.
    """
    if held.partition("+")[0] != binding:
        return False
    if own.partition("+")[0] == binding:
        return own == held
    return "+" not in held


def fallback_identity(resolved: ResolvedTarget) -> Identity:
    """Name a target's place where its backend cannot: by bindings and final name."""
    return Identity(
        digest("place", bindings_digest(resolved.connection), resolved.target.name.parts)
    )
