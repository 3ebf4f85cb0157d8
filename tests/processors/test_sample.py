"""A share of the events, always the same one, and what each of them weighs."""

from __future__ import annotations

import hashlib

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from otel_moesif import Events
from otel_moesif.errors import ConfigError
from otel_moesif.processors.sample import Sample, SampleSettings
from tests.processors.events import EVENTS, Counters, identity, make

ROWS = 20_000
MANY = Events(
    pl.DataFrame(
        {
            "transactionId": [identity(number) for number in range(ROWS)],
            "userName": [f"user {number % 200}" for number in range(ROWS)],
            "eventType": ["fault" if number % 10 == 0 else "response" for number in range(ROWS)],
        }
    )
)


def sampled(events, counters=None, **options):
    return Sample(SampleSettings(**options), (counters or Counters()).context).process(events)


def ids(events):
    return set(events.frame["transactionId"])


@pytest.mark.parametrize("percentage", [1, 30, 50, 99.5])
def test_the_share_is_right_and_the_weights_stand_for_all(percentage):
    counters = Counters()
    out = sampled(MANY, counters, percentage=percentage)
    assert len(out) == pytest.approx(ROWS * percentage / 100, rel=0.15)
    assert out.frame["weight"].sum() == pytest.approx(ROWS, rel=0.15)
    assert counters.read("otelcol_processor_filtered_items") == {"sampled": ROWS - len(out)}
    exact = 100 / percentage
    assert set(out.frame["weight"]) <= {int(exact), int(exact) + 1}
    assert out.frame["weight"].mean() == pytest.approx(exact, rel=0.02)


def test_a_retry_a_replay_and_another_collector_decide_alike():
    whole = sampled(MANY, percentage=20)
    shuffled = Events(MANY.frame.sample(fraction=1, shuffle=True, seed=1))
    assert ids(sampled(shuffled, percentage=20)) == ids(whole)
    pieces = [sampled(MANY.slice(start, 3000), percentage=20) for start in range(0, ROWS, 3000)]
    assert Events.concat(pieces).frame.equals(whole.frame)


def test_the_choice_is_the_same_in_every_version():
    kept = sampled(make(*({} for _ in range(20))), percentage=40)
    numbers = [number for number in range(20) if identity(number) in ids(kept)]
    assert numbers == [number for number in range(20) if int(identity(number)[-12:], 16) / 16**12 < 0.4]
    seeded = sampled(make(*({} for _ in range(20))), percentage=40, seed="s")
    hashes = [hashlib.sha256(f"s:{identity(number)}".encode()).hexdigest() for number in range(20)]
    wanted = [number for number in range(20) if int(hashes[number][-12:], 16) / 16**12 < 0.4]
    assert [number for number in range(20) if identity(number) in ids(seeded)] == wanted


def test_a_smaller_share_is_part_of_a_larger_one_and_another_seed_is_another_choice():
    small, large = (ids(sampled(MANY, percentage=p)) for p in (10, 20))
    assert small < large
    again = sampled(sampled(MANY, percentage=50), percentage=50, seed="second")
    assert len(again) == pytest.approx(ROWS / 4, rel=0.1)
    assert set(again.frame["weight"]) == {4}


def test_faults_stay_where_that_is_wanted_and_weigh_what_they_weighed():
    out = sampled(MANY, percentage=1, keep_faults=True)
    faults = out.frame.filter(pl.col("eventType") == "fault")
    assert faults.height == ROWS // 10
    assert set(faults["weight"]) == {1}
    assert sampled(MANY, percentage=0, keep_faults=True).frame.equals(faults)


def test_events_that_do_not_meet_the_condition_all_stay_as_they_are():
    out = sampled(MANY, percentage=0, where="userName = 'user 7'")
    assert len(out) == ROWS - 100
    assert set(out.frame["weight"]) == {1}


def test_all_calls_of_one_user_stay_or_leave_but_those_of_nobody_are_not_one_user():
    out = sampled(MANY, percentage=25, per="userName")
    counts = out.frame["userName"].value_counts()["count"]
    assert set(counts) == {100}
    assert 20 < len(counts) < 80
    nobody = Events(MANY.frame.with_columns(userName=pl.lit("UNKNOWN")))
    assert len(sampled(nobody, percentage=25, per="userName")) == pytest.approx(ROWS / 4, rel=0.1)
    tiers = make(*({"customProperties": f'{{"tier":"{n % 2}"}}'} for n in range(50)))
    assert len(sampled(tiers, percentage=50, per="property.tier")) in {0, 25, 50}


def test_an_event_without_identity_stays():
    out = sampled(make({"transactionId": None}, {"transactionId": "no uuid"}), percentage=0.1)
    assert len(out) == 2
    assert out.frame["weight"].to_list() == [1, 1]


def test_a_weight_grows_and_never_overflows():
    heavy = make(*({"weight": 2**30} for _ in range(200)))
    assert set(sampled(heavy, percentage=10).frame["weight"]) == {2**31 - 1}


def test_mistakes_are_told():
    with pytest.raises(ConfigError) as caught:
        sampled(MANY, percentage=1, where="userNam = 'x'", per="usrName")
    assert [problem.path for problem in caught.value.problems] == ["where", "per"]
    assert "did you mean userName?" in str(caught.value)
    with pytest.raises(ConfigError, match="is a list"):
        sampled(MANY, percentage=1, per="requestHeaders")
    for wrong in (-1, 100.1):
        with pytest.raises(ValidationError):
            SampleSettings(percentage=wrong)


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from([0, 0.1, 50, 99, 100]), st.sampled_from([None, "userName", "property.tier"]))
def test_nothing_changes_but_the_weight(events, percentage, per):
    out = sampled(events, percentage=percentage, per=per)
    numbered = events.frame.with_row_index("number")
    rest = numbered.drop("weight", "number").rows()
    position = 0
    for row in out.frame.drop("weight").rows():  # a subsequence: same rows, same order
        position = rest.index(row, position) + 1
    if percentage == 100:
        assert out.frame.equals(events.frame, null_equal=True)
