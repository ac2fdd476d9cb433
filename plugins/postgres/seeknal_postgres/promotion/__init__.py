"""Promotions, in the order of their hooks.

- `staging`: rows are written beside their targets;
- `publishing`: one transaction makes all of them visible (`applying` changes the tables, `undo`
  keeps what brings them back);
- `reverting`: a publish is undone, or what was kept for that is deleted.

`batches` has what publishing and reverting share, `room` the server's capacity for locks.
"""

from __future__ import annotations
