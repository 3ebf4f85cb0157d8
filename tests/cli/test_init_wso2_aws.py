"""Pages of gateways whose data somebody carries over: what is written there is what the dialects read."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from otel_moesif.cli.guides import load
from otel_moesif.plugins import Registry
from otel_moesif.schema import UNKNOWN
from tests.cli.test_init import OPERATORS, fences, snippets
from tests.dialects.otlp import Record, event, make_logs


def choreo_connect_columns():
    """What the router writes, and how the Collector calls it."""
    (_, router) = snippets("wso2_choreo_connect", "toml")
    ((read,),) = (
        document["receivers"]["filelog"]["operators"] for document in snippets("wso2_choreo_connect", "yaml")
    )
    line = router["accessLogs"]["format"]
    assert line.endswith("\n")
    assert (read["parse_to"], read["ignore_quotes"]) == ("attributes", True)
    written = line.removesuffix("\n").split(read["delimiter"])
    return dict(zip(read["header"].split(read["header_delimiter"]), written, strict=True))


def test_the_columns_of_choreo_connects_log_are_named_in_the_order_in_which_they_are_written():
    columns = choreo_connect_columns()
    from_the_enforcer = {name: operator for name, operator in columns.items() if name.startswith("x-wso2-")}
    namespace = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:"
    assert from_the_enforcer == {name: f"{namespace}{name})%" for name in from_the_enforcer}
    assert columns.pop("start_time") == "%START_TIME(%s.%3f)%"
    attributes = {
        name: f"its {name}" if name in from_the_enforcer else OPERATORS[operator]
        for name, operator in columns.items()
    }
    found = event(make_logs(Record(attributes=attributes), resource={}))
    expected = {
        "apiId": "its x-wso2-api-id",
        "apiName": "its x-wso2-api-name",
        "apiVersion": "its x-wso2-api-version",
        "apiCreator": "its x-wso2-api-creator",
        "apiCreatorTenantDomain": "its x-wso2-api-creator-tenant-domain",
        "apiContext": "its x-wso2-api-context",
        "apiResourceTemplate": "its x-wso2-api-resource-template",
        "applicationId": "its x-wso2-application-uuid",
        "applicationName": "its x-wso2-application-name",
        "applicationOwner": "its x-wso2-application-owner",
        "keyType": "its x-wso2-application-key-type",
        "userName": "its x-wso2-username",
        "userIp": "its x-wso2-client-ip",
        "correlationId": "its x-wso2-correlation-id",
        "destination": "its x-wso2-destination",
        "regionId": "its x-wso2-region",
        "companyId": "its x-wso2-api-organization-id",
        "apiMethod": "GET",
        "proxyResponseCode": 200,
        "backendLatency": 20,
        "responseLatency": 30,
        "requestUri": "https://api.example/orders/7?page=2",
    }
    assert {key: found[key] for key in expected} == expected


def test_a_call_that_choreo_connects_enforcer_refused_is_of_its_dialect_too():
    refused = dict.fromkeys(choreo_connect_columns(), "-") | {
        "method": "GET",
        "path": "/pizza/1.0.0/menu",
        "response_code": "401",
        "response_code_details": "ext_authz_denied",
        "response_flags": "UAEX",
        "duration": "3",
        "upstream_cluster": "carbon.super_pizza",
    }
    found = event(make_logs(Record(attributes=refused), resource={}))
    assert (found["eventType"], found["errorType"], found["errorCodeInferred"]) == ("fault", "AUTH", True)
    assert (found["apiName"], found["apiId"]) == ("carbon.super_pizza", UNKNOWN)


def test_api_platforms_router_and_policy_engine_sample_alike():
    (config,) = snippets("wso2_api_platform", "toml")
    assert config == {
        "tracing": {
            "enabled": True,
            "endpoint": "otel-moesif:4317",
            "insecure": True,
            "sampling_rate": 1.0,
        }
    }
    (seconds,) = re.findall(r"a call waits up to (\d+) s", load("wso2_api_platform").text)
    (dialect,) = (one for one in Registry.load().dialects if one.name == "wso2_api_platform")
    assert dialect.spans.wait == int(seconds)


AWS = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$2" in
get-trace-summaries) printf '%s\\n' 1-aa 1-bb 1-cc 1-dd 1-ee 1-ff;;
batch-get-traces) cat "$0.segments"; : > "$0.segments";;
esac
"""


@pytest.mark.skipif(not shutil.which("xargs"), reason="needs xargs")
def test_the_relay_of_xray_carries_over_whole_segments_of_api_gateway_alone(tmp_path):
    (relay,) = (text for _, text in fences("aws_xray") if text.startswith("# A whole minute"))
    arn = "arn:aws:apigateway:eu-west-1::/restapis/m5zr3vnks7/stages/prod"
    of_gateway = json.dumps({"id": "1", "resource_arn": arn, "annotations": {"long": "ü" * 5_000}})
    inferred = json.dumps({"id": "2", "inferred": True, "origin": "AWS::Lambda"})
    aws = tmp_path / "aws"
    aws.write_text(AWS)
    aws.chmod(0o700)
    Path(f"{aws}.segments").write_text(f"{of_gateway}\n{inferred}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        here = relay.replace('("localhost", 2000)', f'("127.0.0.1", {receiver.getsockname()[1]})')
        assert here != relay
        path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        subprocess.run(["sh", "-ec", here], check=True, timeout=30, env={"PATH": path})
        header, _, segment = receiver.recv(65_535).decode().partition("\n")
        receiver.settimeout(0)
        with pytest.raises(BlockingIOError):
            receiver.recv(65_535)
    assert json.loads(header) == {"format": "json", "version": 1}
    assert segment == of_gateway
    calls = Path(f"{aws}.calls").read_text().splitlines()
    # Five at most, says X-Ray's API reference of BatchGetTraces.
    asked = [call.partition("--trace-ids ")[2].split() for call in calls if "batch-get-traces" in call]
    assert asked == [["1-aa", "1-bb", "1-cc", "1-dd", "1-ee"], ["1-ff"]]
    (start, end) = re.findall(r"--(?:start|end)-time (\d+)", calls[0])
    assert int(end) - int(start) == 60
