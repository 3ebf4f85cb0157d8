"""Fields from the user's own attributes, from constants, expressions and the claims of a JWT."""

from __future__ import annotations

import logging

import jwt
import pytest
from opentelemetry.metrics import get_meter

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings
from tests.processors.test_apim_event import client, server, spans

AUTHORIZATION = "http.request.header.authorization"


def processor(**options):
    context = Context(ComponentId("apim_event"), logging.getLogger(), get_meter("t"), otel_moesif_dialects())
    return ApimEvent(ApimEventSettings(**options), context)


def event(attributes=None, **options):
    mine = processor(**options)
    mine.process(spans(server(200), client(200)))  # from now on a call without a backend span means something
    (found,) = mine.process(spans(server(200, **(attributes or {})))).frame.to_dicts()
    return found


def test_a_field_comes_from_the_first_attribute_that_is_there():
    fields = {"apiName": ["tyk.name", "team.api"], "apiCreator": "owner"}
    found = event({"team.api": "orders", "owner": "jo"}, fields=fields)
    assert (found["apiName"], found["apiCreator"]) == ("orders", "jo")


def test_a_resource_attribute_does_as_well_as_one_of_the_span():
    assert event(fields={"apiName": ["nothing", "service.name"], "apiId": "service.name"})["apiId"] == "shop"


def test_what_no_attribute_says_stays_what_the_gateway_says_and_then_the_default():
    fields = {
        "apiName": {"from": ["no.such"], "default": "never"},
        "apiVersion": {"from": ["no.such"], "default": "v1"},
        "apiId": ["no.such"],
    }
    found = event(fields=fields)
    assert (found["apiName"], found["apiVersion"], found["apiId"]) == ("shop", "v1", "UNKNOWN")


def test_a_constant_and_an_expression():
    fields = {
        "regionId": {"value": "eu"},
        "apiId": {"sql": "lower(apiName) || '-' || regionId"},
        "responseSize": {"value": 7},
    }
    found = event(fields=fields)
    assert (found["regionId"], found["apiId"], found["responseSize"]) == ("eu", "shop-eu", 7)


def test_a_status_from_another_attribute_counts_for_the_classification():
    found = event({"real.status": "429"}, fields={"proxyResponseCode": ["real.status"]})
    assert (found["proxyResponseCode"], found["errorType"]) == (429, "THROTTLED")


def test_what_cannot_be_cast_drops_nothing():
    assert event({"size": "many"}, fields={"responseSize": ["size"]})["responseSize"] == 0


@pytest.mark.parametrize(
    ("hit", "expected"),
    [("true", True), (True, True), ("1", True), ("No", False), (False, False), ("maybe", False), (7, False)],
)
def test_a_flag_is_read_from_words(hit, expected):
    found = event({"cache.hit": hit}, fields={"responseCacheHit": ["cache.hit"]})
    assert found["responseCacheHit"] is expected


def test_an_expression_that_fails_for_one_call_costs_no_call():
    mine = processor(fields={"responseSize": {"sql": "CAST(userName AS BIGINT)"}})
    (one, other) = [server(200, **{"user.id": user}) for user in ("5", "bob")]
    found = [mine.process(spans(call)).frame["responseSize"].item() for call in (one, other)]
    assert found == [5, 0]


def test_an_expression_that_says_nothing_leaves_the_default():
    found = event(fields={"apiName": {"sql": "NULLIF(apiName, 'shop')"}, "apiId": {"sql": "property.plan"}})
    assert (found["apiName"], found["apiId"]) == ("UNKNOWN", "UNKNOWN")


