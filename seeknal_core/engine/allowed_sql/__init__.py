"""What a node's SQL may do, decided by the tree that DuckDB's own parser makes of it."""
