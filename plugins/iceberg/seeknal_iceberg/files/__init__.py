"""Parquet files of a table: placed, given field ids, sorted, and read."""
