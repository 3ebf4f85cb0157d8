"""Tyk: the 19 scenarios of its own trace tests; what they assert of its spans must arrive in the event."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.dialects.otlp import CLIENT, FIXTURES, INTERNAL, SERVER, One, event, fixture, make_spans

TYK = {"service.name": "tyk", "service.version": "v5.15.0", "tyk.gw.id": "gw-1", "tyk.gw.dataplane": False}
OTELHTTP = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"


@dataclass(frozen=True)
class Asserted:
    """One assertion of a scenario: of which span (kind and name), below which, what."""

    kind: int
    name: str
    above: tuple[str, ...]
    key: str
    operator: str
    value: str


def scenarios() -> list[str]:
    return sorted(file.name for file in (FIXTURES / "gateways/tyk").glob("*.y*ml"))


def asserted(scenario: dict[str, Any]) -> Iterator[Asserted]:
    for spec in scenario["spec"]["specs"]:
        chain = []
        for selector in re.findall(r"span\[(.*?)\]", spec["selector"], re.DOTALL):
            pairs = {
                key: value for key, _, value in re.findall(r'([\w.]+)\s*(=|contains)\s*"([^"]*)"', selector)
            }
            name, general = pairs.get("name", ""), pairs.get("tracetest.span.type") != "http"
            chain.append((INTERNAL if general else CLIENT if name.startswith("HTTP ") else SERVER, name))
        kind, name = chain[-1]
        for text in spec["assertions"]:
            key, operator, value = re.fullmatch(
                r"attr:(\S+)\s*(=|!=|not-contains)\s*(.*)", text, re.DOTALL
            ).groups()  # type: ignore[union-attr]
            above = tuple(name for _, name in chain[:-1])
            yield Asserted(kind, name, above, key, operator, value.strip("\"'"))


# Of the trace's shape, not of a value: they tell the test which spans to build.
SHAPE = {"name", "tracetest.span.name", "tracetest.span.type", "tracetest.span.parent_id",
         "tracetest.selected_spans.count"}  # fmt: skip
NUMBERS = {"http.response.status_code", "http.request.body.size", "http.response.body.size"}


def built(scenario: dict[str, Any], file: str, every: list[Asserted]) -> list[One]:
    """The trace that the scenario describes: SERVER, nested middlewares, CLIENT below the last of them."""
    trigger = scenario["spec"]["trigger"]
    request = trigger.get("httpRequest", {"method": "POST", "url": "tyk:8080/helloworld.Greeter/SayHello"})
    path = "/" + request["url"].partition("/")[2].partition("?")[0]
    outcome = int(re.search(r"_(\d{3})\.", file)[1]) if re.search(r"_(\d{3})\.", file) else 200  # type: ignore[index]
    base = {"http.request.method": request["method"], "url.scheme": "http", "url.path": path,
            "server.address": "tyk", "server.port": 8080, "http.response.status_code": outcome,
            "client.address": "192.0.2.7", "user_agent.original": "tracetest", "tyk.api.id": "x"}  # fmt: skip

    def values(kind: int, name: str = "") -> dict[str, Any]:
        mine = [x for x in every if x.kind == kind and x.key not in SHAPE and (not name or x.name == name)]
        said = {x.key: int(x.value) if x.key in NUMBERS else x.value for x in mine if x.operator == "="}
        return said | {x.key: 33 for x in mine if x.operator == "!="}

    named = [x.name for x in every if x.kind == INTERNAL and x.name]
    named += [name for x in every for name in x.above if not name.startswith(("HTTP ", "GET ", "POST "))]
    after = {x.name for x in every if any(name.startswith("HTTP ") for name in x.above)}
    inner = [
        name for name in dict.fromkeys(named) if name and name != "Tracetest trigger" and name not in after
    ]
    twice = [x.name for x in every if x.key == "tracetest.selected_spans.count" and x.value == "2" and x.name]
    spans, parent = [One(SERVER, 1, 0, 0, 100, {**base, **values(SERVER)}, f"{request['method']} {path}")], 1
    for name in [*inner, *twice]:
        spans.append(One(INTERNAL, len(spans) + 1, parent, len(spans), 95, values(INTERNAL, name), name))
        parent = spans[-1].id
    reached = outcome < 400 or any(x.kind == CLIENT for x in every)
    if reached:
        client = {"http.request.method": request["method"], "http.response.status_code": outcome,
                  "server.address": "httpbin.org", "url.full": "http://httpbin.org/ip"}  # fmt: skip
        backend = {**client, **values(CLIENT)}
        spans.append(One(CLIENT, len(spans) + 1, parent, 20, 90, backend, f"HTTP {request['method']}"))
        parent = spans[-1].id
    for name in after - {""}:
        spans.append(One(INTERNAL, len(spans) + 1, parent, 91, 92, values(INTERNAL, name), name))
    return spans


def in_event(found: dict[str, Any], one: Asserted) -> Any:
    """What an event says of an asserted attribute, spelled as that; a KeyError where nobody looks."""
    if one.key == "graphql.document":
        return one.value if one.value not in str(found) and found["apiType"] == "GRAPHQL" else None
    if one.key.startswith("graphql."):
        return one.value if found["apiType"] == "GRAPHQL" else None
    if one.kind == CLIENT:
        fields = {
            "http.request.method": found["apiMethod"],
            "http.response.status_code": found["targetResponseCode"],
            "url.full": found["destination"],
            "server.address": found["destination"].split("/")[2],
        }
        return fields[one.key]
    return {
        "http.request.method": found["apiMethod"],
        "http.response.status_code": found["proxyResponseCode"],
        "http.request.body.size": found["requestSize"],
        "http.response.body.size": found["responseSize"],
        "user_agent.original": found["userAgentHeader"],
        "url.scheme": found["requestUri"].split(":")[0],
        "tyk.api.id": found["apiId"],
        "tyk.api.name": found["apiName"],
        "tyk.api.orgid": found["apiCreatorTenantDomain"],
        "tyk.api.path": found["apiContext"] + "/",
        "tyk.api.version": "Non Versioned" if found["apiVersion"] == "UNKNOWN" else found["apiVersion"],
        "tyk.api.apikey.alias": found["applicationName"],
        "tyk.original_path": "/" + found["requestUri"].split("/", 3)[3],
        "tyk.api.tags": str(found["customProperties"]),
    }[one.key]


def test_all_scenarios_are_here():
    fixture("gateways/tyk/tyk_test_200.yml")
    assert len(scenarios()) == 19


@pytest.mark.parametrize("file", scenarios())
def test_every_value_that_a_scenario_asserts_is_in_its_event(file):
    scenario = yaml.safe_load(fixture(f"gateways/tyk/{file}").read_text())
    every = list(asserted(scenario))
    spans = built(scenario, file, every)
    found = event(make_spans(*spans, resource=TYK, scope=OTELHTTP))
    assert found["gatewayType"] == "TYK"
    for one in every:
        if one.key in SHAPE:
            assert one.key != "name" or one.value in {span.name for span in spans}
            continue
        said = str(in_event(found, one))
        match one.operator:
            case "=":
                assert said == one.value, one
            case "!=":
                assert said not in {one.value, "None"}, one
            case "not-contains":
                assert one.value not in said, one
    reached = any(span.kind == CLIENT for span in spans)
    assert found["eventType"] == ("response" if reached else "fault")
    if not reached:
        error = {401: "AUTH", 403: "AUTH", 400: "OTHER"}[found["proxyResponseCode"]]
        assert (found["errorType"], found["targetResponseCode"]) == (error, -1)
