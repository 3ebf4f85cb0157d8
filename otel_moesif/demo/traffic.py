"""Sample traffic as a gateway tells it: spans of the real OpenTelemetry SDK, sent over OTLP/gRPC.

Attributes are those of the stable HTTP conventions (semantic-conventions docs/http/http-spans.md): a SERVER
span for the call, a CLIENT child for the call of the backend.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from otel_moesif.demo.calls import APIS, Call, make_call

GATEWAY = "gateway.example"

# The namespace of transaction ids: every event of one span gets the same one, on every retry and replay.
_NAMESPACE = uuid.UUID(bytes=b"otel-moesif/call")

_MILLISECOND = 1_000_000  # in ns
_UNAUTHORIZED = 401
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class SentCall:
    """A call that was given to the SDK.

    Attributes:
        trace_id: Of its spans.
        span_id: Of its SERVER span.
    """

    trace_id: int
    span_id: int

    @property
    def transaction_id(self) -> str:
        """The id of the event that must come of it."""
        return str(uuid.uuid5(_NAMESPACE, f"{self.trace_id:032x}:{self.span_id:016x}"))


class Traffic:
    """Sends sample calls to an OTLP/gRPC receiver.

    Args:
        endpoint: ``host:port`` of the receiver; no TLS.
        seed: Makes the same calls again. Trace and span ids are new ones each time, so that the calls of two
            runs are never taken for repeats.

    Attributes:
        sent: Every call so far; it only grows, so another thread may read it meanwhile.
    """

    def __init__(self, endpoint: str, *, seed: int | None = None) -> None:
        self.sent: list[SentCall] = []
        self._random = random.Random(seed)  # noqa: S311 - sample data
        self._exporter = _CountingExporter(
            endpoint=f"http://{endpoint}",
            insecure=True,
            # A proxy of the environment is not the way to localhost.
            channel_options=(("grpc.enable_http_proxy", 0),),  # type: ignore[arg-type]  # gRPC wants a number
        )
        # One processor for all APIs; holds back what comes during a short stop of the receiver.
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=65_536, schedule_delay_millis=200, max_export_batch_size=512
        )
        self._tracers = {api.name: self._tracer(api.name, api.version) for api in APIS}

    @property
    def failed_spans(self) -> int:
        """Spans that the exporter gave up on."""
        return self._exporter.failed

    def run(self, rate: float, stop: threading.Event) -> None:
        """Send calls at a steady rate until told to stop, then `flush`.

        Args:
            rate: Calls per second.
            stop: Set by another thread.
        """
        begin = time.monotonic()
        number = 0
        while not stop.wait(max(0.0, begin + number / rate - time.monotonic())):
            self.send(make_call(self._random))
            number += 1
        self.flush()

    def send(self, call: Call) -> SentCall:
        """Tell one call, as if it had ended just now."""
        duration = call.before + call.after + (call.backend if call.outcome.reached else 0)
        start = time.time_ns() - int(duration * _MILLISECOND)
        tracer = self._tracers[call.api.name]
        span = tracer.start_span(
            f"{call.route.method} {call.api.context}{call.route.template}",
            context=Context(),  # a new trace, whatever is current here
            kind=SpanKind.SERVER,
            attributes=_server_attributes(call),
            start_time=start,
        )
        if call.status >= _SERVER_ERROR:
            span.set_attribute("error.type", call.outcome.error or str(call.status))
            span.set_status(Status(StatusCode.ERROR))
        context = span.get_span_context()
        sent = SentCall(context.trace_id, context.span_id)
        # Before the span ends: from then on its event may arrive, and must be known as ours.
        self.sent.append(sent)
        if call.outcome.reached:
            begin = start + int(call.before * _MILLISECOND)
            child = tracer.start_span(
                call.route.method,
                context=set_span_in_context(span),
                kind=SpanKind.CLIENT,
                attributes=_client_attributes(call),
                start_time=begin,
            )
            if call.outcome.error or call.backend_status >= _SERVER_ERROR:
                child.set_status(Status(StatusCode.ERROR))
            child.end(begin + int(call.backend * _MILLISECOND))
        span.end(start + int(duration * _MILLISECOND))
        return sent

    def flush(self) -> bool:
        """Send what waits; whether every span so far was taken by the receiver."""
        return self._processor.force_flush() and self._exporter.failed == 0

    def close(self) -> None:
        """Stop, without waiting for a receiver that does not answer; `flush` first for what shall arrive."""
        self._exporter.shutdown()
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _tracer(self, api: str, version: str) -> Tracer:
        resource = Resource.create(
            {"service.name": api, "service.version": version, "service.namespace": "demo-gateway"}
        )
        # Whatever OTEL_TRACES_SAMPLER says: each call counts here.
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        return provider.get_tracer("otel_moesif.demo")


class _CountingExporter(OTLPSpanExporter):
    """Counts what it had to give up; the SDK itself only logs that."""

    failed = 0
    _closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE if self._closed else super().export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.failed += len(spans)
        return result

    def shutdown(self, timeout_millis: float = 0, **kwargs: object) -> None:
        if not self._closed:
            self._closed = True
            super().shutdown(timeout_millis, **kwargs)


def _server_attributes(call: Call) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        "http.request.method": call.route.method,
        "http.response.status_code": call.status,
        "http.route": call.api.context + call.route.template,
        "url.scheme": "https",
        "url.path": call.api.context + call.path,
        "server.address": GATEWAY,
        "server.port": 443,
        "client.address": call.client,
        "network.protocol.version": "1.1",
        "user_agent.original": call.agent,
        "http.request.header.accept": ["application/json"],
        "http.response.header.content-type": ["application/json; charset=UTF-8"],
        "http.response.body.size": call.size,
    }
    if call.route.query:
        attributes["url.query"] = call.route.query
    if call.status != _UNAUTHORIZED:  # who has no valid credentials is nobody
        attributes |= {"user.id": call.user, "company.id": call.company}
    return attributes


def _client_attributes(call: Call) -> dict[str, AttributeValue]:
    url = urlsplit(call.api.backend)
    query = f"?{call.route.query}" if call.route.query else ""
    attributes: dict[str, AttributeValue] = {
        "http.request.method": call.route.method,
        "url.full": f"{call.api.backend}{call.path}{query}",
        "server.address": url.hostname or "",
        "server.port": url.port or (443 if url.scheme == "https" else 80),
    }
    if call.outcome.error:
        attributes["error.type"] = call.outcome.error
    else:
        attributes["http.response.status_code"] = call.backend_status
        if call.backend_status >= _SERVER_ERROR:
            attributes["error.type"] = str(call.backend_status)
    return attributes
