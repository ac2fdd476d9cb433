"""The connection: the profile that describes it, and the catalog that it opens."""
