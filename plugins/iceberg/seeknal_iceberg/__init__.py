"""The Apache Iceberg backend of Seeknal.

`plugin` has the hooks; each calls one function below, in the room of its section:

- naming: `names` (pure functions), `connection.profile`
- writing: `write`, with one module for each mode in `write.modes`
- reading and inspecting: `source`, and `check` for ``seeknal check --connections``
- promotion: `promotion`
- cleanup: `cleanup`

What they stand on:

- `commit`: changes of the catalog: commits and their outcome, fences, unfinished tables, drops
- `ledger`: what is remembered of writes: in tables, in notes on this machine, in what is staged
- `connection`: the profile, the catalog that it opens, its REST requests, access to storage
- `files`: Parquet files of a table: placed, given field ids, sorted, read
- `types`: columns, and how values go from one type to another

A room imports from those below it: plugin, check, cleanup, promotion, write, source, commit,
ledger, connection, files, types, names. import-linter holds that.

One write path: `write.prepare.Preparation` looks at the table, decides, and places files that
nobody sees. A run commits them at once (`write.materialize`), and looks again where another
writer was faster. A promotion keeps them for later (`promotion.stage`) and commits all targets
of a batch (`promotion.publish`); one target is a batch of one.
"""

from __future__ import annotations

__version__ = "0.1.0"
