"""What a backend says of its own options."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class BackendOptions:
    """The attrs classes behind a backend's options.

    ``connection`` structures a connection's mapping, ``source`` the keys of a
    source's ``params`` that are not connection options (None: only ``query``
    and ``columns``), ``target`` the extra fields of a target (None: none).
    Field docs are in attrs metadata under ``"doc"``. Connection options that a node writes in
    ``params`` are refused, unless the profile says ``inline: true``: they could send a secret to
    another server. A field of ``connection`` that only says what is read, or how, has
    ``"node": True`` in its metadata and may be written in any node. A source's field that a later version
    added has ``"later": True`` there: while it is at its default it is no part of content
    keys, and what was stored before stays valid. ``limits`` are sentences about what
    depends on the store, and what a store may be unable to do.
    """

    connection: type
    source: type | None = None
    target: type | None = None
    limits: tuple[str, ...] = ()
