"""One bad record never costs its neighbours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData
from otel_moesif.otlp import salvage as module
from otel_moesif.otlp.check import check
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.otlp.limits import DEFAULT
from otel_moesif.otlp.salvage import salvage
from tests.fuzz.payloads import TIME, of_bytes, of_fixed64, of_varint, varint


def nested(depth: int) -> bytes:
    value = of_bytes(1, b"x")
    for _ in range(depth):
        value = of_bytes(5, of_bytes(1, value))
    return value


def attribute(key: bytes, value: bytes) -> bytes:
    return of_bytes(9, of_bytes(1, key) + of_bytes(2, value))


def span(name: bytes, *more: bytes, trace=b"t" * 16) -> bytes:
    return b"".join(
        (of_bytes(1, trace), of_bytes(2, b"s" * 8), of_bytes(5, name), of_fixed64(7, TIME), *more)
    )


def scope(*spans: bytes, own: bytes = b"") -> bytes:
    return of_bytes(2, own + b"".join(of_bytes(2, one) for one in spans))


def request(*scopes: bytes, own: bytes = b"") -> bytes:
    return of_bytes(1, own + b"".join(scopes))


def names(body: bytes) -> list[str]:
    return decode_spans([body]).frame["name"].to_list()


BAD = {
    "invalid UTF-8": span(b"bad", attribute(b"k", of_bytes(1, b"caf\xe9"))),
    "nested too deeply": span(b"bad", attribute(b"k", nested(60))),
    "bad trace or span id": span(b"bad", trace=b"short"),
    "too many attributes": span(b"bad", attribute(b"k", b"") * (DEFAULT.attributes + 1)),
    "attribute too long": span(b"bad", attribute(b"k", of_bytes(1, b"x" * DEFAULT.attribute_bytes))),
    "malformed": span(b"bad") + b"\x4a\x7f",
    "of another signal": b"".join(  # a metric with a name of 16 letters and a description of 8
        (
            of_bytes(1, b"http.server.load"), of_bytes(2, b"requests"),
            of_bytes(7, of_bytes(1, of_fixed64(3, TIME))),
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.parametrize("neighbours", [1, 5_000])
def test_a_bad_span_costs_only_itself(reason, neighbours):
    good = [span(b"%d" % number) for number in range(neighbours)]
    # A stranger is looked for where something else is wrong, or where it comes first.
    place = 0 if reason == "of another signal" else neighbours - 1
    checked = check(Signal.TRACES, request(scope(*good[:place], BAD[reason], *good[place:])))
    assert checked.reasons == {reason: 1}
    assert checked.message == f"1 of {neighbours + 1} spans were not taken: 1 {reason}"
    assert checked.body == request(scope(*good))
    assert names(checked.body) == [str(number) for number in range(neighbours)]
    assert check(Signal.TRACES, checked.body).rejected == 0


def test_reasons_are_counted_each():
    body = request(scope(span(b"a"), BAD["invalid UTF-8"], BAD["malformed"], BAD["invalid UTF-8"]))
    checked = check(Signal.TRACES, body)
    assert checked.message == "3 of 4 spans were not taken: 2 invalid UTF-8, 1 malformed"


@pytest.mark.parametrize(
    ("name", "fault"),
    [("a text", of_bytes(3, b"\xff")), ("its name", of_bytes(1, of_bytes(1, b"\xff")))],
)
def test_a_bad_scope_costs_its_own_records(name, fault):
    body = request(scope(span(b"a"), span(b"b"), own=fault), scope(span(b"c")))
    checked = check(Signal.TRACES, body)
    assert (names(checked.body), checked.reasons) == (["c"], {"invalid UTF-8": 2})


def test_a_bad_resource_costs_its_own_records():
    fault = of_bytes(1, of_bytes(1, of_bytes(1, b"\xff")))
    body = request(scope(span(b"a")), scope(span(b"b")), own=fault) + request(scope(span(b"c")))
    checked = check(Signal.TRACES, body)
    assert (names(checked.body), checked.reasons) == (["c"], {"invalid UTF-8": 2})


def test_what_surrounds_the_good_ones_stays_as_it_is():
    own = of_bytes(1, of_bytes(1, b"lib")) + of_bytes(3, b"schema") + of_bytes(90, b"later")

    def whole(*spans: bytes) -> bytes:
        return request(scope(*spans, own=own), own=of_bytes(3, b"s") + of_bytes(91, b"later")) + of_varint(
            50, 7
        )

    checked = check(Signal.TRACES, whole(span(b"a"), BAD["malformed"], span(b"b")))
    wanted = whole(span(b"a"), span(b"b"))
    assert len(checked.body) == len(wanted)
    assert ExportTraceServiceRequest.FromString(checked.body) == ExportTraceServiceRequest.FromString(wanted)


def test_a_request_without_one_good_span_is_refused_and_says_why():
    with pytest.raises(InvalidData, match=r"none of its spans can be taken \(1 invalid UTF-8, 1 malformed\)"):
        check(Signal.TRACES, request(scope(BAD["invalid UTF-8"], BAD["malformed"])))


def test_framing_that_cannot_be_followed_costs_the_whole_request():
    good = request(scope(span(b"a")))
    for broken in (
        of_bytes(1, b"\x12\x7f"),
        varint(1 << 3 | 2) + b"\x50",
        of_bytes(1, of_bytes(2, b"\x12\x7f")),
    ):
        with pytest.raises(InvalidData, match="Wire format was corrupt"):
            check(Signal.TRACES, good + broken)


kinds_of_span = st.sampled_from(["good", *BAD][:4])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.sampled_from(["good", *BAD][:4]), max_size=4), max_size=3),
        min_size=1,
        max_size=3,
    ),
    st.integers(40, 3000),
    st.integers(1, 5),
)
def test_exactly_the_bad_ones_go_however_the_request_is_cut(kinds, run_bytes, run_fields):
    bodies = {"good": span(b"good"), **BAD}
    body = b"".join(
        request(*(scope(*(bodies[kind] for kind in spans)) for spans in scopes)) for scopes in kinds
    )
    flat = [kind for scopes in kinds for spans in scopes for kind in spans]
    before = module.RUN_BYTES, module.RUN_FIELDS
    module.RUN_BYTES, module.RUN_FIELDS = run_bytes, run_fields
    try:
        taken = salvage(Signal.TRACES, body, DEFAULT)
    finally:
        module.RUN_BYTES, module.RUN_FIELDS = before
    assert taken.count == flat.count("good")
    assert sum(taken.reasons.values()) == len(flat) - taken.count
    message = ExportTraceServiceRequest.FromString(taken.body)
    kept = [len(each.spans) for part in message.resource_spans for each in part.scope_spans]
    assert kept == [spans.count("good") for scopes in kinds for spans in scopes]
