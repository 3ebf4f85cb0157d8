"""The OTLP messages: how bytes become columns."""
