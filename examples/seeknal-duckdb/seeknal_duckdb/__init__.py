"""DuckDB backend for Seeknal: tables in a database file."""
