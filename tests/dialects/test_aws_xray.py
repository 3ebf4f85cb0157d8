"""AWS X-Ray, hand-written after the Collector's awsxrayreceiver: no captured payload is known."""

from __future__ import annotations

import pytest

from tests.dialects.otlp import CLIENT, INTERNAL, SERVER, One, dialects_of, event, events, given, make_spans

ARN = "arn:aws:apigateway:eu-west-1::/restapis/m5zr3vnks7/stages/prod"
RESOURCE = {
    "service.name": "Shop/prod",
    "cloud.provider": "aws",
    "cloud.account.id": "123456789012",
    "aws.xray.resource_arn": ARN,
}


def segment(status=200, **more):
    attributes = {
        "http.method": "GET",
        "http.client_ip": "192.0.2.7",
        "http.user_agent": "curl/8.5",
        "http.url": "https://m5zr3vnks7.execute-api.eu-west-1.amazonaws.com/prod/items/7",
        "aws.xray.x_forwarded_for": True,
        "aws.account_id": "123456789012",
        **({"http.status_code": status, "http.response_content_length": 345} if status else {}),
        **more,
    }
    return One(SERVER, 1, 0, 0, 100, attributes, name="Shop/prod")


def subsegment(status=200, id_=2, start=10, end=60, service="Lambda", **more):
    attributes = {
        **({"aws.service": service} if service else {}),
        "http.method": "POST",
        "http.url": "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/shop/invocations",
        **({"http.status_code": status} if status else {}),
        **more,
    }
    return One(CLIENT, id_, 1, start, end, attributes, name=service or "stock", status=0 if status else 2)


def spans(*specs, resource=RESOURCE):
    return make_spans(*specs, resource=resource)


def test_every_field_that_xray_supplies():
    found = event(spans(segment(**{"enduser.id": "alice"}), subsegment()))
    expected = {
        "gatewayType": "AWS_XRAY",
        "eventType": "response",
        "apiName": "Shop",
        "apiId": "m5zr3vnks7",
        "apiCreatorTenantDomain": "123456789012",
        "apiMethod": "GET",
        "apiResourceTemplate": "/prod/items/7",
        "apiContext": "/prod",
        "apiType": "HTTP",
        "correlationId": f"{1:032x}",
        "destination": "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/shop/invocations",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseLatency": 100,
        "backendLatency": 50,
        "requestMediationLatency": 10,
        "responseMediationLatency": 40,
        "userAgentHeader": "curl/8.5",
        "userIp": "192.0.2.7",
        "userName": "alice",
        "regionId": "eu-west-1",
        "responseSize": 345,
        "requestUri": "https://m5zr3vnks7.execute-api.eu-west-1.amazonaws.com/prod/items/7",
        "apiVersion": "UNKNOWN",
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("resource", "name", "id_", "region"),
    [
        ({"service.name": "shop"}, "shop", "UNKNOWN", "default"),
        ({"service.name": "shop/v1", "cloud.availability_zone": "us-east-1b"}, "shop/v1",
         "UNKNOWN", "us-east-1"),
        ({"service.name": "shop", "aws.xray.resource_arn": "arn:aws:ecs:us-west-2:1:task/x"}, "shop",
         "arn:aws:ecs:us-west-2:1:task/x", "us-west-2"),
        ({"service.name": "Shop", "aws.xray.resource_arn": "arn:aws:apigateway:eu-west-1::/apis/abc"}, "Shop",
         "abc", "eu-west-1"),
    ],
)  # fmt: skip
def test_identity_without_a_stage(resource, name, id_, region):
    found = event(spans(segment(), resource=resource))
    assert (found["apiName"], found["apiId"], found["regionId"]) == (name, id_, region)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (403, ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (404, ("OTHER", "RESOURCE_NOT_FOUND", 404)),
        (429, ("THROTTLED", "OTHER", 900800)),
        (502, ("TARGET_CONNECTIVITY", "OTHER", 101503)),
    ],
)
def test_errors_without_a_subsegment_are_faults_once_the_sender_was_seen_to_have_some(status, error):
    other = One(CLIENT, 9, 8, 0, 1, {"http.method": "POST", "http.status_code": 200}, trace=2)
    found = event(spans(other, segment(status)))
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error


def test_an_integration_that_failed():
    found = event(spans(segment(504), subsegment(None)))
    assert (found["eventType"], found["errorType"]) == ("fault", "TARGET_CONNECTIVITY")
    assert found["errorMessage"] == "CONNECTION_TIMEOUT"


def test_a_backends_error_is_a_response():
    found = event(spans(segment(500), subsegment(500)))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 500)


def test_a_segment_in_progress_is_no_call_yet():
    unfinished = segment(None, **{"aws.xray.inprogress": True})
    assert events(spans(unfinished)) == []
    found = event(
        spans(unfinished, subsegment(None, **{"aws.xray.inprogress": True}), segment(), subsegment())
    )
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == (200, 200)


def test_a_table_is_a_backend_of_an_api_gateway_but_not_of_a_program():
    table = subsegment(200, 3, 5, 8, "DynamoDB", **{"aws.table_name": "items"})
    assert event(spans(segment(), table))["backendLatency"] == 3
    program = {"service.name": "shop", "telemetry.sdk.name": "X-Ray for Go"}
    remote = subsegment(201, 2, 10, 60, None)
    found = event(spans(segment(201), remote, table, resource=program))
    assert (found["targetResponseCode"], found["backendLatency"]) == (201, 50)
    late = subsegment(200, 3, 70, 90, "DynamoDB")
    assert event(spans(segment(201), remote, late, resource=program))["targetResponseCode"] == 201


def test_a_remote_call_without_a_url_is_named_by_its_host():
    remote = One(CLIENT, 2, 1, 10, 60, {"http.status_code": 200}, name="stock.example.com")
    assert event(spans(segment(), remote))["destination"] == "stock.example.com"


def test_a_lambda_below_an_api_gateway_without_http_is_no_call_of_its_own():
    function = One(SERVER, 5, 2, 20, 50, {"aws.request_id": "r"}, name="shop")
    handler = One(INTERNAL, 6, 5, 21, 49, {}, name="Invocation")
    assert event(spans(segment(), subsegment(), function, handler))["apiName"] == "Shop"


def test_detection():
    assert dialects_of(spans(segment())) == ["aws_xray"]
    bare = One(SERVER, attributes={"http.method": "GET", "http.url": "http://x/", "http.status_code": 200})
    assert dialects_of(spans(bare)) == ["aws_xray"]
    assert dialects_of(spans(bare, resource={"telemetry.sdk.name": "X-Ray for Java"})) == ["aws_xray"]
    # A program of OpenTelemetry's own SDK that goes to X-Ray by the exporter.
    annotated = One(SERVER, attributes={**bare.attributes, "aws.xray.annotations": ["a"], "a": "b"})
    resource = {"telemetry.sdk.name": "opentelemetry", "cloud.provider": "aws"}
    assert dialects_of(spans(annotated, resource=resource)) == ["semconv"]
