"""What sources and stores need besides: projection, waiting, Arrow types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import (
    ExecutionContext,
    Source,
)

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


def patiently(
    context: ExecutionContext,
    attempt: Callable[[], T],
    is_busy: Callable[[Exception], bool],
    seconds: float,
) -> T:
    """Try again while somebody else holds what is needed, until it succeeds or time is up.

    Args:
        attempt: tries once, and raises where it fails.
        is_busy: whether that failure may be over soon; any other is raised at once.
        seconds: how long to try.

    Returns:
        What the successful attempt returned.

    Raises:
        Exception: what the last attempt raised.
        Interrupted: the user asked to stop.
    """
    deadline = monotonic() + seconds
    while True:
        context.cancellation.check()
        try:
            return attempt()
        except Exception as error:
            if not is_busy(error) or monotonic() > deadline:
                raise
        sleep(0.01)


def projection(source: Source, known: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a source is to be read with, in their order.

    Args:
        known: the columns that are there.

    Raises:
        BackendError: the projection names another one.
    """
    what = "the query" if source.query else f"source table {'.'.join(source.parts)}"
    for name in source.columns or ():
        if name not in known:
            hint = f"its columns are {', '.join(known)}"
            raise BackendError(f"{what} of {source.node} has no column {name!r}", hint)
    return tuple(known) if source.columns is None else source.columns


def plain(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return the same rows in types that every store knows, also within lists and structs.

    Dictionaries become their values, since a set of today's values would refuse tomorrow's;
    ``arrow.bool8`` becomes a boolean. Batches come one by one, as they are asked for.
    """
    import pyarrow as pa

    schema = pa.schema([field.with_type(_plain(field.type)) for field in reader.schema])
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in reader))


def _plain(type: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(type):
        return type.value_type
    if getattr(type, "extension_name", "") == "arrow.bool8":
        return pa.bool_()
    if pa.types.is_list(type):
        return pa.list_(type.value_field.with_type(_plain(type.value_type)))
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(_plain(field.type)) for field in type])
    return type
