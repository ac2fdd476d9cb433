"""Reading and inspecting: sources, staged rows, and what happened to a table."""
