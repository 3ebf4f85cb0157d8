"""OTLP/gRPC against the specification: a status for everything, and no body before the credentials."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_moesif import InvalidData, Receipt, Refused, Signal, StartError, TooLarge
from otel_moesif.receivers.otlp.access import Access
from otel_moesif.receivers.otlp.grpc_server import GrpcServer
from otel_moesif.receivers.otlp.grpc_settings import GrpcSettings
from tests.receivers.doors import LOGS, METRICS, TRACES, Door, Password, Recorder, context, spans


def raising(error: Exception):
    def answer(_: bytes) -> Receipt:
        raise error

    return answer


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_request_arrives_as_it_was_sent(compression):
    async def run():
        async with Door(recorder := Recorder()) as door:
            assert await door.call(spans(3), compression=compression) == b""
            assert await door.call(spans(2), LOGS, compression=compression) == b""
        assert recorder.requests == [spans(3), spans(2)]
        assert recorder.taken == [Signal.TRACES, Signal.LOGS]
        assert recorder.metadata == [{}, {}]

    asyncio.run(run())


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_the_exporters_of_the_sdk_are_served(compression):
    async def run():
        async with Door(recorder := Recorder()) as door:
            options = {"endpoint": door.address, "insecure": True, "compression": compression}
            await asyncio.to_thread(export, options)
        assert ExportTraceServiceRequest.FromString(recorder.requests[0]).resource_spans
        assert recorder.taken == [Signal.TRACES, Signal.LOGS]

    def export(options):
        tracer = TracerProvider()
        tracer.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**options)))
        tracer.get_tracer("test").start_span("call").end()
        tracer.shutdown()
        logs = LoggerProvider()
        logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**options)))
        logs.get_logger("test").emit(LogRecord(timestamp=1, body="called"))
        logs.shutdown()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "response", "rejected"),
    [
        (TRACES, ExportTraceServiceResponse, "rejected_spans"),
        (LOGS, ExportLogsServiceResponse, "rejected_log_records"),
    ],
)
def test_what_could_not_be_taken_is_a_partial_success(method, response, rejected):
    async def run():
        async with Door(Recorder(lambda _: Receipt(2, "two ids have a wrong length"))) as door:
            answer = response.FromString(await door.call(spans(), method))
            assert getattr(answer.partial_success, rejected) == 2
            assert answer.partial_success.error_message == "two ids have a wrong length"
        async with Door(Recorder(lambda _: Receipt(0, "a warning"))) as door:
            answer = response.FromString(await door.call(spans(), method))
            assert answer.partial_success.error_message == "a warning"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidData("no request"), "INVALID_ARGUMENT"),
        (TooLarge("too many attributes"), "RESOURCE_EXHAUSTED"),
        (Refused("full; try again", 2.5), "UNAVAILABLE"),
    ],
)
def test_each_error_has_the_status_of_the_specification(error, status):
    async def run():
        async with Door(Recorder(raising(error))) as door:
            failure = await door.failure(spans())
        assert (failure.code().name, failure.details()) == (status, str(error))
        trailers = dict(failure.trailing_metadata() or ())
        if isinstance(error, Refused):
            details = Status.FromString(trailers["grpc-status-details-bin"]).details
            retry = RetryInfo()
            assert details[0].Unpack(retry)
            assert retry.retry_delay.ToMilliseconds() == 2500
        else:  # RESOURCE_EXHAUSTED with RetryInfo would be tried again
            assert "grpc-status-details-bin" not in trailers

    asyncio.run(run())


def test_metrics_and_signals_without_a_pipeline_are_unimplemented_with_a_reason():
    async def run():
        async with Door(Recorder(signals=frozenset({Signal.TRACES}))) as door:
            assert await door.status(b"", METRICS) == (
                "UNIMPLEMENTED",
                "metrics are not analytics events; otel-moesif takes traces and logs",
            )
            assert await door.status(b"", LOGS) == (
                "UNIMPLEMENTED",
                "no pipeline of the collector takes logs from otlp",
            )
            assert (await door.status(b"", "/some.Other/Method"))[0] == "UNIMPLEMENTED"

    asyncio.run(run())


def test_an_empty_request_is_a_success():
    async def run():
        async with Door(Recorder()) as door:
            assert await door.call(b"") == b""

    asyncio.run(run())


@pytest.mark.parametrize("word", [None, "", "wrong", "sesame2"])
@pytest.mark.parametrize("size", [10, 20 << 20])
def test_without_credentials_no_body_is_read(word, size):
    async def run():
        options = {"auth": {"authenticator": "password"}}
        async with Door(recorder := Recorder(), {"password": Password()}, **options) as door:
            reads = count_reads(door)
            metadata = None if word is None else (("authorization", word),)
            status = await door.status(bytes(size), metadata=metadata)
            assert status == ("UNAUTHENTICATED", "a word is required")
            assert door.counters.denied() == {"unauthenticated": 1}
            assert reads == []
            assert recorder.requests == []
            await door.call(b"\n\0", metadata=(("authorization", "sesame"),))
            assert (len(reads), recorder.requests) == (1, [b"\n\0"])  # the test sees reads

    asyncio.run(run())


def count_reads(door: Door) -> list[object]:
    """Notes each time the server asks gRPC for a message."""
    server, reads = door.server, []
    calls = server._calls
    read = calls._read

    def noting(requests, servicer_context):
        reads.append(servicer_context)
        return read(requests, servicer_context)

    calls._read = noting
    return reads


def test_who_sent_it_is_attached_whatever_the_client_says():
    async def run():
        options = {"auth": {"authenticator": "password"}, "include_metadata": True}
        async with Door(recorder := Recorder(), {"password": Password()}, **options) as door:
            headers = (("authorization", "sesame"), ("authorization", "other"), ("x-bin", b"\xff"))
            await door.call(spans(), metadata=headers)
        assert recorder.metadata == [
            {
                "otel_moesif.client.address": "127.0.0.1",
                "otel_moesif.auth.subject": "ali",
                "otel_moesif.auth.groups": "thieves",
            }
        ]

    asyncio.run(run())


def test_a_failing_authenticator_lets_nobody_in_and_shows_nothing(caplog):
    class Broken(Password):
        async def authenticate(self, headers):
            raise KeyError(headers["authorization"])

    async def run():
        options = {"auth": {"authenticator": "password"}}
        async with Door(recorder := Recorder(), {"password": Broken()}, **options) as door:
            for _ in range(3):
                failure = await door.failure(spans(), metadata=(("authorization", "s3cret"),))
                assert failure.code() is grpc.StatusCode.UNAVAILABLE
                assert "s3cret" not in str(failure)
        assert recorder.requests == []
        assert door.counters.denied() == {"authenticator": 3}

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert caplog.text.count("failed with KeyError") == 1
    assert "s3cret" not in caplog.text


def test_a_bug_of_ours_is_tried_again_and_shows_nothing(caplog):
    async def run():
        async with Door(Recorder(raising(KeyError("s3cret")))) as door:
            assert await door.status(spans()) == ("UNAVAILABLE", "internal error; try again")

    asyncio.run(run())
    assert "failed with KeyError" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_port_in_use_and_an_unresolvable_host_are_start_errors():
    async def run():
        async with Door(Recorder()) as door:
            for endpoint in (door.address, "no-such-host.invalid:4317"):
                settings = GrpcSettings(endpoint=endpoint)
                access = Access.of(settings, context(), "protocols::grpc")
                server = GrpcServer(settings, access, context())
                with pytest.raises(StartError, match=r"otlp: cannot listen on .*protocols::grpc::endpoint"):
                    await server.start(Recorder())
                await server.shutdown()

    asyncio.run(run())


def test_a_stop_answers_what_came_in():
    async def run():
        come, go = asyncio.Event(), asyncio.Event()

        class Slow(Recorder):
            async def accept(self, *arguments, **options):
                come.set()
                await go.wait()
                return await super().accept(*arguments, **options)

        door = Door(recorder := Slow())
        await door.__aenter__()
        call = asyncio.create_task(door.call(spans()))
        await come.wait()
        stop = asyncio.create_task(door.server.shutdown())
        await asyncio.sleep(0)
        go.set()
        assert await call == b""
        await stop
        await door.server.shutdown()
        assert recorder.requests == [spans()]

    asyncio.run(run())
