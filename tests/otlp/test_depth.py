"""How deeply records may be nested: as deeply as protobuf's parser goes, or less."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData
from otel_moesif.otlp.check import check
from otel_moesif.otlp.depth import DEEPEST, parser
from otel_moesif.otlp.limits import DEFAULT, Limits
from tests.fuzz.payloads import TIME, of_bytes, of_fixed64
from tests.otlp.test_partial import attribute, nested, request, scope, span

AROUND_A_VALUE = 5  # resource spans, scope spans, span, attribute, the value itself


def deep(lists: int) -> bytes:
    """A span with an attribute of so many lists in each other."""
    return span(b"deep", attribute(b"k", nested(lists)))


def test_without_a_lower_bound_nothing_is_between_us_and_the_parser():
    assert DEFAULT.depth == DEEPEST
    for message in (ExportTraceServiceRequest, ExportLogsServiceRequest):
        assert parser(message, DEEPEST).__self__ is message


def test_the_parser_goes_as_deep_as_we_think():
    deepest = (DEEPEST - AROUND_A_VALUE) // 2
    assert check(Signal.TRACES, request(scope(deep(deepest)))).count == 1
    with pytest.raises(InvalidData, match="1 nested too deeply"):
        check(Signal.TRACES, request(scope(deep(deepest + 1))))


@pytest.mark.parametrize("lists", [0, 1, 7, 46])
@pytest.mark.parametrize("neighbours", [1, 5_000])  # looked at as a whole, and in pieces
def test_a_record_that_is_nested_more_deeply_costs_only_itself(lists, neighbours):
    limits = Limits(depth=AROUND_A_VALUE + 2 * lists)
    good = [deep(lists)] * neighbours
    checked = check(Signal.TRACES, request(scope(*good, deep(lists + 1), *good)), limits)
    assert (checked.count, checked.reasons) == (2 * neighbours, {"nested too deeply": 1})
    assert checked.body == request(scope(*good, *good))


def test_a_large_record_and_the_body_of_a_log_record_are_bounded_too():
    limits = Limits(depth=AROUND_A_VALUE + 4)
    large = attribute(b"text", of_bytes(1, b"x" * 500_000))
    body = request(scope(deep(2) + large, deep(3) + large))
    assert check(Signal.TRACES, body, limits).reasons == {"nested too deeply": 1}
    record = of_fixed64(1, TIME)  # its body is one message less deep than a span's attribute
    body = request(scope(record + of_bytes(5, nested(2)), record + of_bytes(5, nested(3))))
    assert check(Signal.LOGS, body, limits).reasons == {"nested too deeply": 1}


def test_a_resource_or_a_scope_that_is_nested_too_deeply_costs_its_own_records():
    attribute = of_bytes(1, of_bytes(1, b"k") + of_bytes(2, nested(4)))
    limits = Limits(depth=AROUND_A_VALUE + 2)
    for bad in (
        request(scope(span(b"a"), span(b"b")), own=of_bytes(1, attribute)),
        request(scope(span(b"a"), span(b"b"), own=of_bytes(1, of_bytes(3, attribute[2:])))),
    ):
        checked = check(Signal.TRACES, request(scope(span(b"good"))) + bad, limits)
        assert (checked.count, checked.reasons) == (1, {"nested too deeply": 2})


def test_a_bound_changes_nothing_but_depth():
    bodies = [
        request(scope(span(b"a"), span(b"b", attribute(b"k", of_bytes(1, b"v"))))),
        request(scope(span(b"a"), span(b"b", trace=b"short"))),
        b"\x0a",
        b"",
    ]
    for body in bodies:
        results = []
        for limits in (DEFAULT, Limits(depth=20)):
            try:
                results.append(check(Signal.TRACES, body, limits))
            except InvalidData as error:
                results.append(str(error))
        assert results[0] == results[1]


@pytest.mark.parametrize("depth", range(1, DEEPEST))
def test_every_bound_is_exact(depth):
    lists = max(0, depth - AROUND_A_VALUE) // 2
    parse = parser(ExportTraceServiceRequest, depth)
    if depth >= AROUND_A_VALUE:
        assert parse(request(scope(deep(lists)))) == ExportTraceServiceRequest.FromString(
            request(scope(deep(lists)))
        )
        lists += 1
    with pytest.raises(DecodeError, match="Depth"):
        parse(request(scope(deep(lists))))
