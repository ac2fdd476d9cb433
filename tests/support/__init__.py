"""Real stores for the tests, started from wheels."""
