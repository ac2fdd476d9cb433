"""Inspects a server and a target, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import errors as pg

from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import (
    Drift,
    ExecutionContext,
    Ownership,
    QualifiedName,
    Since,
    Target,
    TargetChange,
    TargetColumn,
    TargetState,
)
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import links, publications, tables, versions
from seeknal_postgres.ledger.attached import notes_of
from seeknal_postgres.ledger.links import Link
from seeknal_postgres.ledger.marks import change_between, is_counted, marks_of, oids_of
from seeknal_postgres.ledger.places import Places
from seeknal_postgres.ledger.promotions import generation_of
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.staged import StageData
from seeknal_postgres.names import ledger_schema

#: Tables whose versions are read in one transaction.
_AT_ONCE = 200


def count_rows(context: ExecutionContext, target: Target) -> int:
    """Implement the hook of the same name."""
    with pool_of(context).take(context) as conn, translated(context, str(target.name)):
        settle(conn)
        name = staged_name(context, target) or target.name
        if target.staged is None and _links(context, conn, [name]):
            return versions.count(conn, name)
        if tables.find_oid(conn, name) is None:
            if target.staged is not None:
                raise refusals.nothing_staged(target.name, target.staged.promotion)
            raise tables.missing(target.name)
        return versions.count(conn, name)


def staged_name(context: ExecutionContext, target: Target) -> QualifiedName | None:
    """Return the table of what is staged for a target, None if none is meant."""
    if target.staged is None:
        return None
    schema = ledger_schema(connection_of(context).state_schema, context.environment.name)
    return Places.of(context, schema, target.staged.promotion, target.key).stage


def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    """Implement the hook of the same name."""
    return inspect_targets(context, (target,))[0]


def inspect_targets(
    context: ExecutionContext, targets: tuple[Target, ...], *, versions: bool = True
) -> tuple[TargetState, ...]:
    """Implement the hook of the same name; each table is read for its version."""
    what = str(targets[0].name) if len(targets) == 1 else connection_of(context).place
    with pool_of(context).take(context) as conn, translated(context, what):
        settle(conn)
        store = tables.store_identity(context, conn)
        if any(target.staged is not None for target in targets):
            return _inspect_staged(context, conn, targets, store)
        linked = _links(context, conn, [target.name for target in targets])
        names = [target.name for target in targets if target.name not in linked]
        found = tables.describe_all(conn, names)
        oids = {name: table.oid for name, table in found.items()}
        generation, owners = _recorded_state(
            context, conn, oids | {name: link.oid for name, link in linked.items()}
        )
        marks = marks_of(conn, oids)
        read = _versions(conn, oids) if versions else {}
    return tuple(
        _linked_state(linked[target.name], f"{store}/{target.name}", owners, generation, target)
        if target.name in linked
        else TargetState(
            exists=target.name in found,
            identity=f"{store}/{target.name}",
            columns=tuple(
                TargetColumn(name=column.name, type=column.declared)
                for column in (found[target.name].columns if target.name in found else ())
            ),
            version=read[target.name][1] if target.name in read else None,
            owner=owners.get(target.name),
            generation=generation,
            rows=read[target.name][0] if target.name in read else None,
            notes=notes_of(found[target.name]) if target.name in found else (),
            mark=marks[target.name] if is_counted(marks.get(target.name, "")) else None,
        )
        for target in targets
    )


def changes_since(
    context: ExecutionContext, targets: tuple[Target, ...], since: tuple[Since, ...]
) -> tuple[TargetChange, ...]:
    """Implement the hook of the same name: marks first, then the rows."""
    with (
        pool_of(context).take(context) as conn,
        translated(context, connection_of(context).place),
    ):
        settle(conn)
        linked = _links(context, conn, [target.name for target in targets])
        oids = oids_of(conn, [target.name for target in targets])
        marks = marks_of(conn, oids)
        read = _versions(conn, oids)
    changes = []
    for target, known in zip(targets, since, strict=True):
        if target.name in linked:
            version = linked[target.name].version
            same = version == known.version
            changes.append(
                TargetChange(
                    drift=Drift.NONE if same else Drift.CHANGED,
                    version=version,
                    rows=known.rows,
                    mark=version,
                    detail="" if same else "the link has another definition",
                )
            )
            continue
        if target.name not in read:
            changes.append(TargetChange(drift=Drift.CHANGED, detail="the table is gone"))
            continue
        rows, version = read[target.name]
        changes.append(change_between(known, marks.get(target.name, ""), rows, version))
    return tuple(changes)


def _links(
    context: ExecutionContext, conn: Conn, names: Sequence[QualifiedName]
) -> dict[QualifiedName, Link]:
    """Return which of the names are links of this environment's."""
    ledger = Ledger.of(context, conn)
    return links.find(ledger, names, context.project) if ledger.exists() else {}


