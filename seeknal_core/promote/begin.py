"""Write down what is about to be staged: from here on a promotion can be gone on with."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import attrs

from seeknal_core.promote.targets import together, write_of
from seeknal_core.promote.work import Promoting
from seeknal_core.state.manifest import save_manifest
from seeknal_core.state.promotions import Part, Phase, Promotion
from seeknal_core.state.records import EnvironmentRecord, Status


def put_tables_for_links(work: Promoting) -> Promoting:
    """Put tables with the same rows in the place of links, so that they can be undone.

    What is promoted into an environment that shows production's rows replaces a link.
    Its readers see those rows until the promotion is published, and after a rollback.
    """
    found, record = [], work.destination.record
    for check in work.wanted:
        key = check.resolved.target.key
        held = record.targets.get(key)
        if check.state is None or not check.state.linked or held is None:
            found.append(check)
            continue
        snapshot = work.store.find(held.node, held.content_key)
        dispatcher, context = work.session.dispatcher, work.session.context
        targets = {k: one for k, one in record.targets.items() if k != key}
        if snapshot is None:
            dispatcher.unlink_target(context, check.resolved)
        else:
            made = dispatcher.materialize(context, check.resolved, snapshot)
            targets[key] = attrs.evolve(
                held,
                link="",
                version=made.version,
                mark=made.mark,
                rows=made.rows_after,
                run_id=context.run_id,
            )
        record = attrs.evolve(record, targets=targets)
        work.session.state.save(record)
        state = dispatcher.inspect_target(context, check.resolved)
        found.append(attrs.evolve(check, state=state))
    assert work.sides is not None
    destination = attrs.evolve(work.destination, record=record)
    return attrs.evolve(work, wanted=found, sides=attrs.evolve(work.sides, destination=destination))


def write_down(work: Promoting) -> Promoting:
    """Make the promotion's document, and keep the manifest that a rollback brings back."""
    document = _document(work)
    save_manifest(work.session.state, document.id, work.destination.manifest)
    return attrs.evolve(work, document=document)


def _document(work: Promoting) -> Promotion:
    parts = together(work.session, work.wanted)
    staged = {check.resolved.target.key for found in parts.values() for check in found}
    now = datetime.now(UTC)
    id = f"p-{now:%Y%m%dt%H%M%S}-{uuid.uuid4().hex[:8]}"
    return Promotion(
        id=id,
        source=work.source.record.name,
        destination=work.destination.record.name,
        started_at=now.isoformat(timespec="seconds"),
        step=Phase.STAGING,
        parts=tuple(
            Part(
                batch=f"{id}-{number}",
                connection=name,
                generation=1 + max(c.state.generation if c.state else 0 for c in found),
                writes=tuple(write_of(check, work.records) for check in found),
            )
            for number, (name, found) in enumerate(sorted(parts.items()))
        ),
        direct=tuple(
            write_of(check, work.records)
            for check in work.wanted
            if check.resolved.target.key not in staged
        ),
        before=work.destination.record,
        after=_after(work, now),
        full_refresh=work.session.context.full_refresh,
        adopt=work.session.context.adopt,
    )


def _after(work: Promoting, now: datetime) -> EnvironmentRecord:
    """Return the destination's record after the promotion, but for the targets it publishes."""
    before = work.destination.record
    after = attrs.evolve(
        before,
        profile=work.session.profile.path or "",
        created_at=before.created_at or now.isoformat(timespec="seconds"),
        last_run_at=now.isoformat(timespec="seconds"),
        last_run_id=work.session.context.run_id,
        status=Status.APPLIED,
        generation=before.generation + 1,
        nodes={id: work.records[id] for id in work.session.graph.order},
        rolled_back="",
        protected=work.session.profile.protected,
        given_profile=(work.session.profile.path or "") if work.session.profile.given else "",
    )
    source = work.source.record
    if source.base and source.base != before.name:
        # What the promoted environment was planned upon, this one is now.
        after = attrs.evolve(after, base=source.base, base_state=source.base_state)
    return after
