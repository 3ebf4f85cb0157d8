"""Attribute names that only the collector itself may set."""

RESERVED = "otel_moesif."
"""So begins what ``include_metadata`` attaches to resources; such attributes of a client are dropped."""
