"""Options of the ``otlp`` receiver, in the OpenTelemetry Collector's names (configgrpc)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from otel_moesif.endpoint import parse_endpoint
from otel_moesif.settings import Settings


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


class GrpcSettings(Settings):
    """``protocols.grpc``."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        "localhost:4317", description="Where to listen: host:port"
    )
    # OTLP specification, "Request size limits": 64 MiB recommended, counted after decompression.
    max_recv_msg_size_mib: int = Field(64, ge=1, le=2047, description="Largest request, inflated, in MiB")


class ProtocolsSettings(Settings):
    """``protocols``."""

    grpc: GrpcSettings = Field(GrpcSettings(), description="OTLP/gRPC")


class OtlpSettings(Settings):
    """Options of ``otlp``."""

    protocols: ProtocolsSettings = Field(ProtocolsSettings(), description="Which protocols to speak")
