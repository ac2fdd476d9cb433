"""Changes of the catalog: commits and their outcome, fences, unfinished tables, drops."""
