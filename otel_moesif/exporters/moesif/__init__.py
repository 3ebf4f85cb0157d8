"""The ``moesif`` exporter: events to Moesif's collector API, or to the sandbox that stands in for it."""

from otel_moesif.exporters.moesif.exporter import FACTORY

__all__ = ["FACTORY"]
