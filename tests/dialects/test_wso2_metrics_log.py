"""WSO2's analytics log as OTLP log records: the guide's own events, field for field."""

from __future__ import annotations

import json

import pytest

from otel_moesif.otlp.decode import decode_logs
from tests.dialects.otlp import (
    Record,
    apim_event,
    dialects_of,
    event,
    events,
    fixture,
    log_request,
    make_logs,
)
from tests.exporters.mapped import texts as moesif_texts

# apim_metrics.log by the pattern of the ELK guide; the same line in wso2carbon.log; the sample reporter's.
PREFIXES = [
    "12:54:29,882 [-] [api-worker-1]  INFO ELKCounterMetric ",
    "TID: [-1234] [api/am] [2022-01-20 03:34:36,530]  INFO {org.wso2.am.analytics.ELKCounterMetric} - ",
    "INFO - LogCounterMetric ",
]
LATENCIES = {
    "backendLatency": 13,
    "responseLatency": 73,
    "requestMediationLatency": 54,
    "responseMediationLatency": 6,
}


def line(document, metric=None, prefix=PREFIXES[0]):
    kind = metric or ("apim:faulty" if document.get("eventType") == "fault" else "apim:response")
    return f"{prefix}apimMetrics: {kind}, properties :{json.dumps(document)}"


def read(name):
    return json.loads(fixture(f"wso2/{name}.json").read_text())


def response(**more):
    """Hand-written, with what the engine needs and little more."""
    return {"requestTimestamp": "2022-01-20T03:34:36.451Z", "correlationId": "c-1", "eventType": "response",
            "proxyResponseCode": 200, "targetResponseCode": 200, **LATENCIES, **more}  # fmt: skip


def as_line(document):
    return line(document)


def as_map(document):
    return document


def as_cut_map(document):
    return {"apimMetrics": "apim:response" if document["eventType"] == "response" else "apim:faulty",
            "properties": document}  # fmt: skip


def as_cut_text(document):
    return {**as_cut_map(document), "properties": json.dumps(document)}


BODIES = pytest.mark.parametrize("body", [as_line, as_map, as_cut_map, as_cut_text])


@BODIES
@pytest.mark.parametrize("kind", ["response", "faulty"])
def test_the_guides_events_come_out_field_for_field(kind, body):
    document = read(f"apim_event_{kind}.moesif_guide")
    batch = apim_event().process(make_logs(Record(body(document))))
    [written] = batch.to_dicts()
    further = {"platform": "UNKNOWN"} if kind == "response" else {}  # the guide's Moesif events leave it out
    assert written == {**document, **further}
    [sent] = [json.loads(text) for text in moesif_texts(batch)]
    flat = {**document, **document["properties"], **further}
    del flat["properties"]
    assert sent["metadata"] == flat
    assert (sent["request"]["time"], sent["response"]["status"], sent["user_id"]) == (
        document["requestTimestamp"],
        document["proxyResponseCode"],
        "admin@carbon.super",
    )


@BODIES
@pytest.mark.parametrize(
    "name",
    [
        "apim_event_response.elk_guide",
        "apim_event_faulty.elk_guide",
        "response_event.sample_reporter",
        "response_event.custom_data_provider",
    ],
)
def test_every_field_of_the_other_fixtures_comes_out(name, body):
    document = read(name)
    [written] = apim_event().process(make_logs(Record(body(document)))).to_dicts()
    inner = {**document.pop("properties", {})}
    for moved in ("apiContext", "userName"):  # the ELK guide has them among the fields
        inner |= {moved: document.pop(moved)} if moved in document else {}
    document["requestTimestamp"] = document["requestTimestamp"].replace("19Z", "19.000Z")
    assert {key: written.get(key) for key in document} == document
    assert {key: written["properties"].get(key) for key in inner} == inner


def test_the_publishers_own_test_event():
    document = read("publisher_test_response_event.derived")
    [written] = apim_event().process(make_logs(Record(line(document)))).to_dicts()
    properties = written["properties"]
    assert {
        "organizationId": "wso2.com",
        "environmentId": "abcd-1234-5678-efgh",
    }.items() <= properties.items()
    assert properties["properties"] == {"x-original-gw-url": "foo"}
    assert (written["userAgent"], written["platform"]) == ("Mobile Safari", "iOS")
    assert (written["proxyResponseCode"], written["eventType"]) == (401, "response")
    assert (written["backendLatency"], written["responseLatency"]) == (3000, 2000)


def test_a_real_line_of_the_log():
    found = event(make_logs(Record(fixture("wso2/response_event.sample_reporter.log").read_text())))
    assert (found["apiName"], found["responseLatency"], found["eventType"]) == (
        "PizzaShackAPI",
        392,
        "response",
    )


