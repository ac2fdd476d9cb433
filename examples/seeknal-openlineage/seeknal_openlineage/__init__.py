"""OpenLineage events for every table that Seeknal writes."""

__version__ = "0.1.0"
