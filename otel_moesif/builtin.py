"""The components and dialects that come with otel-moesif, entering by the same door as anybody's."""

from __future__ import annotations

from otel_moesif.component import Factory
from otel_moesif.dialects.dialect import Dialect
from otel_moesif.dialects.envoy import ENVOY
from otel_moesif.dialects.semconv import SEMCONV
from otel_moesif.exporters.debug import FACTORY as DEBUG
from otel_moesif.exporters.file import FACTORY as FILE
from otel_moesif.exporters.moesif import FACTORY as MOESIF
from otel_moesif.hookspecs import hookimpl
from otel_moesif.processors.apim_event.processor import FACTORY as APIM_EVENT
from otel_moesif.receivers.otlp.receiver import FACTORY as OTLP


@hookimpl
def otel_moesif_components() -> list[Factory]:
    """The built-in components."""
    return [OTLP, APIM_EVENT, MOESIF, FILE, DEBUG]


@hookimpl
def otel_moesif_dialects() -> list[Dialect]:
    """The built-in dialects; ``semconv`` takes what no other does, so it stands last."""
    return [ENVOY, SEMCONV]
