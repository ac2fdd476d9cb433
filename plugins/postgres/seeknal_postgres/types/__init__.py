"""Types: from Arrow to PostgreSQL, back again, and in the server's binary form.

To support one more type: `pgtypes` knows the server's types by their oids; `columns` chooses the
type of a column that is written (Arrow to PostgreSQL); `projection` chooses how a column is read
(PostgreSQL to Arrow), and `wire`, with `wire_numeric`, decodes it. `seeknal_postgres.source.sums`
sums it up for a promotion's verification.
"""

from __future__ import annotations
