"""An intake that notes what reaches it, certificates, and clients: what the receivers' tests need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
import trustme
from opentelemetry.metrics import get_meter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_moesif import ComponentId, Context, Extension, Receipt, Signal, Subject, Unauthenticated
from otel_moesif.receivers.otlp.access import Access
from otel_moesif.receivers.otlp.grpc_server import GrpcServer
from otel_moesif.receivers.otlp.grpc_settings import GrpcSettings

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@dataclass
class Recorder:
    """An `Intake` of which a test says what becomes of requests."""

    answer: Callable[[bytes], Receipt] = lambda _: Receipt()
    signals: frozenset[Signal] = frozenset(Signal)
    requests: list[bytes] = field(default_factory=list)
    metadata: list[Mapping[str, str]] = field(default_factory=list)
    taken: list[Signal] = field(default_factory=list)

    async def accept(self, signal, request, *, transport, metadata=None) -> Receipt:
        assert transport == "grpc"
        self.requests.append(request)
        self.metadata.append(metadata or {})
        self.taken.append(signal)
        return self.answer(request)


class Password:
    """An authenticator that wants one word."""

    def __init__(self, word: str = "sesame") -> None:
        self.word = word

    async def start(self) -> None: ...

    async def shutdown(self) -> None: ...

    async def authenticate(self, headers: Mapping[str, str]) -> Subject:
        if headers.get("authorization") != self.word:
            raise Unauthenticated("a word is required")
        return Subject("ali", {"groups": "thieves"})


@dataclass
class Counters:
    """Everything that a component counts."""

    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.meter = MeterProvider([self.reader]).get_meter("test")

    def denied(self) -> dict[str, int]:
        """Requests that were turned away, by reason."""
        data = self.reader.get_metrics_data()
        points = [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "otelcol_receiver_denied_requests"
            for point in metric.data.data_points
        ]
        return {point.attributes["reason"]: point.value for point in points}


def context(extensions: Mapping[str, Extension] | None = None, meter=None) -> Context:
    logger = logging.getLogger("otel_moesif.receivers.otlp")
    return Context(ComponentId("otlp"), logger, meter or get_meter("test"), (), extensions or {})


class Door:
    """A gRPC server that runs inside ``async with``."""

    def __init__(self, recorder: Recorder, extensions=None, **options) -> None:
        self.recorder = recorder
        self.counters = Counters()
        settings = GrpcSettings.model_validate({"endpoint": "127.0.0.1:0", **options})
        own = context(extensions, self.counters.meter)
        self.server = GrpcServer(settings, Access.of(settings, own, "protocols::grpc"), own)

    async def __aenter__(self) -> Self:
        await self.server.start(self.recorder)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.shutdown()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def channel(self, credentials: grpc.ChannelCredentials | None = None, name: str = "localhost"):
        """A connection of its own, which takes requests of any size."""
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options)
        options.append(("grpc.ssl_target_name_override", name))
        return grpc.aio.secure_channel(self.address, credentials, options)

    async def call(self, request: bytes, method: str = TRACES, channel=None, **options) -> bytes:
        """Send one request as bytes; gives the response as bytes."""
        one = channel or self.channel()
        try:
            return await one.unary_unary(method)(request, **{"timeout": 10, **options})
        finally:
            if channel is None:
                await one.close()

    async def status(self, request: bytes, method: str = TRACES, **options) -> tuple[str, str]:
        """Send one request that is not taken; gives the name of the status, and its message."""
        error = await self.failure(request, method, **options)
        return error.code().name, error.details()

    async def failure(self, request: bytes, method: str = TRACES, **options) -> grpc.aio.AioRpcError:
        try:
            answer = await self.call(request, method, **options)
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError(f"was taken: {answer!r}")


def spans(count: int = 1, text: str = "") -> bytes:
    """A request with so many spans, each with an attribute of that text."""
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    for number in range(1, count + 1):
        span = scope.spans.add(trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        span.attributes.add(key="text").value.string_value = text
    return message.SerializeToString()


class Authority:
    """A certificate authority, and files with what it signed.

    Args:
        directory: Where the files are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.pem = self.ca.cert_pem.bytes()

    def file(self, name: str) -> Path:
        """The authority's own certificate."""
        path = self.directory / name
        path.write_bytes(self.pem)
        return path

    def pair(self, name: str = "localhost", **options) -> tuple[bytes, bytes]:
        """Certificate chain and key."""
        issued = self.ca.issue_cert(name, **options)
        return b"".join(x.bytes() for x in issued.cert_chain_pems), issued.private_key_pem.bytes()

    def write(self, name: str = "localhost", **options) -> dict[str, str]:
        """A new certificate in ``server.pem``, its key in ``server.key``; gives the options of ``tls``."""
        files = {"cert_file": self.directory / "server.pem", "key_file": self.directory / "server.key"}
        for path, text in zip(files.values(), self.pair(name, **options), strict=True):
            path.write_bytes(text)
        return {option: str(path) for option, path in files.items()}

    def credentials(self, client: tuple[bytes, bytes] | None = None) -> grpc.ChannelCredentials:
        """Of a client that trusts the authority, and shows a certificate (chain, key) if it has one."""
        chain, key = client or (None, None)
        return grpc.ssl_channel_credentials(self.pem, private_key=key, certificate_chain=chain)
