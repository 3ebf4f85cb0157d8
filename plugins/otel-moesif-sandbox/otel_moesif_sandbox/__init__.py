"""Local stand-in for the Moesif collector API: checks, counts and shows what it receives."""

from otel_moesif_sandbox.controls import Behavior
from otel_moesif_sandbox.sandbox import Sandbox

__all__ = ["Behavior", "Sandbox"]