def _linked_state(
    link: Link,
    identity: str,
    owners: Mapping[QualifiedName, Ownership],
    generation: int,
    target: Target,
) -> TargetState:
    """Return what a link is: its mark and its version are its definition."""
    return TargetState(
        exists=True,
        identity=identity,
        columns=link.columns,
        version=link.version,
        owner=owners.get(target.name),
        generation=generation,
        mark=link.version,
        linked=True,
    )


def _versions(
    conn: Conn, oids: Mapping[QualifiedName, int]
) -> dict[QualifiedName, tuple[int, str]]:
    """Read tables for their versions, some at a time.

    Anybody who reads a table holds a lock on it until the transaction's end, and a server
    has capacity for some thousands (``max_locks_per_transaction``).
    """
    found: dict[QualifiedName, tuple[int, str]] = {}
    listed = list(oids.items())
    for start in range(0, len(listed), _AT_ONCE):
        conn.rollback()
        settle(conn)
        found |= versions.versions_of(conn, dict(listed[start : start + _AT_ONCE]))
    return found


def _inspect_staged(
    context: ExecutionContext, conn: Conn, targets: tuple[Target, ...], store: str
) -> tuple[TargetState, ...]:
    places = {target.key: staged_name(context, target) for target in targets}
    found = tables.describe_all(conn, [place for place in places.values() if place is not None])
    states = []
    for target in targets:
        place = places[target.key]
        table = found.get(place) if place is not None else None
        hidden = set(StageData.of(target).sent.values())
        columns = tuple(
            TargetColumn(name=column.name, type=column.declared)
            for column in (table.columns if table is not None else ())
            if column.name not in hidden
        )
        states.append(
            TargetState(
                exists=table is not None, identity=f"{store}/{target.name}", columns=columns
            )
        )
    return tuple(states)


def _recorded_state(
    context: ExecutionContext, conn: Conn, oids: Mapping[QualifiedName, int]
) -> tuple[int, dict[QualifiedName, Ownership]]:
    """Return how many promotions there were, and whose the tables are.

    That is told by this environment's ledger or by one beside it: a table of production
    that the state folder knows nothing of is still production's, as its own ledger says
    where this role may read it.
    """
    own, generation = Ledger.of(context, conn), 0
    owners: dict[QualifiedName, Ownership] = {}
    try:
        if own.exists():
            generation = generation_of(context, own)
            owners = own.owners(oids)
        if len(owners) < len(oids):
            for ledger in own.siblings(connection_of(context).state_schema):
                owners = ledger.owners(oids) | owners
    except pg.InsufficientPrivilege:
        # A role that may not read the records owns nothing by them.
        return generation, owners
    return generation, owners


def check_connection(context: ExecutionContext) -> str:
    """Implement the hook of the same name."""
    connection = connection_of(context)
    with pool_of(context).take(context) as conn, translated(context, connection.place):
        row: Any = conn.execute(
            "SELECT current_setting('server_version'), current_database(), current_user,"
            " has_database_privilege(current_database(), 'CREATE')"
        ).fetchone()
        schema = ledger_schema(connection.state_schema, context.environment.name)
        found = publications.publishing(conn, schema) if not connection.allow_publication else []
    version, database, user, creates = row
    text = f"PostgreSQL {version.split()[0]} at {connection.place}, database {database} as {user}"
    if found:
        text += (
            f" (publication {', '.join(found)} covers every table, Seeknal's own too: "
            "nothing is written without allow_publication: true)"
        )
    return text if creates else f"{text} (may not create schemas)"
