"""Options of the ``otlp`` receiver, in the OpenTelemetry Collector's names."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from otel_moesif.receivers.otlp.grpc_settings import GrpcSettings
from otel_moesif.receivers.otlp.http_settings import HttpSettings
from otel_moesif.settings import Settings


class ProtocolsSettings(Settings):
    """``protocols``: those that are named are spoken (``http:`` alone: with defaults); both, if none is."""

    grpc: GrpcSettings | None = Field(None, description="OTLP/gRPC")
    http: HttpSettings | None = Field(None, description="OTLP/HTTP")

    @model_validator(mode="before")
    @classmethod
    def _none_is_both(cls, given: Any) -> Any:
        return {"grpc": {}, "http": {}} if given == {} else given


class OtlpSettings(Settings):
    """Options of ``otlp``."""

    protocols: ProtocolsSettings = Field(
        default_factory=ProtocolsSettings, description="Which protocols to speak; both, if none is named"
    )
