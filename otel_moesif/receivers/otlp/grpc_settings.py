"""Options of ``protocols.grpc``, in the OpenTelemetry Collector's names (configgrpc ``ServerConfig``)."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from otel_moesif.receivers.otlp.access import AccessSettings
from otel_moesif.settings import Duration, Endpoint, Settings

_NEVER = timedelta(0)


class ServerParameters(Settings):
    """``keepalive.server_parameters``: how long connections last, and how dead ones are noticed."""

    max_connection_idle: Duration = Field(
        timedelta(minutes=5), ge=_NEVER, description="A connection without calls is closed; 0: never"
    )
    # A balancer in front can only move clients whose connections end; client certificates are checked anew.
    max_connection_age: Duration = Field(
        timedelta(hours=1), ge=_NEVER, description="A connection is asked to end; 0: never"
    )
    max_connection_age_grace: Duration = Field(
        timedelta(seconds=30), ge=_NEVER, description="What calls then have to come to an end; 0: any time"
    )
    time: Duration = Field(
        timedelta(minutes=1), ge=timedelta(seconds=1), description="A silent connection is pinged"
    )
    timeout: Duration = Field(
        timedelta(seconds=20), ge=timedelta(seconds=1), description="Without an answer it is closed"
    )


class EnforcementPolicy(Settings):
    """``keepalive.enforcement_policy``: what pings of clients are put up with."""

    min_time: Duration = Field(
        timedelta(seconds=10), ge=_NEVER, description="Clients that ping more often are disconnected"
    )
    permit_without_stream: bool = Field(
        default=True, description="Whether clients may ping while they have no call"
    )


class KeepaliveSettings(Settings):
    """``keepalive``."""

    server_parameters: ServerParameters = Field(ServerParameters(), description="Our side")
    enforcement_policy: EnforcementPolicy = Field(EnforcementPolicy(), description="The clients' side")


class GrpcSettings(AccessSettings):
    """``protocols.grpc``."""

    endpoint: Endpoint = Field("localhost:4317", description="Where to listen: host:port")
    # OTLP's specification recommends 64 ("Request size limits"), the Collector takes 4. gRPC's library holds
    # a message twice and bounds nothing over all calls, so that a few of 64 MiB are a gigabyte.
    max_recv_msg_size_mib: int = Field(20, ge=1, le=2047, description="Largest request, inflated, in MiB")
    max_inflation_ratio: int = Field(
        200, ge=2, description="A request beyond 1 MiB may be so many times as large as what was sent"
    )
    # The library's own default is no bound at all; 100 is RFC 9113's advice for the least (section 6.5.2).
    max_concurrent_streams: int = Field(100, ge=1, le=2**31 - 1, description="Calls at once on a connection")
    # An idle connection costs 15 KB (measured).
    max_connections: int = Field(2048, ge=1, le=2**31 - 1, description="More are closed when they open")
    # Each may need max_recv_msg_size_mib, and has a thread.
    max_requests_in_flight: int = Field(
        128, ge=1, description="Calls at once, over all connections; more are told to try again"
    )
    handshake_timeout: Duration = Field(
        timedelta(seconds=10), gt=_NEVER, description="TLS and HTTP/2 must be spoken within"
    )
    read_timeout: Duration = Field(
        timedelta(seconds=30), gt=_NEVER, description="A request must be here so long after its headers"
    )
    keepalive: KeepaliveSettings = Field(KeepaliveSettings(), description="Life of connections")
