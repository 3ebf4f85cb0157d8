"""Whole events, as the files in ``golden/`` have them: reviewed by eye, see the README there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from otel_moesif import Events
from otel_moesif.schema import SCHEMA
from tests.exporters.mapped import mapped

GOLDEN = Path(__file__).parent / "golden"

RESPONSE = {
    "apiCreator": "admin",
    "apiCreatorTenantDomain": "carbon.super",
    "apiId": "43d030dc-427f-4678-98e3-87b7d9882b5f",
    "apiMethod": "GET",
    "apiName": "PizzaShackAPI",
    "apiResourceTemplate": "/order/{orderId}",
    "apiType": "HTTP",
    "apiVersion": "1.0.0",
    "apiContext": "/pizzashack/1.0.0",
    "applicationId": "2d6c54b0-7c7d-4b50-83dc-e6ae6f88962e",
    "applicationName": "DefaultApplication",
    "applicationOwner": "admin",
    "backendLatency": 41,
    "correlationId": "79ed20c3-55b1-434a-adf6-eea25e2d09c3",
    "destination": "https://backend.example.com/am/sample/pizzashack/v1/api",
    "eventType": "response",
    "gatewayType": "SYNAPSE",
    "keyType": "PRODUCTION",
    "platform": "Mac OS X",
    "proxyResponseCode": 200,
    "regionId": "eu-1",
    "requestMediationLatency": 25,
    "requestTimestamp": datetime(2026, 1, 20, 3, 34, 36, 5000, tzinfo=UTC),
    "responseCacheHit": False,
    "responseLatency": 73,
    "responseMediationLatency": 7,
    "targetResponseCode": 200,
    "userAgent": "Chrome",
    "userIp": "203.0.113.70",
    "userName": "alice@carbon.super",
    "responseContentType": "application/json",
    "responseSize": 133,
    "requestSize": 0,
    "transactionId": "6f1c1b0e-4b8e-5f0a-9a54-0d7f8f3f0a11",
    "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
    "spanId": "00f067aa0ba902b7",
    "parentSpanId": "b3c3f3c3f3c3f3c3",
    "responseTimestamp": datetime(2026, 1, 20, 3, 34, 36, 78000, tzinfo=UTC),
    "requestUri": "https://gw.example.com/pizzashack/1.0.0/order/42?lang=de",
    "requestHeaders": [{"key": "accept", "value": "application/json"}],
    "responseHeaders": [{"key": "content-type", "value": "application/json"}],
    "userAgentHeader": "Mozilla/5.0 (Macintosh) Chrome/126.0",
    "companyId": "acme",
    "weight": 4,
    "customProperties": '{"tier": "gold"}',
}
FAULT = {
    **{name: value for name, value in RESPONSE.items() if not name.endswith("Latency")},
    "eventType": "fault",
    "errorCode": 900803,
    "errorMessage": "APPLICATION_LEVEL_LIMIT_EXCEEDED",
    "errorType": "THROTTLED",
    "proxyResponseCode": 429,
    "targetResponseCode": -1,
    "responseTimestamp": datetime(2026, 1, 20, 3, 34, 36, 9000, tzinfo=UTC),
    "responseHeaders": None,
    "parentSpanId": None,
    "customProperties": '{"blockedBy": "throttling-policy-10PerMin"}',
}
AI_CALL = {
    **RESPONSE,
    "apiType": "AI",
    "apiMethod": "POST",
    "apiName": "ChatAPI",
    "apiContext": "/chat/1.0.0",
    "apiResourceTemplate": "/v1/chat/completions",
    "isEgress": True,
    "subType": "AIAPI",
    "requestUri": "https://gw.example.com/chat/1.0.0/v1/chat/completions",
    "customProperties": json.dumps(
        {
            "aiMetadata": {"vendorName": "OpenAI", "vendorVersion": "1.0.0", "model": "gpt-4o"},
            "aiTokenUsage": {"promptTokens": 12, "completionTokens": 30, "totalTokens": 42, "hour": 3},
        }
    ),
}
JSON_BODIES = {
    **RESPONSE,
    "apiMethod": "POST",
    "requestBody": '{"pizza": "Margherita", "size": null, "extra": ["\\u00e9", 1.50]}',
    "requestBodyEncoding": "json",
    "responseBody": '[\n  {"orderId": 42}\n]',
}
BINARY_BODIES = {
    **RESPONSE,
    "requestBody": "iVBORw0KGgo=",
    "requestBodyEncoding": "base64",
    "responseBody": "<menu>Käse</menu>",
    "responseBodyEncoding": "json",
}
CASES = {
    "response.default": (RESPONSE, "none"),
    "response.wso2": (RESPONSE, "wso2"),
    "fault.default": (FAULT, "none"),
    "fault.wso2": (FAULT, "wso2"),
    "ai_call.default": (AI_CALL, "none"),
    "json_bodies.default": (JSON_BODIES, "none"),
    "binary_bodies.default": (BINARY_BODIES, "none"),
}


def found(name):
    row, compatibility = CASES[name]
    frame = pl.DataFrame([row], schema={column: SCHEMA[column] for column in row})
    [event] = mapped(Events(frame), compatibility=compatibility)
    return event


@pytest.mark.parametrize("name", CASES)
def test_an_event_is_what_the_golden_file_says(name):
    assert found(name) == json.loads((GOLDEN / f"{name}.json").read_text())


def test_every_golden_file_is_looked_at():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_sandbox_finds_no_fault_in_a_golden_event(name):
    model = pytest.importorskip("otel_moesif_sandbox.model")
    assert model.faults([json.loads((GOLDEN / f"{name}.json").read_text())]) == []
