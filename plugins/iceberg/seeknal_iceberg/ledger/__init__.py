"""What is remembered of writes: in the table, in notes on this machine, and in what is staged."""
