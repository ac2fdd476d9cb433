"""What a catalog's server sends, and what stands in a table's properties."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from requests import PreparedRequest, Response

from fuzz.target import Target, parts, plain
from seeknal_iceberg.connection.rest.answers import endpoints_of, tolerate
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.write import declared

_PATHS = (
    ("GET", "config"), ("GET", "namespaces"), ("GET", "tables"), ("GET", "views"), ("GET", "credentials"),
    ("POST", "properties"), ("GET", "orders"),
)  # fmt: skip


def _answer(data: bytes) -> None:
    if not data:
        return
    method, last = _PATHS[data[0] % len(_PATHS)]
    response = Response()
    response.status_code = 200
    response.url = f"http://localhost/v1/{last}"
    response.request = PreparedRequest()
    response.request.method = method
    response._content = data[1:]
    tolerate(response)
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return  # Who reads it says so.
    endpoints_of(body.get("endpoints") if isinstance(body, dict) else body)


def _properties(data: bytes) -> None:
    columns, written, created, note = (part.decode("utf-8", "replace") for part in parts(data, 4))
    field = SimpleNamespace(name="a", field_id=1)
    metadata: Any = SimpleNamespace(
        properties={ledger.COLUMNS: columns, declared.SET: written, ledger.BEGUN: created},
        schema=lambda: SimpleNamespace(fields=[field]),
        snapshots=[],
    )
    ledger.columns(metadata)
    declared._set_before(metadata)
    context: Any = SimpleNamespace(
        project="p", environment=SimpleNamespace(name="dev"), state_id="s", run_id="r"
    )
    ledger.begun_by(context, ("ns", "t"), cast(Any, metadata))
    write_notes._parsed(note.encode())


TARGETS = (
    Target(
        name="iceberg_answer",
        open=plain(_answer),
        words=('"endpoints": [', "null", '"config": {}', '"GET /v1/{'),
    ),
    Target(
        name="iceberg_properties", open=plain(_properties), words=("\n=====\n", "[[", '{"a": 1}')
    ),
)