@pytest.mark.parametrize("prefix", PREFIXES)
def test_whatever_the_log_puts_before_the_event(prefix):
    assert event(make_logs(Record(line(response(), prefix=prefix))))["correlationId"] == "c-1"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2022-01-20T03:34:36.451Z", "2022-01-20T03:34:36.451Z"),
        ("2022-01-20T03:34:36.45Z", "2022-01-20T03:34:36.450Z"),
        ("2022-01-20T03:34:36.451999999Z", "2022-01-20T03:34:36.451Z"),
        ("2022-01-20T03:34:36Z", "2022-01-20T03:34:36.000Z"),
        ("2022-01-20T03:34Z", "2022-01-20T03:34:00.000Z"),
    ],
)
def test_times_of_every_precision(text, time):
    logs = make_logs(Record(line(response(requestTimestamp=text))), Record(line(response())))
    written = apim_event().process(logs).to_dicts()
    assert written[0]["requestTimestamp"] == time
    assert [one["responseLatency"] for one in written] == [73, 73]


def test_the_metric_tells_the_kind_where_the_event_does_not():
    """Hand-written; ELK lines of publisher 1.2.32 have no eventType."""
    fault = response(errorCode=101504, errorType="TARGET_CONNECTIVITY", errorMessage="CONNECTION_TIMEOUT")
    del fault["eventType"]
    for body in (line(fault, "apim:faulty"), fault):
        found = event(make_logs(Record(body)))
        assert (found["eventType"], found["errorCode"]) == ("fault", 101504)
    assert event(make_logs(Record(line(fault, "apim:response"))))["eventType"] == "response"


@pytest.mark.parametrize(
    ("code", "kind", "sub"),
    [
        (900514, "GUARDRAIL_FAULT", "REQUEST_GUARDRAIL_HIT"),
        (303000, "OTHER", "UNCLASSIFIED"),
        (700700, "AUTH", "OTHER"),
        (404, "OTHER", "RESOURCE_NOT_FOUND"),
        (900906, "OTHER", "OTHER"),
    ],
)
def test_wso2s_own_classification_counts(code, kind, sub):
    """Hand-written; also where code and type are not what our table says."""
    fault = response(eventType="fault", proxyResponseCode=500, targetResponseCode=-1, errorCode=code,
                     errorType=kind, errorMessage=sub)  # fmt: skip
    found = event(make_logs(Record(line(fault))))
    assert (found["errorCode"], found["errorType"], found["errorMessage"]) == (code, kind, sub)
    assert found["errorCodeInferred"] is None


def test_an_error_of_the_backend_is_a_response_and_keeps_its_latencies():
    found = event(make_logs(Record(line(response(proxyResponseCode=503, targetResponseCode=503)))))
    assert (found["eventType"], found["errorType"], found["targetResponseCode"]) == ("response", None, 503)
    assert {name: found[name] for name in LATENCIES} == LATENCIES


FURTHER = {
    "aiMetadata": {"vendorName": "OpenAI", "model": "gpt-4o", "vendorVersion": None},
    "aiTokenUsage": {"totalTokens": 42, "hour": 7},
    "cost": 0.25,
    "isGuardrailHit": False,
    "claims": [1, "two", {"three": 'q"\\\n😀'}],
    "exactly": 2**60,
    "{}": "}",
}


def test_further_properties_keep_their_types():
    """Hand-written, as a custom data provider and 2026's gateways send them."""
    document = response(properties={**FURTHER, "userName": "alice", "apiContext": "/a/1", "none": None},
                        organizationId="acme")  # fmt: skip
    batch = apim_event().process(make_logs(Record(line(document)), Record(line(response()))))
    written, plain = batch.to_dicts()
    known = {"userName": "alice", "apiContext": "/a/1"}
    assert written["properties"] == {**plain["properties"], **known, **FURTHER, "organizationId": "acme"}
    sent = [json.loads(text)["metadata"] for text in moesif_texts(batch)]
    assert sent[0] == {**sent[1], **known, **FURTHER, "organizationId": "acme"}


def test_configured_properties_come_beside_those_of_the_event():
    logs = make_logs(
        Record(line(response(properties={"tier": 1})), {"log.file.name": "apim_metrics.log"}),
        Record(line(response()), {"log.file.name": "apim_metrics.log"}),
    )
    found = events(logs, properties={"file": "log.file.name"})
    assert [json.loads(one["customProperties"]) for one in found] == [
        {"tier": 1, "file": "apim_metrics.log"},
        {"file": "apim_metrics.log"},
    ]


def test_a_configured_property_takes_the_place_of_the_gateways_of_that_name():
    logs = make_logs(
        Record(line(response(properties={"tier": "own", "plan": "x"})), {"tier.name": "gold"}),
        Record(line(response(properties={"tier": "own"}))),
    )
    found = [one["customProperties"] for one in events(logs, properties={"tier": "tier.name"})]
    assert [text.count('"tier"') for text in found] == [1, 1]
    assert [json.loads(text)["tier"] for text in found] == ["gold", "own"]


