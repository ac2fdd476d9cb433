"""The state of the store: our records of it, and what the server's catalogs say.

- `records`: the ledger of who wrote what; `making` and `ending` make and drop it;
- `promotions`, `places`, `staged`, `notes`: what the store keeps of promotions;
- `tables`, `versions`, `marks`, `attached`: what a table is, and whether it changed;
- `links`, `linking`, `aside`: views of one environment on another one's tables;
- `inspecting`, `cleanup`: the hooks that look, and those that drop.
"""

from __future__ import annotations
