"""Which events leave, how that is counted, and what is wrong with a condition."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from otel_moesif.errors import ConfigError
from otel_moesif.processors.filter import Filter, FilterSettings
from tests.processors.events import EVENTS, Counters, make, untouched

FILTERED = "otelcol_processor_filtered_items"


def names(events, counters=None, **options):
    processor = Filter(FilterSettings(**options), (counters or Counters()).context)
    return processor.process(events).frame["apiName"].to_list()


def refused(*conditions):
    with pytest.raises(ConfigError) as caught:
        Filter(FilterSettings(drop=list(conditions)), Counters().context)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_an_event_leaves_that_meets_one_of_the_conditions_and_is_counted_once():
    counters = Counters("filter/x")
    rows = [{"apiName": "Health"}, {"apiName": "A", "proxyResponseCode": 404}, {"apiName": "A"}]
    rows.append({"apiName": "Health", "proxyResponseCode": 404})
    kept = names(make(*rows), counters, drop=["apiName = 'Health'", "proxyResponseCode BETWEEN 400 AND 499"])
    assert kept == ["A"]
    assert counters.read(FILTERED) == {"drop[0]": 2, "drop[1]": 1}
    assert set(counters.read(FILTERED, "processor")) == {"filter/x"}


def test_an_event_leaves_that_meets_none_of_the_conditions_to_keep():
    counters = Counters()
    rows = [{"apiName": name} for name in "ABCA"]
    assert names(make(*rows), counters, keep=["apiName = 'A'", "apiName IN ('B', 'X')"]) == ["A", "B", "A"]
    assert counters.read(FILTERED) == {"not kept": 1}
    assert names(make(*rows), keep=["apiName <> 'B'"], drop=["apiName = 'C'"]) == ["A", "A"]


def test_null_counts_as_false():
    rows = [{"apiName": "A"}, {"apiName": "B", "requestBody": "x"}]
    assert names(make(*rows), drop=["requestBody <> 'y'"]) == ["A"]
    assert names(make(*rows), keep=["requestBody = 'x'"]) == ["B"]
    assert names(make(*rows), drop=["NULL"]) == ["A", "B"]


def test_custom_properties_are_texts():
    rows = [{"apiName": "A", "customProperties": '{"tier":"gold","a b":2}'}, {"apiName": "B"}]
    assert names(make(*rows), keep=["property.tier = 'gold'"]) == ["A"]
    assert names(make(*rows), drop=["""property."a b" = '2'"""]) == ["B"]
    assert names(make(*rows), drop=['CAST(property.tier AS INT) = 1 OR CAST(property."a b" AS INT) = 2']) == [
        "B"
    ]
    assert names(make({"apiName": "property.tier"}), drop=["apiName = 'property.tier'"]) == []


def test_a_value_that_cannot_be_computed_is_null_and_its_neighbours_are_not():
    rows = [{"apiName": name} for name in ("2026-01-01", "no date", "2026-02-01")]
    assert names(make(*rows), drop=["DATE(apiName) = DATE '2026-02-01'"]) == ["2026-01-01", "no date"]
    many = make(*({"apiName": "no date"} for _ in range(3000)))
    assert len(names(many, drop=["DATE(apiName) = DATE '2026-02-01'"])) == 3000


def test_a_mistake_is_told_with_its_place_the_expression_and_the_columns():
    said = refused(
        "TRUE", "apiNam = 'a'", "proxyResponseCode >", "proxyResponseCode", "proxyResponseCode = '200'"
    )
    assert [path for path, _ in said] == ["drop[1]", "drop[2]", "drop[3]", "drop[4]"]
    unknown, syntax, number, types = (message for _, message in said)
    assert 'no event column "apiNam" (did you mean apiName? ' in unknown
    assert "responseLatency" in unknown
    assert "(in: apiNam = 'a')" in unknown
    assert "proxyResponseCode >" in syntax
    assert number == "must be true or false, but is Int32 (in: proxyResponseCode)"
    assert "proxyResponseCode is Int32" in types


@pytest.mark.parametrize(
    "condition",
    [
        "SUM(responseSize) > 1",
        "COUNT(*) > 1",
        "responseSize > AVG(responseSize)",
        "responseSize = max (responseSize)",
        "responseSize > QUANTILE_CONT(responseSize, 0.9)",
        "FIRST(apiName) = 'a'",
        "ROW_NUMBER() OVER () > 1",
        "LAG(apiName) OVER (ORDER BY apiId) = 'x'",
        "UNNEST(requestHeaders) IS NULL",
        "apiName IN (SELECT 1)",
        "requestTimestamp < CURRENT_TIMESTAMP",
        "apiName::int = 1",
        "apiName ~ '('",
        "property.\"it's\" = 'x'",
    ],
)
def test_what_would_depend_on_the_batch_or_the_start_is_refused(condition):
    assert refused(condition)[0][0] == "drop[0]"


def test_no_condition_at_all_is_a_mistake():
    with pytest.raises(ValidationError, match="drop or keep"):
        FilterSettings()


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from(["apiName = 'a'", "property.tier IS NULL", "proxyResponseCode > 99", "FALSE"]))
def test_what_stays_is_untouched_and_in_order(events, condition):
    dropped = Filter(FilterSettings(drop=[condition]), Counters().context).process(events)
    kept = Filter(FilterSettings(keep=[condition]), Counters().context).process(events)
    assert len(dropped) + len(kept) == len(events)
    numbered = events.frame.with_row_index("number")
    for part in (dropped, kept):
        assert part.frame.schema == events.frame.schema
        assert set(part.frame["transactionId"]) <= set(events.frame["transactionId"])
    if condition == "FALSE":
        untouched(events, dropped)
    if condition == "apiName = 'a'":
        wanted = numbered.filter((numbered["apiName"] == "a").fill_null(value=False))
        assert kept.frame.equals(wanted.drop("number"), null_equal=True)
