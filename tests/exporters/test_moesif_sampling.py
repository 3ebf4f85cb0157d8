"""Moesif's dynamic sampling: which rate a call has, whether it is kept, and what it weighs."""

from __future__ import annotations

import json
import re
import uuid
from functools import cache

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif import ComponentId, Context, Events
from otel_moesif.exporters.moesif import app_config
from otel_moesif.exporters.moesif.app_config import MOST_CONDITIONS, AppConfig
from otel_moesif.exporters.moesif.rates import MAX_WEIGHT, keep, rates, sample, weights
from otel_moesif.processors.sample import Sample, SampleSettings

from .conftest import FIXTURES

HEADERS = pl.List(pl.Struct({"key": pl.String, "value": pl.String}))
TYPES = {
    "user_id": pl.String,
    "company_id": pl.String,
    "verb": pl.String,
    "uri": pl.String,
    "ip_address": pl.String,
    "status": pl.Int32,
    "request_headers": HEADERS,
    "response_headers": HEADERS,
    "request_body": pl.String,
    "transaction_id": pl.String,
    "weight": pl.Int32,
}
CALL = {
    "verb": "GET",
    "uri": "https://api.example.com/orders/7?size=xl",
    "ip_address": "203.0.113.7",
    "status": 200,
}


def calls(*changes):
    rows = [{**CALL, **change} for change in changes]
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in TYPES}, schema=TYPES)


def config(**answer):
    return AppConfig.parse(json.dumps(answer).encode())


def rule(sample_rate, **conditions):
    """``request_verb="GET"`` stands for the path request.verb."""
    parts = [{"path": path.replace("_", ".", 1), "value": value} for path, value in conditions.items()]
    return {"conditions": parts, "sample_rate": sample_rate}


@cache
def ids(count, salt=""):
    space = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
    return pl.Series([str(uuid.uuid5(space, f"{salt}{number}")) for number in range(count)])


# ------------------------------------------------------------------------------------------------- rates

ENTITIES = "java_config_regex_and_entities.json"
# fixture, call, rate under docs_min, under first_match. Users 9 to 11 have 70 there, a POST has 20.
DOCUMENTED = [
    ("java_config_many_rates.json", {}, 99, 99),
    ("java_config_many_rates.json", {"user_id": "abc"}, 60, 60),
    ("java_config_many_rates.json", {"user_id": "1234"}, 0, 0),
    ("java_config_many_rates.json", {"user_id": "nobody", "company_id": "123"}, 82, 82),
    ("java_config_many_rates.json", {"user_id": "12345", "company_id": "123"}, 100, 100),
    ("java_config_many_rates.json", {"user_id": "ABC"}, 99, 99),
    (ENTITIES, {}, 100, 100),
    (ENTITIES, {"verb": "POST"}, 20, 20),
    (ENTITIES, {"user_id": "sean-user-11"}, 70, 70),
    (ENTITIES, {"user_id": "sean-user-11", "company_id": "67890"}, 70, 70),
    (ENTITIES, {"company_id": "67890"}, 50, 50),
    (ENTITIES, {"user_id": "sean-user-11", "verb": "POST"}, 20, 20),
    (ENTITIES, {"company_id": "67890", "verb": "POST"}, 20, 20),
    ("java_config_regex_only.json", {}, 90, 90),
    ("java_config_regex_only.json", {"verb": "POST"}, 80, 80),
    ("apidocs_config_response.json", {}, 100, 100),
    ("apidocs_config_response.json", {"uri": "https://a.example/health/live"}, 0, 0),
    ("apidocs_config_response.json", {"uri": "https://a.example/?at=/health/live"}, 100, 100),
    # rules of the Firehose function itself, which are none of an app config
    (
        "firehose_sampling_config.json",
        {"uri": "https://a.example/health", "company_id": "acme-corp"},
        100,
        100,
    ),
]


