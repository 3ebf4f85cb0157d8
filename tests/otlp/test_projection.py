"""Our projection of OTLP reads the same wire as OTLP's own messages."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import FieldDescriptor as F
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_moesif.otlp import projection_pb2

THEIRS = {
    "AnyValue": common_pb2.AnyValue,
    "KeyValue": common_pb2.KeyValue,
    "Status": trace_pb2.Status,
    "Span": trace_pb2.Span,
    "ScopeSpans": trace_pb2.ScopeSpans,
    "ResourceSpans": trace_pb2.ResourceSpans,
    "TracesRequest": trace_service_pb2.ExportTraceServiceRequest,
    "LogRecord": logs_pb2.LogRecord,
    "ScopeLogs": logs_pb2.ScopeLogs,
    "ResourceLogs": logs_pb2.ResourceLogs,
    "LogsRequest": logs_service_pb2.ExportLogsServiceRequest,
}
SAME_WIRE = {(F.TYPE_BYTES, F.TYPE_MESSAGE), (F.TYPE_INT32, F.TYPE_ENUM)}
OURS = projection_pb2.DESCRIPTOR.message_types_by_name


def test_every_message_is_compared():
    assert set(OURS) == set(THEIRS)


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_fields_have_the_same_number_and_wire_type(name):
    theirs = THEIRS[name].DESCRIPTOR.fields_by_name
    for field in OURS[name].fields:
        other = theirs[field.name]
        assert field.number == other.number
        assert field.is_repeated == other.is_repeated
        assert field.type == other.type or (field.type, other.type) in SAME_WIRE
