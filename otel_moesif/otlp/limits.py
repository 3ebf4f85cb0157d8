"""How much one request may hold."""

from __future__ import annotations

from dataclasses import dataclass

from otel_moesif.otlp.depth import DEEPEST

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of one export request.

    Attributes:
        request_bytes: Of the whole request, inflated; what is larger is refused. OTLP's specification
            recommends 64 MiB.
        parts: Records, and with them the resources and scopes around them; what has more is refused.
        attributes: Of one record, or of one resource; a record with more is rejected. OpenTelemetry's SDKs
            give at most 128 unless told otherwise (specification, "Attribute Limits").
        attribute_bytes: Of one attribute with its key, of a log record's body, of an event or a link, as they
            are encoded; a record with a larger one is rejected.
        depth: Messages within messages, at most protobuf's own 100; a record with more is rejected. A span
            is the third, a value of its attributes the fifth; a list around a value takes two, a map three.
    """

    request_bytes: int = 64 * MIB
    parts: int = 100_000
    attributes: int = 1024
    attribute_bytes: int = 2 * MIB
    depth: int = DEEPEST


DEFAULT = Limits()
