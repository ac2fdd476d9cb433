"""Types: the columns of a snapshot, those of a table, and how values go from one to the other."""
