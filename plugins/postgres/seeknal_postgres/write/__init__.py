"""Writing snapshots into tables.

Read it in this order:

- `items`: a target, its rows, and what is there already;
- `modes`: what each mode does, one file for each;
- `evolve`, `retype`: what happens to a table's columns;
- `transit`: rows on their way into new tables; `copy` and `conversion` encode and cast them;
- `rows`, `conditions`: how staged rows replace those of a table;
- `materialize`: all of a direct write; `promotion.staging` is its sibling for promotions.
"""

from __future__ import annotations
