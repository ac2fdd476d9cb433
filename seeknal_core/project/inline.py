"""Connection options that a node writes itself, and who may allow them.

A node that names a server must not get the password that the profile, or the process's
environment, has for another one. So where to connect is the profile's alone, unless the
profile lets nodes say it: ``inline: true`` in the connection, or in ``source_defaults``
for a type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.options import join, keys_of
from seeknal_core.contract.types import (
    BackendOptions,
    ConnectionSpec,
    ExecutionContext,
    SourceSpec,
    problem_at,
)

#: The key of a connection, and of a type's ``source_defaults``, that allows them.
INLINE = "inline"


@attrs.frozen(kw_only=True)
class RefusedInline:
    """Why a node's connection options are refused.

    ``unknown``: none of them is an option that the backend describes, so that its own
    message, where it has one, says more.
    """

    error: ConfigError
    unknown: bool


def refuse_inline(
    context: ExecutionContext,
    spec: SourceSpec,
    connection: ConnectionSpec,
    written: Sequence[str],
    described: BackendOptions | None,
) -> RefusedInline | None:
    """Return why options that a node wrote may not be used, None where they may.

    Args:
        connection: with the node's options in it.
        written: the keys of the node's ``params`` that are not the source's own.
        described: the backend's option classes; without them every option is one that
            may say where to connect.
    """
    harmless = node_keys(described.connection) if described is not None else frozenset()
    where = [key for key in written if key not in harmless]
    if not where or connection.inline or spec.type in context.profile.inline_types:
        return None
    unknown = described is not None and not set(where) & set(keys_of(described.connection))
    named = connection.name in context.profile.connections
    profile = context.profile.path or "profiles.yml"
    file = Path(profile).name
    if named:
        place = join("connections", connection.name)
        hint = f"write them into {place} in {file}, or allow nodes to: add inline: true to it"
        if connection.name == context.profile.catalog_connection:
            hint = f"write them into {connection.name} in {file}, or add inline: true to it"
    else:
        hint = (
            f"name a connection of {file} in params.connection, or add to that file: "
            f"source_defaults: {{{spec.type}: {{inline: true}}}}"
        )
    what = "says" if len(where) == 1 else "say"
    error = ConfigError(
        [
            problem_at(
                spec.location,
                f"{what} where to connect, which is the profile's to say: "
                "a secret might go to another server",
                path=f"{spec.node}.params.{', '.join(where)}",
                hint=hint,
            )
        ]
    )
    return RefusedInline(error=error, unknown=unknown)


def node_keys(options: type) -> frozenset[str]:
    """Return the keys of a connection's class that any node may write."""
    found: set[str] = set()
    fields: Mapping[str, attrs.Attribute[object]] = attrs.fields_dict(options)
    for field in fields.values():
        if field.metadata.get("node"):
            found |= {
                field.metadata.get("key", field.alias or field.name),
                *field.metadata.get("aliases", ()),
            }
    return frozenset(found)
