"""The REST catalog: its requests, its tokens, and the hosts that they go to."""