@pytest.mark.parametrize(("fixture", "call", "docs_min", "first_match"), DOCUMENTED)
def test_a_real_config_gives_the_documented_rates(fixture, call, docs_min, first_match):
    path = FIXTURES / "moesif" / fixture
    if not path.exists():
        pytest.skip("the folder with Moesif's own configs is not here")
    read = AppConfig.parse(path.read_bytes())
    assert read.problems == ()
    assert rates(calls(call), read, "docs_min").to_list() == [docs_min]
    assert rates(calls(call), read, "first_match").to_list() == [first_match]


@pytest.mark.parametrize(
    ("call", "docs_min", "first_match"),
    [
        ({"user_id": "u", "company_id": "c", "verb": "POST"}, 40, 60),
        ({"user_id": "x", "company_id": "c", "verb": "POST"}, 10, 60),
        ({"user_id": "u", "company_id": "c"}, 40, 40),
        ({"company_id": "c"}, 10, 10),
        ({"verb": "POST"}, 60, 60),
        ({}, 5, 5),
    ],
)
def test_precedence_decides_between_user_company_and_regex(call, docs_min, first_match):
    given_rates = config(
        sample_rate=5,
        user_sample_rate={"u": 40},
        company_sample_rate={"c": 10},
        regex_config=[rule(60, request_verb="POST"), rule(1, request_verb="POST")],
    )
    assert rates(calls(call), given_rates, "docs_min").to_list() == [docs_min]
    assert rates(calls(call), given_rates, "first_match").to_list() == [first_match]


PATTERNS = ["GET", "^p", "o.*t", "^(?!/health)", "^/(a|b)/", "40[04]", "^2", "", "/$", "10\\.0", "(?-i:get)"]
PATHS = ["request.verb", "request.route", "request.ip_address", "response.status"]
RATES = st.sampled_from([0, 1, 33.5, 50, 100])
NAMES = st.none() | st.sampled_from(["a", "b", "ä", ""])
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "sample_rate": RATES,
            "conditions": st.lists(
                st.fixed_dictionaries({"path": st.sampled_from(PATHS), "value": st.sampled_from(PATTERNS)}),
                max_size=3,
            ),
        }
    ),
    max_size=4,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": NAMES,
            "company_id": NAMES,
            "verb": st.sampled_from(["GET", "POST", "get", None]),
            "uri": st.sampled_from(["http://h/health", "http://h/a/b/?x=y", "http://h", "/b/1", None]),
            "ip_address": st.sampled_from(["10.0.0.1", "192.0.2.1", None]),
            "status": st.sampled_from([200, 404, 500, None]),
        }
    ),
    max_size=12,
)
ANSWERS = st.fixed_dictionaries(
    {
        "sample_rate": RATES,
        "user_sample_rate": st.dictionaries(st.sampled_from(["a", "ä", ""]), RATES),
        "company_sample_rate": st.dictionaries(st.sampled_from(["a", "b"]), RATES),
        "regex_config": RULES,
    }
)


def expected(call, answer, precedence):
    """One call's rate, the plain way."""
    route = re.match(r"(?:https?://[^/?]*)?(/[^?]*)", call["uri"] or "")
    values = {
        "request.verb": call["verb"],
        "request.route": route[1] if route else "/",
        "request.ip_address": call["ip_address"],
        "response.status": None if call["status"] is None else str(call["status"]),
    }

    def met(condition):
        value = values[condition["path"]]
        return value is not None and re.search(condition["value"], value, re.IGNORECASE) is not None

    matching = [
        one for one in answer["regex_config"] if one["conditions"] and all(map(met, one["conditions"]))
    ]
    regex = matching[0]["sample_rate"] if matching else None
    user = answer["user_sample_rate"].get(call["user_id"])
    company = answer["company_sample_rate"].get(call["company_id"])
    if precedence == "first_match":
        order = [regex, user, company]
    else:
        entity = company if user is None else user
        known = [rate for rate in (entity, regex) if rate is not None]
        order = [min(known)] if known else []
    return next((rate for rate in order if rate is not None), answer["sample_rate"])


@pytest.mark.parametrize("precedence", ["docs_min", "first_match"])
@settings(max_examples=40, deadline=None)
@given(some=CALLS, answer=ANSWERS)
def test_columns_give_what_one_call_at_a_time_would(precedence, some, answer):
    read = config(**answer)
    assert read.problems == ()
    assert rates(calls(*some), read, precedence).to_list() == [
        expected(call, answer, precedence) for call in some
    ]


