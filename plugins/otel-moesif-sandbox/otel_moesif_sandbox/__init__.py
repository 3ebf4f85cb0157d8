"""Local stand-in for the Moesif collector API: checks, counts and shows what it receives."""

from otel_moesif_sandbox.behavior import Behavior
from otel_moesif_sandbox.chaos import Chaos
from otel_moesif_sandbox.sandbox import Sandbox

__all__ = ["Behavior", "Chaos", "Sandbox"]
