"""Writing: everything up to the commit, in every mode."""
