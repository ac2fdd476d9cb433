"""The ADBC driver's connection, as far as reading needs it.

The driver's own DB-API module imports pandas and polars wherever those are installed, half
a second for every command; the layer below it needs neither.
"""

from __future__ import annotations

import adbc_driver_manager as adbc
import adbc_driver_postgresql  # type: ignore[import-untyped]  # it ships no types
import pyarrow as pa

#: What the driver raises; the stream itself fails as pyarrow does.
Error = adbc.Error


class ArrowConnection:
    """A connection that streams rows from binary COPY to Arrow; one statement at a time.

    Raises:
        Error: the server can't be reached or refuses.
    """

    def __init__(self, conninfo: str) -> None:
        self._database = adbc_driver_postgresql.connect(conninfo)
        try:
            self._connection = adbc.AdbcConnection(self._database)
        except BaseException:
            self._database.close()
            raise

    def execute(self, statement: str) -> None:
        """Carry out a statement that returns no rows."""
        with adbc.AdbcStatement(self._connection) as running:
            running.set_sql_query(statement)
            running.execute_update()

    def query(self) -> ArrowQuery:
        """Return a query of this connection, not yet started."""
        return ArrowQuery(adbc.AdbcStatement(self._connection))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._database.close()


class ArrowQuery:
    """One query: start it, read its stream, cancel it from another thread, close it."""

    def __init__(self, statement: adbc.AdbcStatement) -> None:
        self._statement = statement

    def start(self, statement: str) -> pa.RecordBatchReader:
        """Send the query and return its rows as they come."""
        self._statement.set_sql_query(statement)
        stream, _ = self._statement.execute_query()
        return pa.RecordBatchReader._import_from_c(stream.address)

    def cancel(self) -> None:
        """Ask the server to end it, and wait for the server's answer."""
        self._statement.cancel()

    def close(self) -> None:
        """Give up what the query holds."""
        self._statement.close()
