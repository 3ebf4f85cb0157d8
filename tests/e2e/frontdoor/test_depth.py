"""``max_nesting_depth``: a record that is nested more deeply costs itself, whatever it came in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.collector import Collector
from tests.e2e.frontdoor.answers import doors
from tests.e2e.frontdoor.payloads import Calls, as_json, calls

MOST = 9  # a value is the fifth message, and a list around it takes two


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    nowhere = {"moesif": "http://127.0.0.1:9"}
    directory = tmp_path_factory.mktemp("depth")
    collector = Collector(directory, nowhere, http={}, intake={"max_nesting_depth": MOST})
    with collector.run():
        yield collector


def request(*lists: int) -> Calls:
    """A request with a call for each number: with so many lists around a value."""
    message: Any = ExportTraceServiceRequest.FromString(calls(len(lists)).body)
    for number, span in zip(lists, message.resource_spans[0].scope_spans[0].spans, strict=True):
        value = span.attributes.add(key="lists").value
        for _ in range(number):
            value = value.array_value.values.add()
        value.string_value = "x"
    return Calls(message.SerializeToString())


@pytest.mark.parametrize("kind", ["grpc", "http", "json"])
def test_it_is_rejected_alone_and_counted(running, kind):
    def rejected() -> float:
        return running.count("otelcol_receiver_rejected_records", reason="nested too deeply")

    before = rejected()
    sent = request(2, 3, 1)
    with doors(running) as found:
        answer = found[kind].send(json.dumps(as_json(sent)).encode() if kind == "json" else sent.body)
    assert (answer.code, answer.rejected) == ("OK", 1)
    assert answer.warning == "1 of 3 spans were not taken: 1 nested too deeply"
    assert rejected() == before + 1
