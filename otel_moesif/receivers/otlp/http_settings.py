"""Options of ``protocols.http``, in the OpenTelemetry Collector's names (confighttp ``ServerConfig``)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from otel_moesif.receivers.otlp.access import AccessSettings
from otel_moesif.settings import ByteSize, Duration, Endpoint, Settings


def _path(text: str) -> str:
    if not text.startswith("/") or "?" in text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be a path, for example /v1/traces")
    return text


def _origin(text: str) -> str:
    if text.count("*") > 1:
        raise ValueError("may have one *, for example https://*.example.com")
    return text


Path = Annotated[str, AfterValidator(_path)]
Origin = Annotated[str, AfterValidator(_origin)]
Wait = Annotated[Duration, Field(gt=timedelta(0))]


class CorsSettings(Settings):
    """``cors``: which web pages may send."""

    elsewhere: ClassVar[Mapping[str, str]] = {
        "exposed_headers": "is not an option here: pages may read Retry-After, and there is nothing else"
    }

    allowed_origins: list[Origin] = Field(
        description="Origins of the pages, one * in each at most: https://*.example.com"
    )
    allowed_headers: list[str] = Field(
        [], description="Further headers that they may send, for example authorization"
    )
    max_age: int = Field(
        7200, ge=0, le=86400, description="Seconds for which browsers need not ask again; 0: they decide"
    )


class HttpSettings(AccessSettings):
    """``protocols.http``.

    The Collector's own receiver has no timeouts unless asked for (receiver/otlpreceiver/factory.go), so that
    slow clients can hold connections for ever.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {
        "metrics_url_path": "is not an option here: metrics are not analytics events",
        "compression_algorithms": "is not an option here: gzip, zstd and deflate are always understood",
        "keep_alives_enabled": "is not an option here: connections are kept, see idle_timeout",
        "response_headers": "is not an option here",
    }

    endpoint: Endpoint = Field("localhost:4318", description="Where to listen: host:port")
    traces_url_path: Path = Field("/v1/traces", description="Where traces are sent to")
    logs_url_path: Path = Field("/v1/logs", description="Where log records are sent to")
    cors: CorsSettings | None = Field(None, description="Let web pages send; without it browsers refuse to")
    # The Collector's default, there counted after inflation as well.
    max_request_body_size: ByteSize = Field(20 << 20, ge=1, description="Largest body as it is sent")
    # OTLP specification, "Request size limits": 64 MiB recommended, counted after decompression.
    max_inflated_size: ByteSize = Field(64 << 20, ge=1, description="Largest body once it is inflated")
    max_inflation_ratio: int = Field(
        200, ge=2, description="A body beyond 1 MiB may be so many times as large as what was sent"
    )
    max_json_body_size: ByteSize = Field(
        4 << 20, ge=1, description="Largest body in JSON, inflated; it takes ten times the room of protobuf"
    )
    max_bytes_in_flight: ByteSize = Field(
        64 << 20, ge=1, description="Most bytes of bodies beyond 64 KiB each; then clients are told to retry"
    )
    max_requests_in_flight: int = Field(256, ge=1, description="Most requests that are being stored at once")
    # With TLS each costs 370 KiB (measured), most of which is asyncio's buffer; without, 10 KiB.
    max_connections: int = Field(
        256, ge=1, description="Most connections; beyond, who kept us waiting longest has to leave"
    )
    max_connection_age: Wait = Field(
        timedelta(hours=1), description="After this long an answer ends the connection, so that loads balance"
    )
    read_header_timeout: Wait = Field(
        timedelta(seconds=10), description="For TLS and for the headers of a request, each"
    )
    # The SDKs' exporters give up after 10 s, the Collector's after 30 s: who is slower is gone.
    read_timeout: Wait = Field(timedelta(seconds=30), description="For the body of a request")
    write_timeout: Wait = Field(timedelta(seconds=30), description="For a client to take its answer")
    idle_timeout: Wait = Field(timedelta(minutes=1), description="Between two requests")

    @model_validator(mode="after")
    def _two_paths(self) -> HttpSettings:
        if self.traces_url_path == self.logs_url_path:
            raise ValueError("traces_url_path and logs_url_path must not be the same")
        return self