@pytest.mark.parametrize(
    ("uri", "route"),
    [
        ("https://api.example.com/a/b?c=/d", "/a/b"),
        ("http://api.example.com", "/"),
        ("http://api.example.com/", "/"),
        ("https://api.example.com?x=1", "/"),
        ("https://user@[2001:db8::1]:8443/x#y", "/x"),
        ("/pizza/1.0.0/menu?x", "/pizza/1.0.0/menu"),
        ("no uri", "/"),
        (None, "/"),
    ],
)
def test_a_route_is_the_path_of_the_uri(uri, route):
    matching = config(regex_config=[rule(7, request_route=f"^{re.escape(route)}$")])
    assert rates(calls({"uri": uri}), matching, "docs_min").to_list() == [7]


@pytest.mark.parametrize(
    ("path", "pattern", "call"),
    [
        ("request.uri", "size=xl$", {}),
        ("request.ip_address", r"^203\.0\.113\.", {}),
        ("request.headers.X-Tier", "^gold$", {"request_headers": [("a", "b"), ("x-tier", "Gold")]}),
        ("response.headers.x-cache", "hit", {"response_headers": [("X-Cache", "HIT")]}),
        ("request.headers.accept", "^a,b$", {"request_headers": [("Accept", "a"), ("accept", "b")]}),
        ("request.body.operationName", "^GetPizza$", {"request_body": '{"operationName": "GetPizza"}'}),
        ("request.body.a.b", "^1$", {"request_body": '{"a": {"b": 1}}'}),
    ],
)
def test_each_path_that_is_known_can_be_searched(path, pattern, call):
    matching = config(regex_config=[{"conditions": [{"path": path, "value": pattern}], "sample_rate": 7}])
    assert matching.problems == ()
    listed = {
        name: [{"key": key, "value": item} for key, item in value] if name.endswith("headers") else value
        for name, value in call.items()
    }
    others = {"uri": "/", "ip_address": None, "request_headers": [], "request_body": "{cut off"}
    assert rates(calls(listed, others), matching, "docs_min").to_list() == [7, 100]
    # where the columns are not there, it never matches
    least = calls(others).select("user_id", "company_id", "verb", "uri", "ip_address", "status")
    assert rates(least, matching, "docs_min").to_list() == [100]


def test_letters_match_in_either_case_unless_the_pattern_says_otherwise():
    loose, strict = (config(regex_config=[rule(3, request_verb=text)]) for text in ("post", "(?-i:post)"))
    some = calls({"verb": "POST"}, {"verb": "post"})
    assert rates(some, loose, "docs_min").to_list() == [3, 3]
    assert rates(some, strict, "docs_min").to_list() == [100, 3]


# ------------------------------------------------------------------------------------------------ config


def test_rates_may_be_any_kind_of_number():
    read = config(
        sample_rate="50",
        user_sample_rate={"a": 12.5, "b": "7.5", "c": -3, "d": 1000, "e": 10**400, "f": "1e999"},
        unheard_of={"x": 1},
    )
    assert read.sample_rate == 50
    assert read.user_sample_rate == {"a": 12.5, "b": 7.5, "c": 0, "d": 100, "e": 100, "f": 100}
    assert read.problems == ()


def test_what_is_missing_or_null_sets_nothing():
    for body in (
        b"{}",
        b'{"sample_rate":null,"user_sample_rate":null,"company_sample_rate":null,"regex_config":null}',
    ):
        read = AppConfig.parse(body)
        assert read == AppConfig()
        assert read.keeps_everything


def test_a_rate_that_is_no_number_is_left_out_alone():
    read = AppConfig.parse(
        b'{"sample_rate":true,"user_sample_rate":{"secret-a":"x","secret-b":NaN,"c":5},"company_sample_rate":[]}'
    )
    assert read.sample_rate == 100
    assert read.user_sample_rate == {"c": 5}
    assert len(read.problems) == 3
    assert "secret" not in "".join(read.problems)


