"""The command ``otel-moesif``: the only place that prints, traps signals and sets exit codes."""

from otel_moesif.cli.exits import main

__all__ = ["main"]
