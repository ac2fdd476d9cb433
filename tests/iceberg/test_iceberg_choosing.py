"""Sources that name a snapshot: by its id, a moment, a tag, a branch."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from seeknal_core.errors import BackendError, OptionError
from seeknal_core.structure import structure
from seeknal_core.types import Source, Target
from seeknal_iceberg import plugin
from seeknal_iceberg.source.options import IcebergSourceOptions
from support.iceberg import Bench


def options(**given: object) -> IcebergSourceOptions:
    return structure(given, IcebergSourceOptions)


def version(bench: Bench, target: Target, **given: object) -> str:
    source = Source(node="s", type="iceberg", parts=target.name.parts, options=options(**given))
    found = plugin.read_source(bench.context, source).version
    assert found is not None
    return found


@pytest.fixture
def written(bench: Bench) -> Target:
    """A table with a column more in its second snapshot; the first has a tag and a branch."""
    target = bench.target()
    bench.write(target, {"id": [1]})
    table = bench.table(target)
    first = table.current_snapshot().snapshot_id
    table.manage_snapshots().create_tag(first, "closed").create_branch(first, "audit").commit()
    bench.write(target, {"id": [2], "new": ["x"]})
    return target


def test_a_tag_has_the_columns_of_its_snapshot_and_a_branch_those_of_the_table(
    bench: Bench, written: Target
) -> None:
    assert bench.read(written, options=options(tag="closed")).to_pylist() == [{"id": 1}]
    branch = bench.read(written, options=options(branch="audit")).to_pylist()
    assert branch == [{"id": 1, "new": None}]
    main = bench.read(written, options=options(branch="main")).to_pylist()
    assert main == bench.rows(written) == [{"id": 2, "new": "x"}]
    filtered = options(branch="audit", filter="new is null")
    assert bench.read(written, options=filtered).num_rows == 1


def test_a_moment_is_read_as_the_table_was_then(bench: Bench, written: Target) -> None:
    log = bench.table(written).metadata.snapshot_log
    first, second = (datetime.fromtimestamp(e.timestamp_ms / 1000, UTC) for e in log)
    for moment, ids in (
        (first, [1]),
        (second - timedelta(milliseconds=1), [1]),
        (second, [2]),
        (second + timedelta(days=1), [2]),
    ):
        for written_as in (moment.isoformat(), moment.isoformat().replace("+00:00", "Z"), moment):
            table = bench.read(written, options=options(as_of=written_as))
            assert table.column("id").to_pylist() == ids
    # Without an offset a time is UTC's, whatever the machine's zone is.
    naive = first.replace(tzinfo=None)
    assert options(as_of=naive.isoformat()) == options(as_of=first) == options(as_of=naive)
    assert options(as_of=date(2020, 1, 1)) == options(as_of="2020-01-01T00:00:00Z")
    with pytest.raises(BackendError, match="not known as of 2020-01-01") as caught:
        bench.read(written, options=options(as_of="2020-01-01"))
    assert f"{first:%Y-%m-%dT%H:%M}" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"tag": "closd"}, "no tag 'closd'", "did you mean 'closed'"),
        ({"tag": "zzz"}, "no tag 'zzz'", "its tags: closed"),
        ({"tag": "audit"}, "'audit' is a branch, not a tag", "branch: audit"),
        ({"branch": "audits"}, "no branch 'audits'", "did you mean 'audit'"),
        ({"branch": "closed"}, "'closed' is a tag, not a branch", "tag: closed"),
        ({"snapshot_id": 5}, "no iceberg_snapshot_id 5", "it has "),
    ],
    ids=["near tag", "other tag", "branch as tag", "near branch", "tag as branch", "id"],
)
def test_what_names_nothing_is_refused_with_what_is_there(
    bench: Bench, written: Target, given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        bench.read(written, options=options(**given))
    assert hint in caught.value.hint


@pytest.mark.parametrize("given", [{"tag": "closed"}, {"as_of": "2999-01-01"}])
def test_a_missing_column_is_looked_for_in_the_snapshot(
    bench: Bench, written: Target, given: dict[str, Any]
) -> None:
    if "as_of" in given:
        assert bench.read(written, columns=("new",), options=options(**given)).num_rows == 1
        return
    with pytest.raises(BackendError, match="no column 'new' in that snapshot"):
        bench.read(written, columns=("new",), options=options(**given))
    with pytest.raises(BackendError, match="the filter"):
        bench.read(written, options=options(filter="new = 'x'", **given))


def test_an_expired_snapshot_is_said_to_be(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    gone = bench.table(target).current_snapshot()
    bench.write(target, {"id": [2]})
    bench.table(target).maintenance.expire_snapshots().by_id(gone.snapshot_id).commit()
    moment = datetime.fromtimestamp(gone.timestamp_ms / 1000, UTC).isoformat()
    with pytest.raises(BackendError, match="expired"):
        bench.read(target, options=options(as_of=moment))
    with pytest.raises(BackendError, match="no iceberg_snapshot_id"):
        bench.read(target, options=options(snapshot_id=gone.snapshot_id))


def test_the_version_follows_what_is_named(bench: Bench, written: Target) -> None:
    table = bench.table(written)
    first = table.metadata.snapshot_log[0].snapshot_id
    fixed = version(bench, written, snapshot_id=first)
    tagged = version(bench, written, tag="closed")
    branched = version(bench, written, branch="audit")
    moment = datetime.fromtimestamp(table.metadata.snapshot_log[0].timestamp_ms / 1000, UTC)
    then = version(bench, written, as_of=moment)
    assert fixed == tagged == then
    bench.write(written, {"id": [3], "new": ["y"], "newer": [1]})
    head = bench.table(written).current_snapshot().snapshot_id
    assert version(bench, written, snapshot_id=first) == fixed
    assert version(bench, written, as_of=moment) == then
    assert version(bench, written, tag="closed") == tagged
    manage = bench.table(written).manage_snapshots()
    manage.remove_tag("closed").remove_branch("audit").commit()
    manage = bench.table(written).manage_snapshots()
    manage.create_tag(head, "closed").create_branch(head, "audit").commit()
    assert version(bench, written, tag="closed") != tagged
    assert version(bench, written, branch="audit") != branched


def test_two_ways_to_name_a_snapshot_are_one_too_many() -> None:
    with pytest.raises(OptionError) as caught:
        options(tag="a", branch="b")
    (problem,) = caught.value.problems
    assert (problem.path, problem.hint) == ("branch", "keep one")
    for wrong in ("yesterday", "2026-13-01", 5):
        with pytest.raises(OptionError) as caught:
            options(as_of=wrong)
        assert caught.value.problems[0].path == "as_of"
    assert options(snapshot_id="12") == options(snapshot_id=12)
    with pytest.raises(OptionError):
        options(snapshot_id="12a")


def test_an_empty_table_has_no_main_branch_and_no_moment(bench: Bench) -> None:
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    from seeknal_iceberg.connection.catalog import open_catalog

    catalog = open_catalog(bench.context)
    catalog.create_namespace("sales")
    catalog.create_table("sales.orders", Schema(NestedField(1, "id", LongType())))
    target = bench.target()
    with pytest.raises(BackendError, match="no rows yet"):
        bench.read(target, options=options(branch="main"))
    with pytest.raises(BackendError, match="has no snapshot"):
        bench.read(target, options=options(as_of="2999-01-01"))
