"""One call, one event: reports of the same call, requests that are sent again, and ids that are forgotten."""

from __future__ import annotations

import uuid

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.component import Signal
from otel_moesif.config.model import DeduplicateSettings
from otel_moesif.events import Events
from otel_moesif.one_call import OneCall
from otel_moesif.seen import Seen, keys

S = 1_000_000_000
SPAN, LOG = Signal.TRACES, Signal.LOGS


def events(*numbers, name="span"):
    ids = [None if n is None else str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))) for n in numbers]
    frame = pl.DataFrame({"transactionId": ids, "correlationId": [str(n) for n in numbers]})
    return Events(frame.with_columns(pl.lit(name).alias("apiName")))


class Stage:
    """A destination as the stream runs it: what waits is given again, what went on is remembered."""

    def __init__(self, **options):
        self.call = OneCall(DeduplicateSettings(**options), both=True)
        self.waiting = None
        self.out: list[tuple[str, str]] = []
        self.due = None

    def take(self, *produced, now=0, ending=False):
        self.call.expire(now)
        admitted = self.call.admit(produced, self.waiting, now, ending=ending)
        self.call.remember(admitted.ids, 1, now)
        since = [pl.lit(now, pl.Int64).alias("since")] if "since" not in admitted.waiting.columns else []
        self.waiting = admitted.waiting.with_columns(since).with_columns(pl.col("since").fill_null(now))
        self.due = admitted.due
        found = admitted.events.frame.select("correlationId", "apiName").rows()
        self.out += found
        return sorted(found)


def test_a_call_that_comes_as_span_and_log_is_one_event_of_the_preferred_kind():
    both = [(LOG, events(1, 2, name="log")), (SPAN, events(2, 3))]
    for prefer, chosen in (("span", "span"), ("log", "log")):
        stage = Stage(prefer=prefer)
        stage.take(*both)
        stage.take(now=6 * S)
        assert sorted(stage.out) == [("1", "log"), ("2", chosen), ("3", "span")]


def test_the_second_report_makes_no_event_in_whatever_batch_it_comes():
    stage = Stage()
    assert stage.take((SPAN, events(1))) == [("1", "span")]
    assert stage.take((LOG, events(1, name="log"))) == []
    assert stage.take((SPAN, events(1, 2))) == [("2", "span")]


def test_once_calls_come_both_ways_the_other_report_waits_for_the_preferred_one():
    stage = Stage(wait="2s")
    stage.take((SPAN, events(0)), (LOG, events(0, name="log")))
    assert stage.take((LOG, events(1, 2, name="log")), now=S) == []
    assert stage.due == 3 * S
    assert stage.take((SPAN, events(1)), now=2 * S) == [("1", "span")]
    assert stage.take(now=3 * S) == [("2", "log")]  # its span never came
    assert stage.due is None
    assert stage.take((SPAN, events(2)), now=4 * S) == []


def test_a_preferred_report_that_comes_second_teaches_the_other_one_to_wait():
    stage = Stage()
    assert stage.take((LOG, events(1, name="log"))) == [("1", "log")]
    assert stage.take((SPAN, events(1)), now=1) == []
    assert stage.take((LOG, events(2, name="log")), now=2) == []
    assert stage.take((SPAN, events(2)), now=3) == [("2", "span")]


def test_a_gateway_that_only_logs_does_not_wait():
    stage = Stage()
    assert stage.take((LOG, events(1, name="log"))) == [("1", "log")]
    stage.take((SPAN, events(5)), (LOG, events(5, name="log")))
    assert stage.take((LOG, events(6, name="log")), now=601 * S) == [("6", "log")]


def test_at_the_end_nothing_waits():
    stage = Stage()
    stage.take((SPAN, events(0)), (LOG, events(0, name="log")))
    stage.take((LOG, events(1, name="log")), now=1)
    assert stage.take(now=2, ending=True) == [("1", "log")]


def test_a_call_without_an_id_is_a_call_of_its_own():
    assert len(Stage().take((SPAN, events(None, None, 1, 1)))) == 3


def test_after_the_window_a_call_is_new():
    stage = Stage(window="10s")
    stage.take((SPAN, events(1)))
    assert stage.take((SPAN, events(1)), now=9 * S) == []
    assert stage.take((SPAN, events(1)), now=40 * S) == [("1", "span")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.lists(st.integers(0, 30), max_size=12),
            st.lists(st.integers(0, 30), max_size=12),
        ),
        max_size=12,
    ),
    st.sampled_from(["span", "log"]),
)
def test_whatever_comes_in_whatever_order_each_call_makes_exactly_one_event(batches, prefer):
    stage = Stage(prefer=prefer)
    now = 0
    for step, spans, logs in batches:
        now += step * S
        produced = [(SPAN, events(*spans))] if spans else []
        produced += [(LOG, events(*logs, name="log"))] if logs else []
        stage.take(*produced, now=now)
    stage.take(now=now + 1, ending=True)
    made = [number for number, _ in stage.out]
    sent = {str(number) for _, spans, logs in batches for number in spans + logs}
    assert sorted(made) == sorted(sent)


# -- the set of ids -------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.sets(st.integers(0, 2**128 - 1), min_size=1, max_size=8))))
def test_an_id_is_known_for_the_window_at_least_and_twice_the_window_at_most(batches):
    seen, window, now = Seen(10), 10, 0
    added: dict[int, int] = {}
    for step, ids in batches:
        now += step
        seen.expire(now)
        if known := {n: t for n, t in added.items() if now - t < window}:
            assert seen.contains(pl.Series(list(known), dtype=pl.UInt128)).all()
        if old := [n for n, t in added.items() if now - t >= 3 * window]:
            assert not seen.contains(pl.Series(old, dtype=pl.UInt128)).any()
        seen.add(pl.Series(list(ids), dtype=pl.UInt128), now, now)
        added |= dict.fromkeys(ids, now)


def test_many_ids_are_found_and_their_pieces_are_released_once():
    seen = Seen(10 * S)
    all_ids = pl.Series([uuid.uuid4().int for _ in range(40_000)], dtype=pl.UInt128)
    for piece, start in enumerate(range(0, 40_000, 5_000)):
        seen.add(all_ids.slice(start, 5_000), piece, start)
    assert seen.contains(all_ids).all()
    assert not seen.contains(pl.Series([uuid.uuid4().int], dtype=pl.UInt128)).any()
    released = seen.expire(10 * S) + seen.expire(15 * S) + seen.expire(30 * S) + seen.expire(90 * S)
    assert sorted(released) == list(range(8))
    assert len(seen) == 0


def test_a_transaction_id_is_a_number_and_anything_else_is_none():
    text = str(uuid.uuid4())
    assert keys(pl.Series([text, None, "no uuid"])).to_list() == [uuid.UUID(text).int, None, None]
