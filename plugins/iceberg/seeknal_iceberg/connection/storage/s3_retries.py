"""How often an object store is asked that is busy or does not answer.

Named in a catalog's properties, not imported: pyiceberg imports it with its file system.
"""

from __future__ import annotations

from pyarrow.fs import AwsStandardS3RetryStrategy

#: With its pauses (up to 1, 2, 4, ... seconds) a busy store has about 10 seconds to
#: recover; a silent one ends after this many of ``s3.request-timeout``.
_ATTEMPTS = 5


class PatientRetries(AwsStandardS3RetryStrategy):  # type: ignore[misc]
    """AWS's standard retries, some more of them than pyarrow asks for."""

    def __init__(self) -> None:
        super().__init__(max_attempts=_ATTEMPTS)