def test_captured_headers_and_bodies_without_secrets():
    """Hand-written; keys of 2026's gateways (moesif-data-capture.md)."""
    document = response(
        properties={
            "requestHeaders": {"Accept": "a/b", "Authorization": "Bearer s3cret", "Cookie": "s3cret"},
            "responseHeaders": {"X-Trace": "1"},
            "requestBody": {"a": 1},
            "responseBody": "aGVsbG8=",
            "responseBodyTransferEncoding": "base64",
            "x-original-gw-url": "https://gw.example/a/1/menu?x=y",
        }
    )
    found = event(make_logs(Record(line(document))))
    assert found["requestHeaders"] == [{"key": "accept", "value": "a/b"}]
    assert found["responseHeaders"] == [{"key": "x-trace", "value": "1"}]
    assert (found["requestBody"], found["responseBody"]) == ('{"a": 1}', "aGVsbG8=")
    assert found["responseBodyEncoding"] == "base64"
    assert found["requestUri"] == "https://gw.example/a/1/menu?x=y"
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    "damaged",
    [
        PREFIXES[0] + 'apimMetrics: apim:response, properties :{"apiName":"cut off}',
        PREFIXES[0] + "apimMetrics: apim:response, properties :{" + '"a":[' * 100_000 + "}",
        PREFIXES[0] + 'apimMetrics: apim:response, properties :{"requestTimestamp": NaN}',
        PREFIXES[0] + "apimMetrics: apim:response, properties :{}",
        line(response(requestTimestamp="yesterday")),
        line(response(requestTimestamp=5)),
        '{"proxyResponseCode":',
        '{"apimMetrics": "apim:response", "properties": 7}',
        '{"apimMetrics": "apim:other", "properties": {}}',
        "",
        "something else",
    ],
)
def test_a_damaged_line_costs_no_other(damaged):
    good = [Record(line(response(correlationId=f"c-{number}"))) for number in range(4)]
    found = events(make_logs(good[0], good[1], Record(damaged), good[2], Record(None), good[3]))
    assert [one["correlationId"] for one in found] == ["c-0", "c-1", "c-2", "c-3"]


def test_values_of_other_types_than_documented():
    """Hand-written."""
    odd = response(proxyResponseCode="503", responseLatency="73", apiVersion=2,
                   apiName={"a": 1}, errorCode=2**40, userAgent="x\ud800y", apiId=None, responseSize=-1,
                   properties=["none"])  # fmt: skip
    [found, _] = events(make_logs(Record(line(odd)), Record(line(response(apiId="i")))))
    given = {"proxyResponseCode": 503, "responseLatency": 73, "apiVersion": "2",
             "apiName": "UNKNOWN", "apiId": "UNKNOWN", "userAgent": "x?y", "responseSize": 0}  # fmt: skip
    assert {name: found[name] for name in given} == given


def test_a_line_that_is_read_again_is_the_same_call():
    """The time of reading differs; another call under the caller's own correlation id is another one."""
    [one, again] = [event(make_logs(Record(line(response()), time=time))) for time in (0, 5000)]
    other = event(make_logs(Record(line(response(requestTimestamp="2022-01-20T03:34:36.452Z")))))
    assert one["transactionId"] == again["transactionId"] != other["transactionId"]


def test_a_record_with_ids_is_named_by_them():
    [one, two] = events(make_logs(*(Record(line(response()), trace=1, span=span) for span in (1, 2))))
    assert (one["traceId"], one["spanId"]) == (f"{1:032x}", f"{1:016x}")
    assert one["transactionId"] != two["transactionId"]


def test_it_is_known_by_its_text_among_the_logs_of_others():
    kong = {"http.response.status_code": 200, "http.request.method": "GET"}
    one = log_request(Record("POST /anything 200 119ms", kong), Record(line(response())), scope="api-access")
    two = log_request(Record(response()), Record("TID: [-1234] INFO something started"))
    found = dialects_of(decode_logs([one, two]))
    assert found[0] == "wso2_metrics_log"
    assert "kong" in found
    assert sum(one["gatewayType"] == "SYNAPSE" for one in events(decode_logs([one, two]))) == 2


@pytest.mark.parametrize(
    "body",
    [
        'GET /a HTTP/1.1" 200 "apimMetrics: apim:response, properties :{}" "curl"',
        '"apimMetrics: apim:response, properties :{"proxyResponseCode":200}',
        'apimMetrics: apim:response, properties :{"a":1}" - and more',
        json.dumps({"user_agent": json.dumps(response())}),
        "apim:response happened",
    ],
)
def test_no_header_in_somebody_elses_log_passes_for_an_event(body):
    assert "wso2_metrics_log" not in dialects_of(make_logs(Record(body)))
