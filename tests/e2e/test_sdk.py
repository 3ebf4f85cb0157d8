"""The real OpenTelemetry SDK and its OTLP exporter as the gateway."""

from __future__ import annotations

import pytest
from grpc import Compression
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from tests.e2e.collector import Collector, Sandbox, transaction_id
from tests.ports import free_port
from tests.processes import until

CALLS = 300


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_every_call_of_the_sdk_arrives_once(tmp_path, compression):
    port = free_port()
    collector = Collector(tmp_path, {"moesif": f"http://127.0.0.1:{port}"}, own_sandbox=port)
    with collector.run():
        sent = _send(collector.target, compression)
        sandbox = Sandbox(port)
        until(lambda: len(sandbox.transactions()) >= CALLS, "all calls")
        assert sandbox.transactions() == dict.fromkeys(sent, 1)
        event = next(event for event in sandbox.events() if event["transaction_id"] == sent[7])
    assert event["request"]["verb"] == "GET"
    assert event["request"]["uri"] == "https://api.example.org/orders/7?page=2"
    assert event["response"]["status"] == 200
    assert event["metadata"]["eventType"] == "response"
    assert event["metadata"]["apiResourceTemplate"] == "/orders/{id}"
    assert event["request"]["headers"]["User-Agent"] == "sdk-test/1.0"
    assert event["metadata"]["proxyResponseCode"] == 200
    assert event["metadata"]["targetResponseCode"] == 204  # the CLIENT child's
    assert event["metadata"]["apiName"] == "shop-gateway"


def _send(target: str, compression: Compression) -> list[str]:
    exporter = OTLPSpanExporter(endpoint=target, insecure=True, compression=compression)
    provider = TracerProvider(resource=Resource.create({"service.name": "shop-gateway"}))
    provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=64))
    tracer = provider.get_tracer("gateway", "1.0")
    sent = []
    for number in range(CALLS):
        attributes = {
            "http.request.method": "GET",
            "http.route": "/orders/{id}",
            "url.scheme": "https",
            "url.path": f"/orders/{number}",
            "url.query": "page=2",
            "server.address": "api.example.org",
            "user_agent.original": "sdk-test/1.0",
        }
        with tracer.start_as_current_span("GET", kind=SpanKind.SERVER, attributes=attributes) as span:
            with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT) as child:
                child.set_attribute("http.response.status_code", 204)
                child.set_attribute("url.full", "http://orders.internal/orders")
            span.set_attribute("http.response.status_code", 200)
        context = span.get_span_context()
        sent.append(transaction_id(context.trace_id, context.span_id))
    provider.shutdown()
    return sent
