"""Records of writes: in the table, in notes on this machine, and in staged writes."""