@pytest.mark.parametrize(
    "body",
    [b"", b"secret", b"[]", b'"secret"', b"{" * 100_000, b"[" * 100_000, b'{"secret":"\xff"}', b"null"],
)
def test_what_is_no_json_object_is_an_error_that_does_not_quote_it(body):
    with pytest.raises(ValueError, match="the app config is not") as caught:
        AppConfig.parse(body)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None


@pytest.mark.parametrize(
    "wrong",
    [
        rule(1, request_verb="se(cret"),
        rule(1, request_verb="GET", secret_path="GET"),
        rule(None, request_verb="GET"),
        {"conditions": [{"path": "request.verb", "value": "GET"}]},
        {"conditions": [{"path": "request.verb"}], "sample_rate": 1},
        {"conditions": {"path": "secret"}, "sample_rate": 1},
        "secret",
        rule(1, request_verb="x" * 5000),
        rule(1, request_verb=r"(?!x)(\w+/?)*$"),
    ],
)
def test_a_rule_that_cannot_be_used_leaves_the_others_alone(wrong):
    read = config(regex_config=[wrong, rule(30, request_verb="GET")])
    assert rates(calls({}), read, "docs_min").to_list() == [30]
    [problem] = read.problems
    assert "rule 1" in problem
    assert "cret" not in problem


def test_a_rule_without_conditions_never_matches():
    read = config(regex_config=[rule(0), {"sample_rate": 0}, {"conditions": None, "sample_rate": 0}])
    assert rates(calls({}), read, "docs_min").to_list() == [100]
    assert read.problems == ()


def test_a_status_may_be_a_number():
    read = config(
        regex_config=[{"conditions": [{"path": "response.status", "value": 404}], "sample_rate": 9}]
    )
    assert rates(calls({"status": 404}, {}), read, "docs_min").to_list() == [9, 100]


def test_there_is_a_limit_to_the_conditions_of_all_rules_as_each_costs_something_in_every_batch():
    verb = rule(50, request_verb="PUT")["conditions"][0]
    for rules in (
        [rule(50)] * MOST_CONDITIONS,
        [{"conditions": [verb] * MOST_CONDITIONS, "sample_rate": 50}],
        [None] * MOST_CONDITIONS,
    ):
        read = config(regex_config=[*rules, rule(0, request_verb="GET")])
        assert rates(calls({}), read, "docs_min").to_list() == [100]
        assert read.problems[-1].endswith(f"only the first {len(rules)} are used")


def test_there_is_a_limit_to_the_time_that_patterns_may_take(monkeypatch):
    monkeypatch.setattr(app_config, "_SECONDS_FOR_PATTERNS", 0.0)
    read = config(regex_config=[rule(0, request_verb="GET")])
    assert rates(calls({}), read, "docs_min").to_list() == [100]
    assert read.problems == ("regex_config: of 1 rules only the first 0 are used",)


# ------------------------------------------------------------------------------- keeping and weighing


@pytest.mark.parametrize(
    ("rate", "own", "weight"),
    [
        (100, 1, 1),
        (100, None, 1),
        (100, 0, 1),
        (50, 1, 2),
        (50, 3, 6),
        (30, 1, 3),
        (99, 7, 7),
        (1, 2, 200),
        (0.5, 1, 200),
        (0, 1, 1),
        (0, 4, 4),
        (1e-300, 1, MAX_WEIGHT),
        (1, MAX_WEIGHT, MAX_WEIGHT),
    ],
)
def test_a_kept_call_weighs_the_floor_of_100_by_its_rate_times_its_own_weight(rate, own, weight):
    given_weights = weights(pl.Series([rate], dtype=pl.Float64), pl.Series([own], dtype=pl.Int32))
    assert given_weights.to_list() == [weight]
    assert given_weights.dtype == pl.Int32


