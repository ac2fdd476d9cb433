"""OpenTelemetry spans for every call that Seeknal makes of a store."""

__version__ = "0.1.0"
