"""The capabilities of a catalog, found once per command without changing anything in it."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs
from pyiceberg.table.refs import MAIN_BRANCH

from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection import limits
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from seeknal_iceberg.ledger import ledger

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table.metadata import TableMetadata


@attrs.frozen(kw_only=True)
class Capabilities:
    """The capabilities of a catalog; None if only the first such request shows it.

    ``together``: several tables change in one commit. ``purges``: the files of a dropped
    table are deleted by the catalog when it is asked to. ``history``: other snapshots than
    a table's current one can be seen, and tags on them. ``folds_case``: names that differ
    in case alone are one. ``stages``: a table is begun, and made by its first commit.
    ``renames``: a table gets another name.
    """

    together: bool | None = None
    purges: bool | None = None
    history: bool | None = None
    folds_case: bool | None = None
    stages: bool | None = None
    renames: bool | None = None

    def sentences(self) -> tuple[str, ...]:
        """Return what the catalog can't do, for ``plan``, and ``check --connections``."""
        known = (
            (self.together is False, limits.ONE_BY_ONE),
            (self.history is False, limits.CURRENT_ONLY),
            (self.purges is False, limits.NO_PURGE),
            (self.folds_case, limits.ANY_CASE),
            (self.stages is False and self.renames is not False, limits.RENAMED),
            (self.stages is False and self.renames is False, limits.EMPTY_FIRST),
        )
        return tuple(sentence for holds, sentence in known if holds)


@attrs.define(kw_only=True)
class _Held:
    value: Capabilities
    places: dict[tuple[str, ...], tuple[str, ...]] = attrs.field(factory=dict)
    lock: threading.Lock = attrs.field(factory=threading.Lock)


def of(context: ExecutionContext) -> Capabilities:
    """Return the capabilities of the call's catalog, as far as they are known by now.

    A catalog that doesn't answer the questions is one of which nothing is known.
    """
    return _held(context).value


def learn(context: ExecutionContext, **known: bool) -> None:
    """Remember, for the rest of the command, what a request has shown."""
    held = _held(context)
    with held.lock:
        held.value = attrs.evolve(held.value, **known)


def saw(context: ExecutionContext, metadata: TableMetadata) -> None:
    """Learn from a table of ours whether the catalog shows more than current snapshots."""
    if of(context).history is not None:
        return
    if len(metadata.snapshots) > 1 or set(metadata.refs) - {MAIN_BRANCH}:
        learn(context, history=True)
        return
    # A publish writes the property in the commit that sets the tag.
    told = [name for name in metadata.properties if name.startswith(ledger.UNDO)]
    if told:
        learn(context, history=False)


def place_of(context: ExecutionContext, parts: tuple[str, ...]) -> str | None:
    """Return a name for the place of a table that is not there yet, as the catalog compares names.

    Two targets of one command that differ only in case get one name where the catalog takes
    them for one. The catalog is asked only once there are two.
    """
    if catalogs.of(context).catalog_type == "sql":
        return None
    held = _held(context)
    folded = tuple(part.casefold() for part in parts)
    with held.lock:
        first = held.places.setdefault(folded, parts)
    if first != parts and of(context).folds_case is None:
        learn(context, folds_case=_folds(catalogs.open_catalog(context)))
    differs = first != parts and not of(context).folds_case
    return ("exact " if differs else "place ") + catalogs.identity(
        catalogs.of(context), parts if differs else folded
    )


def _folds(catalog: Catalog) -> bool:
    """Return whether a namespace that is there is also found by its name in another case."""
    try:
        listed = {tuple(levels) for levels in catalog.list_namespaces()}
        for levels in sorted(listed):
            other = tuple(level.swapcase() for level in levels)
            if other not in listed:
                return bool(catalog.namespace_exists(other))
    except Exception:  # noqa: BLE001 - no answer tells nothing; a write of the second table finds out
        return False
    return False


def _held(context: ExecutionContext) -> _Held:
    key = ("iceberg-capabilities", catalogs.of(context))
    found: _Held = context.resources.get(key, lambda: _Held(value=_found(context)), lambda _: None)
    return found


def _found(context: ExecutionContext) -> Capabilities:
    kind = catalogs.of(context).catalog_type
    if kind == "sql":
        return Capabilities()  # this process does all of it itself
    if kind != "rest":
        return Capabilities(together=False, folds_case=kind in ("glue", "hive") or None)
    catalog = catalogs.open_catalog(context)
    assert isinstance(catalog, PatientRestCatalog)
    # A Nessie says that it deleted the files, and leaves them to its own garbage collector.
    nessie = _is_nessie(catalog)
    service = aws_service(catalog)
    return Capabilities(
        together=_together(catalog),
        purges=False if nessie else None,
        history=False if nessie else None,
        stages=False if service else None,
        # Glue renames tables of Redshift only.
        renames=False if service == "glue" else catalog.renames_tables(),
    )


def aws_service(catalog: Catalog) -> str:
    """Return ``glue`` or ``s3tables`` if the catalog is a REST catalog of AWS, else nothing."""
    if not isinstance(catalog, PatientRestCatalog):
        return ""
    host = urlsplit(catalog.uri).hostname or ""
    prefix = unquote(str(catalog.properties.get("prefix", "")))
    if prefix.startswith("arn:aws") and ":s3tables:" in prefix:
        return "s3tables"
    found = re.match(r"(glue|s3tables)[.-].*amazonaws\.com", host)
    return found[1] if found else ""


def _together(catalog: PatientRestCatalog) -> bool | None:
    try:
        return catalog.commits_tables()
    except Exception:  # noqa: BLE001 - an answer of a busy or failing catalog says nothing about its capabilities
        return None


def _is_nessie(catalog: Catalog) -> bool:
    """Return whether a catalog is a Nessie, by what its configuration says."""
    return str(catalog.properties.get("nessie.is-nessie-catalog", "")).lower() == "true"