def weighted_sum(transaction_ids, rate, own=1):
    """Of a batch, through everything that an exporter uses."""
    number = len(transaction_ids)
    some = pl.DataFrame({"transaction_id": transaction_ids}).with_columns(
        pl.lit(None, pl.String).alias("user_id"),
        pl.lit(None, pl.String).alias("company_id"),
        pl.lit(own, pl.Int32).alias("weight"),
    )
    sampled = sample(some, config(sample_rate=rate), "docs_min")
    kept = sampled.weight.filter(sampled.keep)
    return kept.sum() / (number * own), len(kept)


@pytest.mark.parametrize("rate", [1, 2, 4, 5, 10, 20, 25, 50, 100])
def test_100_000_sampled_calls_stand_for_all_calls_within_1_percent(rate):
    offered = 103_000 * 100 // rate
    pieces = [
        weighted_sum(
            pl.int_range(first, min(first + 1_000_000, offered), eager=True).cast(pl.String), rate, 3
        )
        for first in range(0, offered, 1_000_000)
    ]
    sizes = [min(1_000_000, offered - first) for first in range(0, offered, 1_000_000)]
    assert sum(kept for _, kept in pieces) >= 100_000
    share = sum(share * size for (share, _), size in zip(pieces, sizes, strict=True)) / offered
    assert share == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("rate", "share"), [(30, 0.9), (40, 0.8), (60, 0.6), (51, 0.51), (99, 0.99), (3, 0.99)]
)
def test_other_rates_tell_too_little_as_documented(rate, share):
    assert rate * (100 // rate) / 100 == pytest.approx(share)
    # five times the deviation that a fair choice has
    tolerance = 5 * (100 // rate) * (rate / 100 * (1 - rate / 100) / 100_000) ** 0.5
    assert weighted_sum(ids(100_000), rate)[0] == pytest.approx(share, abs=tolerance)


def test_a_decision_depends_on_nothing_but_the_id_and_the_rate():
    transaction_ids = ids(2000)
    half = pl.Series([50.0] * 2000)
    first = keep(transaction_ids, half)
    assert 900 < first.sum() < 1100
    assert keep(transaction_ids.reverse(), half).reverse().equals(first)
    assert keep(transaction_ids.str.to_uppercase(), half).equals(first)
    alone = [keep(transaction_ids[place : place + 1], half[:1]).item() for place in range(20)]
    assert alone == first[:20].to_list()
    # who is kept at a rate is kept at any higher one
    assert not (first & ~keep(transaction_ids, half + 10)).any()


def test_decisions_are_those_of_earlier_versions():
    kept = keep(ids(24), pl.Series([50.0] * 24))
    assert "".join(str(int(one)) for one in kept) == "110001101011101010011010"


def test_what_the_sample_processor_left_is_sampled_evenly(context):
    transaction_ids = ids(40_000)
    events = Events(pl.DataFrame({"transactionId": transaction_ids}))
    processor = Sample(
        SampleSettings(percentage=50), Context(ComponentId("sample"), context.logger, context.meter)
    )
    left = processor.process(events).frame["transactionId"]
    assert 19_000 < len(left) < 21_000
    for rate in (10.0, 50.0):
        share = keep(left, pl.Series([rate]).new_from_index(0, len(left))).mean()
        assert share == pytest.approx(rate / 100, abs=0.02)


def test_calls_without_an_id_stand_for_themselves_unless_nothing_is_wanted():
    some = calls({"weight": 3}, {"status": 404, "weight": 3}, {"transaction_id": "x", "status": 500})
    read = config(
        sample_rate=1, regex_config=[rule(0, response_status="404"), rule(100, response_status="500")]
    )
    sampled = sample(some, read, "docs_min")
    assert sampled.keep.to_list() == [True, False, True]
    assert sampled.weight.to_list() == [3, 3, 1]


def test_rate_100_keeps_all_and_rate_0_none():
    for rate, count in ((100.0, 1000), (0.0, 0)):
        assert keep(ids(1000), pl.Series([rate] * 1000)).sum() == count


def test_a_batch_may_be_empty():
    read = config(sample_rate=1, user_sample_rate={"a": 1}, regex_config=[rule(1, request_verb="(?!a)GET")])
    sampled = sample(calls(), read, "first_match")
    assert (len(sampled.keep), len(sampled.weight)) == (0, 0)
