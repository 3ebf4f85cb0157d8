"""OTLP/HTTP as others speak it: OpenTelemetry's own exporters, its examples in JSON, TLS."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_moesif import Receipt, Refused, Signal, StartError
from tests.processes import until
from tests.receivers.doors import Authority, Password, spans
from tests.receivers.http_doors import JSON, HttpDoor, HttpRecorder

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "otlp"
COMPRESSIONS = [Compression.NoCompression, Compression.Gzip, Compression.Deflate]


def fixture(path: str) -> bytes:
    file = FIXTURES / path
    if not file.exists():
        pytest.skip(f"../shared/fixtures/otlp/{path} is not here")
    return file.read_bytes()


def send_span(door: HttpDoor, **options) -> bool:
    """Through the SDK; whether it was taken."""
    provider = TracerProvider()
    exporter = OTLPSpanExporter(f"{door.url}/v1/traces", **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    count = len(door.recorder.requests)
    with provider.get_tracer("test").start_as_current_span("GET /orders") as span:
        span.set_attribute("http.route", "/orders")
    provider.shutdown()
    return len(door.recorder.requests) > count


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_spans_of_the_python_sdk(compression):
    with HttpDoor() as door:
        assert send_span(door, compression=compression)
    message = ExportTraceServiceRequest.FromString(door.recorder.requests[0])
    assert message.resource_spans[0].scope_spans[0].spans[0].name == "GET /orders"
    assert door.counters.denied() == {}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_log_records_of_the_python_sdk(compression):
    with HttpDoor() as door:
        provider = LoggerProvider()
        exporter = OTLPLogExporter(f"{door.url}/v1/logs", compression=compression)
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        provider.get_logger("test").emit(LogRecord(body="GET /orders 200"))
        provider.shutdown()
    message = ExportLogsServiceRequest.FromString(door.recorder.requests[0])
    assert message.resource_logs[0].scope_logs[0].log_records[0].body.string_value == "GET /orders 200"


def test_the_python_sdk_comes_back_when_told_to():
    answers = [Refused("intake is full", 0.1)]

    def answer(_: bytes) -> Receipt:
        if answers:
            raise answers.pop()
        return Receipt()

    with HttpDoor(HttpRecorder(answer)) as door:
        send_span(door)
        assert len(door.recorder.requests) == 2
        assert door.recorder.requests[0] == door.recorder.requests[1]


def test_the_python_sdk_shows_its_credentials():
    with HttpDoor(extensions={"word": Password()}, auth={"authenticator": "word"}) as door:
        assert not send_span(door)
        assert send_span(door, headers={"authorization": "sesame"})


@pytest.mark.parametrize(
    ("name", "signal"),
    [
        ("opentelemetry-proto/trace.json", Signal.TRACES),
        ("opentelemetry-proto/logs.json", Signal.LOGS),
        ("opentelemetry-proto/events.json", Signal.LOGS),
        ("alloy/payload.json", Signal.TRACES),
    ],
)
def test_the_examples_of_the_specification(name, signal):
    with HttpDoor() as door:
        response = door.post(fixture(name), f"/v1/{signal}", {"content-type": JSON})
        assert (response.status_code, response.json()) == (200, {})
    assert door.recorder.taken == [signal]
    kind = ExportTraceServiceRequest if signal is Signal.TRACES else ExportLogsServiceRequest
    assert kind.FromString(door.recorder.requests[0]).ByteSize()


def test_the_example_of_another_signal():
    with HttpDoor() as door:
        response = door.post(
            fixture("opentelemetry-proto/metrics.json"), "/v1/traces", {"content-type": JSON}
        )
        assert response.status_code == 400
        assert "another signal" in response.json()["message"]


def test_tls(tmp_path):
    authority = Authority(tmp_path)
    with HttpDoor(tls=authority.write("127.0.0.1")) as door:
        url = f"{door.url}/v1/traces"
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        headers = {"content-type": "application/x-protobuf"}
        with httpx.Client(verify=trusting) as client:
            assert client.post(url, content=spans(500, "x" * 1000), headers=headers).status_code == 200
            assert client.post(url, content=b"", headers={}).status_code == 415
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.post(url)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(url.replace("https", "http"))
        until(
            lambda: door.counters.denied() == {"content type": 1, "no TLS, or none that is allowed here": 2}
        )


def test_tls_with_certificates_of_clients(tmp_path):
    authority = Authority(tmp_path)
    own = authority.write("127.0.0.1") | {"client_ca_file": str(authority.file("ca.pem"))}
    chain, key = authority.pair("client")
    pem = tmp_path / "client.pem"
    pem.write_bytes(key + chain)
    with HttpDoor(tls=own) as door:
        trusting = ssl.create_default_context(cadata=authority.pem.decode())
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            httpx.post(f"{door.url}/v1/traces", verify=trusting)
        trusting.load_cert_chain(pem)
        assert httpx.post(f"{door.url}/v1/traces", verify=trusting).status_code == 415


def test_silence_instead_of_tls_has_an_end_and_makes_room(tmp_path):
    options = {"tls": Authority(tmp_path).write("127.0.0.1"), "max_connections": 2}
    with HttpDoor(read_header_timeout="300ms", **options) as door:
        with door.connect() as one, door.connect() as two, door.connect() as three:
            assert one.ended()  # for the third
            assert two.ended()
            assert three.ended()
        until(lambda: not door.server._connections._open)


def test_tls_that_cannot_be_spoken_is_said_at_the_start(tmp_path):
    files = Authority(tmp_path).write("127.0.0.1")
    Path(files["key_file"]).unlink()
    with pytest.raises(StartError, match="key_file: cannot read"):
        HttpDoor(tls=files).__enter__()


def test_the_examples_are_read_as_json_only_once(monkeypatch):
    """What is small is transcoded in the event loop, what is large beside it; both to the same bytes."""
    one = {"traceId": "01" * 16, "spanId": "02" * 8, "name": "x"}
    small, large = (
        json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one] * n}]}]}) for n in (1, 2000)
    )
    with HttpDoor() as door:
        for text in (small, large):
            assert door.post(text.encode(), headers={"content-type": JSON}).status_code == 200
    sizes = [
        len(ExportTraceServiceRequest.FromString(request).resource_spans[0].scope_spans[0].spans)
        for request in door.recorder.requests
    ]
    assert sizes == [1, 2000]