def test_an_expression_may_look_at_properties():
    found = event(
        {"plan.name": "gold"},
        properties={"plan": "plan.name"},
        fields={"companyId": {"sql": "upper(property.plan)"}},
    )
    assert found["companyId"] == "GOLD"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"apiNane": "x"}, "apiNane: is no field"),
        ({"transactionId": "x"}, "transactionId: is no field of the event that can be set"),
        ({"apiName": {"sql": "uper(apiName)"}}, r"apiName: .*uper.*\(in: uper\(apiName\)\)"),
        ({"apiName": {"sql": "no_such_column"}}, 'apiName: no event column "no_such_column"'),
        ({"companyId": {"sql": "MAX(userName)"}}, "must look at one event, not at several"),
        ({"companyId": {"sql": "CURRENT_TIMESTAMP"}}, "the clock would stop at the start"),
        ({"isEgress": {"sql": "'true'"}}, "isEgress: is Boolean, but the expression gives String"),
        ({"isEgress": {"value": "true"}}, "isEgress: is Boolean, which 'true' is not"),
        ({"proxyResponseCode": {"value": "x"}}, "proxyResponseCode: is Int32, which 'x' is not"),
        ({"responseSize": {"from": ["a"], "default": "many"}}, "responseSize: is Int64, which 'many' is not"),
        ({"requestHeaders": ["a"]}, "requestHeaders: is a list and cannot be set"),
        ({"requestTimestamp": ["a"]}, "requestTimestamp: is the call's own; only sql can change it"),
        ({"responseLatency": {"value": 5}}, "responseLatency: is the call's own; only sql can change it"),
        ({"customProperties": ["a"]}, "customProperties: is the object of all properties"),
        ({"apiName": {"value": "x", "sql": "y"}}, "exactly one of from"),
        ({"apiName": {}}, "exactly one of from"),
        ({"apiName": {"value": "x", "default": "y"}}, "default goes with from"),
    ],
)
def test_a_mistake_is_found_when_it_is_configured(fields, problem):
    with pytest.raises(ValueError, match=problem):
        ApimEventSettings(fields=fields)


# -- claims ---------------------------------------------------------------------------------------------

CLAIMS = {"userName": ["email", "sub"], "companyId": "org.id", "applicationId": "azp", "keyType": "scopes"}


def token(**claims):
    return jwt.encode(claims, "a secret that nobody here knows....", algorithm="HS256")


@pytest.mark.parametrize("before", ["Bearer ", "bearer ", ""])
def test_claims_become_fields(before):
    found = event(
        {AUTHORIZATION: before + token(sub="u-1", azp="app", org={"id": 42}, scopes=["a", "b"])},
        jwt={"claims": CLAIMS},
    )
    given = [found[name] for name in ("userName", "companyId", "applicationId", "keyType")]
    assert given == ["u-1", "42", "app", "a,b"]


def test_a_configured_attribute_counts_more_than_a_claim_and_a_claim_more_than_the_gateway():
    attributes = {AUTHORIZATION: token(sub="claimed"), "user.id": "gateway", "who": "configured"}
    assert event(attributes, jwt={"claims": {"userName": "sub"}})["userName"] == "claimed"
    options = {"jwt": {"claims": {"userName": "sub"}}, "fields": {"userName": "who"}}
    assert event(attributes, **options)["userName"] == "configured"


@pytest.mark.parametrize(
    "header", ["Basic dXNlcjpwYXNz", "a.b.c", "Bearer " + "x" * 20_000, "", "..", "é.é.é"]
)
def test_what_is_no_token_harms_nothing(header):
    assert event({AUTHORIZATION: header}, jwt={"claims": CLAIMS})["companyId"] is None


def test_an_expired_token_still_says_who_it_was_and_shows_nowhere(caplog):
    secret = token(sub="u-1", exp=1)
    found = event({AUTHORIZATION: secret}, jwt={"claims": CLAIMS})
    assert found["userName"] == "u-1"
    assert secret not in str(found)
    assert secret not in caplog.text


@pytest.mark.parametrize(
    "field", ["responseSize", "nosuch", "customProperties", "transactionId", "eventType"]
)
def test_a_claim_for_a_field_that_cannot_hold_it_is_a_mistake(field):
    with pytest.raises(ValueError, match="is no text field"):
        ApimEventSettings(jwt={"claims": {field: "x"}})


# -- user agent -----------------------------------------------------------------------------------------

IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 5_1_1 like Mac OS X) AppleWebKit/534.46 (KHTML, like Gecko) "
    "Version/5.1 Mobile/9B206 Safari/7534.48.3"
)


@pytest.mark.parametrize(
    ("header", "agent", "platform"),
    [(IPHONE, "Mobile Safari", "iOS"), ("curl/8.5", "curl", "Other"), ("?", "Other", "Other")],
)
def test_the_user_agent_is_told_as_wso2_tells_it_and_its_header_is_kept(header, agent, platform):
    found = event({"user_agent.original": header})
    assert (found["userAgent"], found["platform"], found["userAgentHeader"]) == (agent, platform, header)
