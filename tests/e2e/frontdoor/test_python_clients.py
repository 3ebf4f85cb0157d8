"""OpenTelemetry's own exporters for Python, through every entrance of one collector."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import requests
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tests.e2e.collector import transaction_id
from tests.e2e.frontdoor.secured import Entrance, Secured, secured
from tests.processes import until

ENTRANCES = ["plain", "tls", "mtls", "bearer", "bearer file", "basic", "oidc", "all"]
PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http"])


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with secured(tmp_path_factory.mktemp("python-clients")) as opened:
        yield opened


@pytest.fixture(scope="module")
def arrives(running):
    """Takes the ids of calls; waits for all of them when everything was sent."""
    expected: dict[str, str] = {}
    yield expected.update
    until(
        lambda: expected.keys() <= running.moesif.arrived().keys(), "the calls of every entrance", timeout=20
    )
    events = {event["transaction_id"]: event for event in running.moesif.events()}
    for id_, path in expected.items():
        assert events[id_]["request"]["uri"] == f"https://api.example.org{path}"
        assert events[id_]["metadata"]["apiResourceTemplate"] == "/orders/{id}"


@PROTOCOLS
@pytest.mark.parametrize(
    ("entrance", "zipped"),
    [
        # Both ways through the first and the last; for the others compression makes no difference.
        pytest.param(name, zipped, marks=[pytest.mark.slow] if name in ENTRANCES[1:-1] and zipped else [])
        for name in ENTRANCES
        for zipped in (False, True)
    ],
)
def test_the_exporters_of_python_are_let_in(running, arrives, protocol, entrance, zipped):
    spans = _calls()
    exporter = _exporter(protocol, running.entrances[entrance], zipped=zipped)
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    exporter.shutdown()
    ids = [transaction_id(span.context.trace_id, span.context.span_id) for span in spans]
    arrives(dict(zip(ids, (span.attributes["url.path"] for span in spans), strict=True)))


@PROTOCOLS
@pytest.mark.parametrize("entrance", ["bearer", "bearer file", "basic", "oidc", "all"])
def test_wrong_credentials_are_not_let_in(running, protocol, entrance):
    given = running.entrances[entrance]
    wrong = Entrance(**{**vars(given), "headers": given.wrong})
    before = _unauthenticated(running)
    exporter = _exporter(protocol, wrong)
    assert exporter.export(_calls()) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert _unauthenticated(running) == before + 1, "it is not tried again"


@PROTOCOLS
def test_a_client_without_a_certificate_is_not_let_in(running, protocol):
    exporter = _exporter(
        protocol, Entrance(**{**vars(running.entrances["mtls"]), "certificate": ""}), seconds=1
    )
    assert exporter.export(_calls()) is SpanExportResult.FAILURE
    exporter.shutdown()


def _unauthenticated(running: Secured) -> float:
    return running.collector.count("otelcol_receiver_denied_requests", reason="unauthenticated")


def _exporter(
    protocol: str, entrance: Entrance, *, zipped: bool = False, seconds: float = 10
) -> SpanExporter:
    if protocol == "http":
        session = requests.Session()
        session.trust_env = False  # REQUESTS_CA_BUNDLE would come before certificate_file
        return HttpExporter(
            f"{entrance.url}/v1/traces",
            certificate_file=entrance.authority or None,
            client_certificate_file=entrance.certificate or None,
            client_key_file=entrance.key if entrance.certificate else None,
            headers=dict(entrance.headers),
            session=session,
            timeout=seconds,
            compression=Compression.Gzip if zipped else Compression.NoCompression,
        )
    authority, key, certificate = (
        Path(file).read_bytes() if file else None
        for file in (entrance.authority, entrance.key if entrance.certificate else "", entrance.certificate)
    )
    return GrpcExporter(
        entrance.target,
        insecure=authority is None,
        credentials=grpc.ssl_channel_credentials(authority, key, certificate) if authority else None,
        headers=tuple(entrance.headers.items()),
        timeout=seconds,
        compression=grpc.Compression.Gzip if zipped else grpc.Compression.NoCompression,
    )


def _calls(count: int = 3) -> list[ReadableSpan]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "python-gateway"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("gateway")
    for number in range(count):
        attributes = {
            "http.request.method": "GET",
            "http.route": "/orders/{id}",
            "http.response.status_code": 200,
            "url.scheme": "https",
            "url.path": f"/orders/{number}",
            "server.address": "api.example.org",
        }
        tracer.start_span("GET /orders/{id}", kind=SpanKind.SERVER, attributes=attributes).end()
    return list(memory.get_finished_spans())
