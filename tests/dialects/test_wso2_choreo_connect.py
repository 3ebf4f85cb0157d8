"""Choreo Connect's metadata in Envoy's access log. All records are hand-written."""

from __future__ import annotations

import pytest

from tests.dialects.otlp import Record, dialects_of, event, given, make_logs

ENVOYS = {
    "method": "GET",
    "path": "/pizza/1.0.0/menu/7?x=1",
    "response_code": "200",
    "response_flags": "-",
    "response_code_details": "via_upstream",
    "duration": "73",
    "x-envoy-upstream-service-time": "13",
    "bytes_sent": "133",
    "bytes_received": "0",
    "user-agent": "curl/8",
    "x-request-id": "r-1",
    "upstream_host": "10.0.0.1:80",
    "upstream_cluster": "carbon.super_pizza",
    ":authority": "gw.example",
    "downstream_remote_address": "192.0.2.7:1234",
}
WSO2 = {
    "x-wso2-api-id": "43d030dc",
    "x-wso2-api-name": "Pizza",
    "x-wso2-api-version": "1.0.0",
    "x-wso2-api-type": "HTTP",
    "x-wso2-api-creator": "admin",
    "x-wso2-api-creator-tenant-domain": "carbon.super",
    "x-wso2-api-organization-id": "acme",
    "x-wso2-api-context": "/pizza/1.0.0",
    "x-wso2-api-resource-template": "/menu/{id}",
    "x-wso2-application-id": "7",
    "x-wso2-application-uuid": "2d6c54b0",
    "x-wso2-application-name": "App",
    "x-wso2-application-owner": "owner",
    "x-wso2-application-key-type": "PRODUCTION",
    "x-wso2-username": "alice",
    "x-wso2-client-ip": "203.0.113.7",
    "x-wso2-correlation-id": "c-1",
    "x-wso2-destination": "https://backend/menu",
    "x-wso2-region": "eu",
    "x-wso2-is-mock-api": "false",
}


def record(**more):
    return make_logs(Record(None, {**ENVOYS, **WSO2, **more}), resource={})


def test_every_field():
    expected = {
        "apiId": "43d030dc",
        "apiName": "Pizza",
        "apiVersion": "1.0.0",
        "apiType": "HTTP",
        "apiCreator": "admin",
        "apiCreatorTenantDomain": "carbon.super",
        "apiContext": "/pizza/1.0.0",
        "apiResourceTemplate": "/menu/{id}",
        "apiMethod": "GET",
        "applicationId": "2d6c54b0",
        "applicationName": "App",
        "applicationOwner": "owner",
        "keyType": "PRODUCTION",
        "userName": "alice",
        "userIp": "203.0.113.7",
        "userAgentHeader": "curl/8",
        "companyId": "acme",
        "correlationId": "c-1",
        "destination": "https://backend/menu",
        "regionId": "eu",
        "gatewayType": "ENVOY",
        "eventType": "response",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseLatency": 73,
        "backendLatency": 13,
        "requestMediationLatency": 60,
        "responseSize": 133,
        "requestUri": "http://gw.example/pizza/1.0.0/menu/7?x=1",
    }
    assert given(event(record()), expected) == expected


def test_a_mock_implementation_is_the_destination():
    assert event(record(**{"x-wso2-is-mock-api": "true"}))["destination"] == "MockImplementation"


@pytest.mark.parametrize(
    ("flags", "status", "code", "sub"),
    [
        ("LH", 503, 101503, "OTHER"),
        ("UH", 503, 101503, "OTHER"),
        ("UT", 504, 101504, "CONNECTION_TIMEOUT"),
        ("LR", 503, 101001, "OTHER"),
        ("UR", 503, 101503, "OTHER"),
        ("UF", 503, 101500, "OTHER"),
        ("UF,URX", 503, 101500, "OTHER"),
        ("UC", 503, 101505, "OTHER"),
        ("DC", 0, 101001, "OTHER"),
        ("SI", 408, 101504, "CONNECTION_TIMEOUT"),
        ("DPE", 400, 101506, "OTHER"),
        ("UMSDR", 504, 101504, "CONNECTION_TIMEOUT"),
        ("DT", 504, 101000, "OTHER"),
    ],
)
def test_flags_have_the_codes_that_choreo_connect_gives_them(flags, status, code, sub):
    more = {"response_flags": flags, "response_code": str(status), "response_code_details": "x"}
    found = event(record(**more))
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)
    assert (found["errorType"], found["errorCode"]) == ("TARGET_CONNECTIVITY", code)
    assert found["errorMessage"] == sub
    assert found["errorCodeInferred"] is None


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "900902", ("AUTH", "AUTHENTICATION_FAILURE")),
        (403, "900908", ("AUTH", "SUBSCRIPTION_VALIDATION_FAILURE")),
        (403, "900805", ("THROTTLED", "BLOCKED")),
        (403, "901101", ("AUTH", "AUTHORIZATION_FAILURE")),
        (429, "900803", ("THROTTLED", "APPLICATION_LEVEL_LIMIT_EXCEEDED")),
        (503, "700700", ("AUTH", "OTHER")),
    ],
)
def test_faults_of_the_enforcer_have_their_own_code(status, code, error):
    more = {
        "response_flags": "UAEX",
        "response_code": str(status),
        "response_code_details": "ext_authz_denied",
    }
    found = event(record(**more, ErrorCode=code))
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == (*error, int(code))


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "AUTH"), (403, "AUTH"), (429, "THROTTLED"), (503, "OTHER")]
)
def test_of_what_the_enforcer_refuses_without_a_code_the_status_tells(status, kind):
    more = {
        "response_flags": "UAEX",
        "response_code": str(status),
        "response_code_details": "ext_authz_denied",
    }
    found = event(record(**more))
    assert (found["eventType"], found["errorType"], found["errorCodeInferred"]) == ("fault", kind, True)


def test_a_fault_without_a_code_of_wso2s():
    more = {"response_flags": "NR", "response_code": "404", "response_code_details": "route_not_found"}
    found = event(record(**more))
    assert (found["errorType"], found["errorMessage"]) == ("OTHER", "RESOURCE_NOT_FOUND")
    assert (found["errorCode"], found["errorCodeInferred"]) == (404, True)


@pytest.mark.parametrize("absent", ["-", ""])
def test_metadata_that_is_not_there_leaves_envoys_own(absent):
    found = event(record(**dict.fromkeys(WSO2, absent)))
    expected = {"apiName": "carbon.super_pizza", "apiId": "UNKNOWN", "userIp": "192.0.2.7",
                "correlationId": "r-1", "destination": "10.0.0.1:80", "apiContext": "/pizza"}  # fmt: skip
    assert given(found, expected) == expected


def test_detection():
    assert dialects_of(record()) == ["wso2_choreo_connect"]
    assert dialects_of(make_logs(Record(None, ENVOYS), resource={})) != ["wso2_choreo_connect"]


@pytest.mark.parametrize("code", ["-1", "0", "-", "", "none"])
def test_an_error_code_that_is_none_says_nothing(code):
    refused = {"response_code_details": "upstream_reset_before_response_started{connection_failure}"}
    found = event(record(ErrorCode=code, response_code="503", response_flags="UF", **refused))
    assert (found["errorType"], found["errorCode"]) == ("TARGET_CONNECTIVITY", 101500)


@pytest.mark.parametrize("mock", ["true", "TRUE", True])
def test_a_mock_has_no_backend_however_true_is_spelled(mock):
    assert event(record(**{"x-wso2-is-mock-api": mock}))["destination"] == "MockImplementation"
