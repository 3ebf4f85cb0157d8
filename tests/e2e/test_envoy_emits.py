"""What the envoy dialect takes for granted about Envoy, asked of a real one. No collector is involved."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.envoy import envoy
from tests.e2e.otlp_sink import otlp_sink
from tests.processes import until


def _spans(request: Any) -> list[Any]:
    return [
        span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
    ]


def _records(requests: list[Any]) -> list[Any]:
    scopes = [scope for request in requests for part in request.resource_logs for scope in part.scope_logs]
    return [record for scope in scopes for record in scope.log_records]


def _texts(pairs: Any) -> dict[str, str]:
    """Attributes; fails when one of them is not a string."""
    assert {pair.value.WhichOneof("value") for pair in pairs} <= {"string_value"}
    return {pair.key: pair.value.string_value for pair in pairs}


@pytest.mark.parametrize(("flush", "requests"), [(2, [2]), (1, [1, 1])])
def test_client_span_first_and_in_requests_of_our_choosing(tmp_path, flush, requests):
    with otlp_sink() as received, envoy(received.port, tmp_path, min_flush_spans=flush) as client:
        client.get("/api/orders")
        until(lambda: sum(len(_spans(request)) for request in received.traces) == 2, "both spans")
        assert [len(_spans(request)) for request in received.traces] == requests
        backend, call = [span for request in received.traces for span in _spans(request)]
    assert (backend.kind, call.kind) == (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER)
    assert (backend.name, call.name) == ("router backend egress", "ingress")
    assert backend.parent_span_id == call.span_id
    assert _texts(call.attributes)["http.status_code"] == "200"
    assert _texts(backend.attributes)["response_flags"] == "-"


def test_a_log_record_has_the_server_spans_ids_and_no_scope(tmp_path):
    with otlp_sink() as received, envoy(received.port, tmp_path, spawn_upstream_span=False) as client:
        client.get("/denied/orders")
        until(lambda: received.traces and received.logs, "span and log")
        (call,) = _spans(received.traces[0])
        (record,) = _records(received.logs)
        (resource,) = received.logs[0].resource_logs
    assert (record.trace_id, record.span_id) == (call.trace_id, call.span_id)
    assert record.time_unix_nano == call.start_time_unix_nano
    assert not resource.scope_logs[0].scope.name
    assert {"log_name", "node_name", "cluster_name", "zone_name"} <= _texts(
        resource.resource.attributes
    ).keys()
    assert _texts(record.attributes)["response_code_details"] == "direct_response"
    assert "upstream_cluster" not in _texts(call.attributes)


def test_a_dead_backend_leaves_status_0_on_the_client_span(tmp_path):
    with otlp_sink() as received, envoy(received.port, tmp_path, min_flush_spans=2) as client:
        client.get("/dead/orders")
        until(lambda: received.traces, "spans")
        backend, call = (_texts(span.attributes) for span in _spans(received.traces[0]))
    assert (backend["http.status_code"], backend["response_flags"]) == ("0", "UF")
    assert (call["http.status_code"], call["response_flags"]) == ("503", "UF")
