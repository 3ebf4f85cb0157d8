"""Whose call it was, and when: ids from configured columns, and times as text."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.exporters.moesif.identity import Identity
from otel_moesif.exporters.moesif.iso_time import iso_json
from otel_moesif.exporters.moesif.settings import IdentitySettings
from tests.exporters.mapped import mapped


def test_ids_come_from_the_first_known_column(events):
    batch = events(
        {"userName": "UNKNOWN", "customProperties": '{"sub": "u-1", "tenant": 17, "plan": ""}'},
        {"userName": "bob", "applicationId": "app", "customProperties": '{"plan": "gold"}'},
        {"userName": "", "applicationId": ...},
    )
    identity = {
        "user_id": ["userName", "property.sub"],
        "company_id": ["property.tenant", "responseSize", "applicationId"],
        "subscription_id": ["property.plan"],
        "session_token": ["commonName", "isEgress", "targetResponseCode"],
    }
    ids = [{name: event.get(name) for name in identity} for event in mapped(batch, identity=identity)]
    assert [list(event.values()) for event in ids] == [
        ["u-1", "17", None, "200"],
        ["bob", "app", "gold", "200"],
        [None, None, None, "200"],
    ]


def test_names_that_are_no_columns_are_reported():
    wrong = IdentitySettings(
        user_id=("userNam",), company_id=("requestHeaders",), session_token=("property.",)
    )
    problems = {problem.path: problem.message for problem in Identity(wrong).problems()}
    assert set(problems) == {"identity::user_id::0", "identity::company_id::0", "identity::session_token::0"}
    assert "did you mean userName?" in problems["identity::user_id::0"]
    assert "holds a list" in problems["identity::company_id::0"]
    assert Identity(IdentitySettings()).problems() == []


@given(st.lists(st.none() | st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), max_size=5))  # noqa: DTZ001
@settings(max_examples=50, deadline=None)
def test_times_are_written_as_strftime_does(times):
    series = pl.Series(times, dtype=pl.Datetime("ms", "UTC"))
    [found] = iso_json([series])
    assert found.to_list() == series.dt.strftime('"%Y-%m-%dT%H:%M:%S%.3fZ"').to_list()


@given(
    st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001
    st.lists(st.none() | st.integers(0, 3000), min_size=4, max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_times_that_are_near_each_other_are_too(start, after):
    times = [None if each is None else start + timedelta(milliseconds=each) for each in after]
    series = [pl.Series(some, dtype=pl.Datetime("ms", "UTC")) for some in (times, times[::-1])]
    expected = [some.dt.strftime('"%Y-%m-%dT%H:%M:%S%.3fZ"').to_list() for some in series]
    assert [found.to_list() for found in iso_json(series)] == expected
