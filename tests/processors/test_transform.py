"""What a step sets, renames and deletes, and what it leaves alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from otel_moesif.errors import ConfigError
from otel_moesif.processors.transform import Transform, TransformSettings
from tests.processors.events import EVENTS, Counters, make, properties, untouched


def transformed(events, *steps):
    return Transform(TransformSettings(steps=list(steps)), Counters().context).process(events)


def column(name, *steps, rows):
    return transformed(make(*rows), *steps).frame[name].to_list()


def refused(*steps):
    with pytest.raises(ConfigError) as caught:
        Transform(TransformSettings(steps=list(steps)), Counters().context)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_column_is_set_where_the_condition_holds():
    rows = [{"apiName": "a", "apiMethod": "GET"}, {"apiName": "b", "apiMethod": "PUT"}]
    step = {"set": {"apiName": "UPPER(apiName) || '!'"}, "where": "apiMethod = 'GET'"}
    assert column("apiName", step, rows=rows) == ["A!", "b"]


def test_expressions_of_one_step_see_the_event_as_it_came_and_those_of_the_next_what_it_became():
    swap = {"set": {"apiName": "apiVersion", "apiVersion": "apiName"}}
    then = {"set": {"apiId": "apiName"}}
    out = transformed(make({"apiName": "a", "apiVersion": "1"}), swap, then).frame
    assert out.select("apiName", "apiVersion", "apiId").row(0) == ("1", "a", "1")


def test_a_value_that_cannot_be_cast_is_the_default_and_fails_nobody():
    rows = [{"apiName": "12", "proxyResponseCode": 5}, {"apiName": "x", "proxyResponseCode": 5}]
    assert column("proxyResponseCode", {"set": {"proxyResponseCode": "apiName"}}, rows=rows) == [12, 0]
    assert column("requestSize", {"set": {"requestSize": "CAST(apiName AS INT)"}}, rows=rows) == [12, None]
    assert column("proxyResponseCode", {"set": {"proxyResponseCode": "apiId"}}, rows=rows) == [0, 0]


def test_an_event_that_becomes_a_fault_has_no_latencies_and_one_that_becomes_a_response_has():
    rows = [
        {"responseLatency": 7, "proxyResponseCode": 503},
        {"eventType": "fault", "proxyResponseCode": 200},
    ]
    step = {"set": {"eventType": "CASE WHEN proxyResponseCode > 499 THEN 'fault' ELSE 'response' END"}}
    assert column("responseLatency", step, rows=rows) == [None, 0]


def test_moments_come_from_moments():
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    step = {"set": {"responseTimestamp": "requestTimestamp"}}
    assert column("responseTimestamp", step, rows=[{"requestTimestamp": when}]) == [when]


def test_properties_are_set_with_their_types_and_null_takes_them_away():
    rows = [{"proxyResponseCode": 404, "customProperties": '{"a":1,"b":{"c":"x"}}'}, {"apiName": 'q"'}]
    out = transformed(
        make(*rows),
        {"set": {"property.code": "proxyResponseCode", "property.bad": "proxyResponseCode > 399"}},
        {"set": {"property.a": "NULL", "property.na{m}e": "apiName"}},
    )
    assert properties(out) == [
        {"b": {"c": "x"}, "code": 404, "bad": True, "na{m}e": "UNKNOWN"},
        {"code": 0, "bad": False, "na{m}e": 'q"'},
    ]


def test_a_property_is_replaced_however_its_name_is_spelled():
    rows = [{"customProperties": '{"\\u0074ier":"old","x":"\\ud83d"}'}]
    out = transformed(make(*rows), {"set": {"property.tier": "'new'"}})
    members = json.loads(out.frame["customProperties"][0], object_pairs_hook=list)
    assert members == [("x", "\ud83d"), ("tier", "new")]


def test_properties_are_renamed_and_deleted_where_the_condition_holds():
    text = '{"a":1,"b":"x","c":[1,2]}'
    rows = [
        {"apiName": "yes", "customProperties": text},
        {"apiName": "no", "customProperties": text},
        {"apiName": "yes"},
    ]
    out = transformed(
        make(*rows),
        {
            "rename": {"property.a": "property.b"},
            "delete": ["property.c", "apiName"],
            "where": "apiName = 'yes'",
        },
    )
    assert properties(out) == [{"b": 1}, {"a": 1, "b": "x", "c": [1, 2]}, None]
    assert out.frame["apiName"].to_list() == ["UNKNOWN", "no", "UNKNOWN"]


def test_lists_can_be_deleted():
    rows = [{"requestHeaders": [{"key": "a", "value": "b"}]}]
    assert column("requestHeaders", {"delete": ["requestHeaders"]}, rows=rows) == [None]


def test_all_properties_can_go_at_once_but_not_be_written_as_one_text():
    rows = [{"customProperties": '{"plan":"gold"}'}]
    assert column("customProperties", {"delete": ["customProperties"]}, rows=rows) == [None]
    said = refused({"set": {"customProperties": "'plan=gold'"}})
    assert "name one of them, property.<name>" in said["steps[0]::set::customProperties"]


def test_all_mistakes_are_told_with_their_places():
    said = refused(
        {"set": {"apiNam": "'x'", "apiName": "requestHeaders", "responseCacheHit": "apiName"}},
        {
            "where": "apiName",
            "set": {"requestHeaders": "NULL", "transactionId": "'x'", "property.apiName": "'x'"},
            "delete": ["nothing"],
            "rename": {"apiName": "property.x", "property.y": "property.userName"},
        },
        {"set": {"requestTimestamp": "3"}},
    )
    assert "did you mean apiName?" in said["steps[0]::set::apiNam"]
    assert "but the expression gives List" in said["steps[0]::set::apiName"]
    assert said["steps[0]::set::responseCacheHit"].startswith("responseCacheHit is Boolean, but")
    assert said["steps[1]::where"].startswith("must be true or false")
    assert "cannot be set" in said["steps[1]::set::requestHeaders"]
    assert "cannot be changed" in said["steps[1]::set::transactionId"]
    assert "has a field" in said["steps[1]::set::property.apiName"]
    assert "no event column" in said["steps[1]::delete[0]"]
    assert "only custom properties" in said["steps[1]::rename"]
    assert "has a field" in said["steps[1]::rename::property.y"]
    assert "requestTimestamp is Datetime" in said["steps[2]::set::requestTimestamp"]


def test_a_step_without_anything_to_do_is_a_mistake():
    with pytest.raises(ValidationError, match="set, rename or delete"):
        TransformSettings(steps=[{"where": "TRUE"}])


@settings(max_examples=80, deadline=None)
@given(EVENTS)
def test_only_what_is_named_changes(events):
    step = {"set": {"apiName": "LOWER(apiName)", "property.tier": "userName"}, "delete": ["property.plan"]}
    out = transformed(events, step, {"rename": {"property.k k": "property.k"}})
    untouched(events, out, "apiName", "customProperties")
    for before, after, name in zip(
        properties(events), properties(out), events.frame["userName"], strict=True
    ):
        wanted = {key: value for key, value in (before or {}).items() if key not in {"tier", "plan", "k k"}}
        if "k k" in (before or {}):
            wanted["k"] = before["k k"]
        assert after == {**wanted, "tier": name}
    assert [row["eventType"] for row in out.to_dicts()] == events.frame["eventType"].to_list()


@settings(max_examples=40, deadline=None)
@given(EVENTS)
def test_nothing_changes_where_the_condition_does_not_hold(events):
    step = {"set": {"apiName": "'x'", "property.tier": "'x'"}, "delete": ["property.plan"], "where": "FALSE"}
    untouched(events, transformed(events, step))
