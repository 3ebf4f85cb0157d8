"""Nobody may claim to be somebody else: attributes that only the collector sets."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.component import Signal
from otel_moesif.config.model import MetricsSettings
from otel_moesif.intake import Intake
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.telemetry import Telemetry
from tests.e2e.traffic import request

SUBJECT = "otel_moesif.auth.subject"


def claiming() -> bytes:
    """A request whose resource and span both claim to be the boss."""
    message = ExportTraceServiceRequest.FromString(request(1)[0])
    resource = message.resource_spans[0]
    for attributes in (resource.resource.attributes, resource.scope_spans[0].spans[0].attributes):
        attributes.add(key=SUBJECT).value.string_value = "boss"
        attributes.add(key="team").value.string_value = "a"
    return message.SerializeToString()


@pytest.mark.parametrize(
    ("metadata", "subject"), [(None, None), ({}, None), ({SUBJECT: "gateway-7"}, "gateway-7")]
)
def test_a_client_cannot_say_who_it_is(tmp_path, metadata, subject):
    async def life():
        journal = Journal(JournalSettings(directory=tmp_path / "journal"))
        telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        intake = Intake(journal, telemetry, 1 << 20, lambda *_: None)
        intake.start()
        bound = intake.bind("otlp", frozenset(Signal))
        await bound.accept(Signal.TRACES, claiming(), transport="grpc", metadata=metadata)
        await intake.shutdown()
        (raw,) = journal.raw(1, 1, 1 << 20)
        journal.close()
        return raw.body

    spans = decode_spans([asyncio.run(life())])
    (source,) = spans.sources
    assert source.resource.get(SUBJECT) == subject
    assert source.resource["team"] == "a"
    assert SUBJECT not in spans.keys()  # noqa: SIM118 - not a dictionary
    assert spans.attribute("team").to_list() == ["a"]
