"""Whatever spans come, in whatever tree and split: nothing breaks, and every call is one event."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_moesif.component import Held
from otel_moesif.otlp.decode import decode_spans
from tests.dialects.otlp import CLIENT, SERVER, One, apim_event, events, make_spans
from tests.processors.any_records import (
    ASKED,
    DIALECTS,
    EXTREMES,
    TELLING,
    calls_in,
    grown,
    is_sound,
    plausible,
    requests_of,
    run,
    serialized,
    waiting,
)

GENEROUS = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(GENEROUS, max_examples=25)
@given(data=st.data(), name=st.sampled_from(sorted(DIALECTS)))
def test_every_call_is_one_event_in_any_split(data, name):
    batches = data.draw(
        st.lists(
            st.lists(requests_of(name).map(lambda x: serialized(*x)), min_size=1, max_size=3), max_size=3
        )
    )
    found = run(apim_event(gateway=name), batches, data.draw(st.integers(0, 40), label="seconds"))
    assert all(is_sound(event) for event in found)
    made = Counter((event["traceId"], event["spanId"]) for event in found)
    expected = Counter()
    for request in (request for batch in batches for request in batch):
        expected += calls_in(request, DIALECTS[name])
    assert made == expected


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_every_call_of_many_trees_is_one_event(name):
    dice = random.Random(name)  # noqa: S311 - the same trees every time
    batches = [[grown(dice, name)] for _ in range(3)]
    found = run(apim_event(gateway=name), batches)
    assert found
    assert all(is_sound(event) for event in found)
    expected = Counter()
    for request in (request for batch in batches for request in batch):
        expected += calls_in(request, DIALECTS[name])
    assert Counter((event["traceId"], event["spanId"]) for event in found) == expected


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_no_value_breaks_anything_whatever_attribute_has_it(name):
    mine, dice = apim_event(gateway=name), random.Random(1)  # noqa: S311
    for value in EXTREMES:
        attributes = dict.fromkeys(ASKED[name].attributes, value)
        telling = {key: plausible(dice, key) for key in TELLING[name]}
        call, attempt = (
            One(SERVER, 1, 0, 0, 9, attributes | telling),
            One(CLIENT, 2, 1, 2, 7, attributes | telling),
        )
        resource = dict.fromkeys(ASKED[name].resources, value)
        found = mine.process(make_spans(call, attempt, resource=resource)).frame.to_dicts()
        assert all(is_sound(event) for event in found), value


@settings(GENEROUS, max_examples=15)
@given(data=st.data())
def test_senders_of_any_gateway_may_be_mixed(data):
    request = st.sampled_from(sorted(DIALECTS)).flatmap(requests_of).map(lambda x: serialized(*x))
    batches = data.draw(st.lists(st.lists(request, min_size=1, max_size=4), max_size=3))
    found = run(apim_event(), batches)
    assert all(is_sound(event) for event in found)
    there = Counter()
    for one in (one for batch in batches for one in batch):
        decoded = decode_spans([one]).frame
        there += Counter(
            (trace.hex() or None, span.hex() or None)
            for trace, span in decoded.select("trace_id", "span_id").iter_rows()
        )
    assert Counter((event["traceId"], event["spanId"]) for event in found) <= there


@pytest.mark.parametrize("batches", [1, 7])
def test_ten_thousand_children_in_any_order(batches):
    status = {"http.request.method": "GET", "http.response.status_code": 200}
    attempts = [
        # half of them below a chain of inner spans
        One(CLIENT, 100 + n, 2 + n % 20, n % 50, 50 + n % 40, {**status, "url.full": f"http://x/{n}"})
        for n in range(10_000)
    ]
    chain = [One(1, 2 + n, 1 + n, 0, 100) for n in range(20)]
    last = One(
        CLIENT, 99, 21, 60, 95, {**status, "http.response.status_code": 404, "url.full": "http://last/"}
    )
    call = One(SERVER, 1, 0, 0, 100, {**status, "http.response.status_code": 404})
    specs = [*attempts, *chain, last, call]
    random.Random(batches).shuffle(specs)  # noqa: S311 - the same order every time
    if batches == 1:
        found = events(make_spans(*specs))
    else:
        parts = [make_spans(*specs[n::batches]) for n in range(batches)]
        mine, rows, found = apim_event(), {}, []
        for number, part in enumerate(parts):
            ending = number == len(parts) - 1
            processed = mine.process_held(part, Held(rows, number, ending=ending))
            found += processed.batch.frame.to_dicts()
            rows = {slot: waiting(frame, number) for slot, frame in processed.held.items()}
    (event,) = found
    assert is_sound(event)
    if batches == 1:
        assert (event["destination"], event["targetResponseCode"]) == ("http://last/", 404)
        assert (event["backendLatency"], event["eventType"]) == (35, "response")


def test_a_ring_of_spans_and_a_call_that_is_its_own_parent():
    ring = [One(1, 2 + n, 2 + (n + 1) % 5) for n in range(5)]
    attributes = {"http.request.method": "GET", "http.response.status_code": 200}
    (found,) = events(
        make_spans(*ring, One(CLIENT, 9, 3, 1, 2, attributes), One(SERVER, 1, 1, 0, 5, attributes))
    )
    assert (found["eventType"], found["responseLatency"], found["backendLatency"]) == ("response", 5, 0)
