"""Which events are actions, and what stands in these."""

from __future__ import annotations

import json
import uuid

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.exporters.moesif.actions import Actions
from otel_moesif.exporters.moesif.settings import ActionSettings
from tests.exporters.conftest import CALL, FIXTURES
from tests.processors.events import identity, make

SIGNED_UP = {"name": "Signed Up", "where": "apiName = 'Accounts' AND proxyResponseCode = 201"}


def actions(*options):
    return Actions([ActionSettings(**option) for option in options], lambda frame: pl.col("requestUri"))


def frame(*rows):
    """Events; an identity of a row stands in its own column."""
    names = ("user_id", "company_id", "session_token")
    events = make(
        *(
            {**CALL, "transactionId": identity(n), **{k: v for k, v in row.items() if k not in names}}
            for n, row in enumerate(rows)
        )
    )
    return events.frame.with_columns(
        pl.Series(name, [row.get(name) for row in rows], pl.String) for name in names
    )


def made(options, *rows):
    return [json.loads(text) for text in actions(*options).made(frame(*rows))]


def test_an_action_as_moesif_documents_it():
    row = {"apiName": "Accounts", "proxyResponseCode": 201, "userAgentHeader": "Mozilla/5.0 (X11)"}
    who = {"user_id": "12345", "company_id": "67890", "session_token": "s1"}
    [action] = made([{**SIGNED_UP, "metadata": {"method": "apiMethod", "size": "responseSize"}}], row | who)
    assert uuid.UUID(action.pop("transaction_id")).version == 5
    assert action == {
        "action_name": "Signed Up",
        **who,
        "request": {
            "time": "2022-01-20T03:34:36.451Z",
            "uri": "https://api.example.com/pizza/1.0.0/order/7?size=xl",
            "ip_address": "203.0.113.7",
            "user_agent_string": "Mozilla/5.0 (X11)",
        },
        "metadata": {"method": "GET", "size": 0},
    }
    documented = FIXTURES / "moesif" / "apidocs_actions_batch.json"
    if documented.exists():
        example = json.loads(documented.read_text())[0]
        assert example.keys() - {"transaction_id"} <= action.keys()
        assert example["request"].keys() <= action["request"].keys()


def test_only_events_that_meet_the_condition_are_actions():
    rows = [{"apiName": "Accounts", "proxyResponseCode": code} for code in (200, 201, 500)]
    assert len(made([SIGNED_UP], *rows, {"proxyResponseCode": 201})) == 1
    assert made([], *rows) == []


def test_conditions_see_custom_properties_and_metadata_has_their_types():
    options = {"name": "Bought", "where": "property.plan = 'gold'", "metadata": {"price": "property.price"}}
    bought = {"customProperties": '{"plan":"gold","price":9.5}'}
    [action] = made([options], bought, {"customProperties": '{"plan":"free","price":0}'}, {})
    assert action["metadata"] == {"price": 9.5}


def test_what_is_unknown_is_left_out_but_the_address_that_must_not_become_ours():
    [action] = made([{"name": "A", "where": "TRUE"}], {"user_id": "", "userIp": "UNKNOWN", "userAgent": None})
    assert action.keys() == {"action_name", "transaction_id", "request"}
    assert action["request"]["ip_address"] == "0.0.0.0"  # noqa: S104 - nobody's
    assert "user_agent_string" not in action["request"]


def test_one_call_has_one_id_per_action_whenever_it_is_made():
    options = [{"name": name, "where": "TRUE"} for name in "AB"]
    first = [action["transaction_id"] for action in made(options, {}, {})]
    assert len(set(first)) == 4
    assert [action["transaction_id"] for action in made(options, {}, {})] == first
    [upper, _] = made(options, {"transactionId": identity(0).upper()})
    assert upper["transaction_id"] == first[0]
    namespace = uuid.UUID(bytes=b"otel-moesif/acts")
    assert first[0] == str(uuid.uuid5(namespace, f"{identity(0)}:A"))


def test_of_several_conditions_with_one_name_the_first_makes_the_action():
    options = [
        {"name": "A", "where": where, "metadata": {"by": column}}
        for where, column in (("apiName = 'x'", "apiName"), ("TRUE", "apiMethod"), ("TRUE", "apiId"))
    ]
    found = made(options, {"apiName": "x"}, {"apiName": "y"})
    assert [action["metadata"]["by"] for action in found] == ["x", "GET"]


def test_every_mistake_is_told_with_its_place():
    problems = actions(
        SIGNED_UP,
        {"name": "A", "where": "apiNam = 'x'", "metadata": {"m": "nothing", "n": "requestHeaders"}},
        {"name": "B", "where": "proxyResponseCode"},
    ).problems()
    assert sorted(problem.path for problem in problems) == [
        "actions[1]::metadata::m",
        "actions[1]::metadata::n",
        "actions[1]::where",
        "actions[2]::where",
    ]
    assert actions(SIGNED_UP).problems() == []


@settings(max_examples=30, deadline=None)
@given(
    st.text().filter(str.strip), st.lists(st.tuples(st.none() | st.text(), st.text()), min_size=1, max_size=4)
)
def test_any_text_is_sent_as_it_is(name, rows):
    options = [{"name": name, "where": "TRUE", "metadata": {name: "apiName"}}]
    found = made(options, *({"user_id": user, "apiName": api} for user, api in rows))
    nothing = {None, "", "UNKNOWN", "N/A"}
    for action, (user, api) in zip(found, rows, strict=True):
        assert action["action_name"] == name
        assert action.get("user_id") == (None if user in nothing else user)
        assert action.get("metadata") == (None if api in nothing else {name: api})
