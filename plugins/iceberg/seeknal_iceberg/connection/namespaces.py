"""Creates namespaces of a catalog, and finds missing ones."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    BadRequestError,
    ForbiddenError,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
)
from sqlalchemy.exc import IntegrityError

from seeknal_core.contract.errors import NamespaceRefused
from seeknal_iceberg.connection import imports
from seeknal_iceberg.connection.errors import check_hint, refused_name, sentence
from seeknal_iceberg.connection.profile import IcebergConnection
from seeknal_iceberg.names import quote as quoted

if TYPE_CHECKING:
    pass

imports.guard()


def ensure_namespace(
    catalog: Catalog,
    connection: IcebergConnection,
    levels: tuple[str, ...],
    properties: Mapping[str, str],
    made: list[tuple[str, ...]] | None = None,
) -> None:
    """Make a namespace, all of its levels; one that is there needs no right to make it.

    Args:
        properties: those of each level that is made here.
        made: gets the levels that are made here, outer ones first.

    Raises:
        NamespaceRefused: it is not there and cannot be made.
    """
    there = _seen(catalog, levels)
    if there:
        return
    for depth in range(1, len(levels) + 1):
        level = levels[:depth]
        try:
            catalog.create_namespace(level, dict(properties))
            if made is not None:
                made.append(level)
        except (NamespaceAlreadyExistsError, IntegrityError):
            continue  # the latter where another writer made it between look and insert
        except ForbiddenError as error:
            # If it may not even be looked up, creating a table in it shows whether it exists.
            if depth < len(levels) or there is None or _seen(catalog, level):
                continue
            raise NamespaceRefused(
                f"the namespace {'.'.join(levels)} cannot be made: {sentence(error)}",
                f"ask for the right to create it, or create it; then {check_hint(connection)}",
            ) from error
        except BadRequestError as error:
            if _is_there_by_now(catalog, level):
                continue
            raise refused_name(level, "namespace", quoted(level), error) from error
        # If two writers create one at the same moment, some catalogs fail one (Iceberg's own
        # test server answers 500): what counts is whether it is there.
        except Exception:
            if not _is_there_by_now(catalog, level):
                raise


def _is_there_by_now(catalog: Catalog, levels: tuple[str, ...]) -> bool:
    for pause in (0.0, 0.2, 0.5):
        time.sleep(pause)
        if _seen(catalog, levels):
            return True
    return False


def is_gone(catalog: Catalog, levels: tuple[str, ...]) -> bool:
    """Return whether a namespace that was there a moment ago certainly no longer exists."""
    try:
        return not _seen(catalog, levels)
    except Exception:  # noqa: BLE001 - no answer: nothing is known
        return False


def is_unlisted(catalog: Catalog, levels: tuple[str, ...]) -> bool:
    """Return whether a namespace that the user may not read is certainly absent.

    Some catalogs forbid to ask for what is absent; what is around it can be listed.
    """
    parent = levels[:-1]
    try:
        listed = catalog.list_namespaces(parent)
    except NoSuchNamespaceError:
        return True
    except ForbiddenError:
        return bool(parent) and is_unlisted(catalog, parent)
    return levels not in {tuple(each) for each in listed}


def missing_levels(catalog: Catalog, levels: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the levels of a namespace that are not there, outer ones first."""
    if _seen(catalog, levels):
        return []
    every = [levels[:depth] for depth in range(1, len(levels) + 1)]
    return [level for level in every if not _seen(catalog, level)]


def _seen(catalog: Catalog, levels: tuple[str, ...]) -> bool | None:
    """Return whether a namespace is there; None if the catalog forbids to ask."""
    try:
        return bool(catalog.namespace_exists(levels))
    except ForbiddenError:
        return None
