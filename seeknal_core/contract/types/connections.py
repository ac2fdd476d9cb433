"""Environments, profiles and connections."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.contract.errors import Problem
from seeknal_core.contract.modes import Mode
from seeknal_core.contract.types.values import Location


@attrs.frozen(kw_only=True)
class Environment:
    """One environment, by its canonical name.

    ``prefix`` is what convention-based namespacing puts before a target's
    outermost namespace, complete (``dev_``), or empty where names stay as written.
    """

    name: str
    is_production: bool
    prefix: str = ""


@attrs.frozen(kw_only=True)
class Connection:
    """A resolved connection; a backend subclasses it with its own typed fields.

    Secrets are `Secret`. `describe` and `bindings` are whitelists: a field that
    is not named in them is never shown nor digested.
    """

    name: str
    type: str

    def describe(self) -> Mapping[str, str]:
        """Return what may be shown to a user, in the order of showing."""
        return {"type": self.type}

    def bindings(self) -> Mapping[str, str]:
        """Return what decides *where* the connection leads, never a secret.

        A plan is refused when these changed since it was made, so a password,
        a timeout or a pool size is not among them.
        """
        return {"type": self.type}

    def reads(self) -> Mapping[str, str]:
        """Return what else decides which rows a source sees by this connection.

        A search path, say, or the role where policies count. Beside `bindings` it is part
        of what a source is bound to; empty where nothing is unusual. Never a secret.
        """
        return {}


@attrs.frozen(kw_only=True)
class ConnectionSpec:
    """A connection as the profile has it, interpolated.

    ``options`` is the raw mapping without ``type``. ``locations`` maps a dotted
    path inside it to the place it was written at, for messages. ``inline`` tells that
    the profile lets nodes write options of this connection themselves.
    """

    name: str
    type: str
    options: Mapping[str, object] = attrs.field(repr=False)
    locations: Mapping[str, Location] = attrs.field(factory=dict, eq=False, repr=False)
    inline: bool = False


@attrs.frozen(kw_only=True)
class Profile:
    """The one profile of a command, chosen once (``docs/environments.md``, "Which profile").

    ``path`` is None where the project needs no connection; ``reason`` says in a
    few words which rule chose it. ``default_mode`` and ``catalog_connection``
    come from the legacy ``materialization`` section; the latter names the
    entry of ``connections`` that was made from its ``catalog``.
    ``prefix`` is the explicit ``namespace: {prefix: ...}`` (None: not given).
    ``warnings`` are about what the file holds to no effect. ``given`` tells that the
    user named the file, where otherwise a rule chose it. ``inline_types`` are the types
    of sources whose nodes may write connection options themselves. ``files_allow`` are
    further folders and files that the project may read, absolute.
    """

    path: str | None
    reason: str
    convention: bool = False
    connections: Mapping[str, ConnectionSpec] = attrs.field(factory=dict, repr=False)
    source_defaults: Mapping[str, Mapping[str, object]] = attrs.field(factory=dict, repr=False)
    default_mode: Mode | None = None
    catalog_connection: str | None = None
    materialization_enabled: bool = True
    prefix: str | bool | None = None
    protected: bool = False
    warnings: tuple[Problem, ...] = ()
    given: bool = False
    inline_types: frozenset[str] = frozenset()
    files_allow: tuple[str, ...] = ()

    def of_type(self, type: str) -> tuple[str, ...]:
        """Return the names of the connections of one (canonical) type, as written in the file."""
        return tuple(name for name, spec in self.connections.items() if spec.type == type)
