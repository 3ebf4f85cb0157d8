"""The ``otlp`` receiver: grpc.aio with raw bytes, so that malformed requests are ours to answer.

Statuses: OTLP specification, "OTLP/gRPC Response" and "Failures": INVALID_ARGUMENT for bad data, UNAVAILABLE
with RetryInfo for overload. grpcio's own deserializer would answer INTERNAL, which clients do not retry
either, but which blames us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import RetryInfo

from otel_moesif.component import Context, Intake, ReceiverFactory, Signal
from otel_moesif.endpoint import format_endpoint, parse_endpoint
from otel_moesif.errors import InvalidData, Refused, StartError
from otel_moesif.receivers.otlp.settings import OtlpSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": Signal.TRACES,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": Signal.LOGS,
}
_METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_NO_METRICS = "metrics are not analytics events; otel-moesif takes traces and logs"
# What a stop leaves to requests that are just being answered.
_GRACE_SECONDS = 5.0


class OtlpReceiver:
    """Listens for OTLP/gRPC.

    Args:
        settings: Validated options.
        context: Identity and logger.
    """

    def __init__(self, settings: OtlpSettings, context: Context) -> None:
        self._settings = settings.protocols.grpc
        self._context = context
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, intake: Intake) -> None:
        host, port = parse_endpoint(self._settings.endpoint)
        server = grpc.aio.server(
            handlers=[_Handler(intake)],
            options=[
                ("grpc.max_receive_message_length", self._settings.max_recv_msg_size_mib << 20),
                ("grpc.so_reuseport", 0),  # a port in use shall be an error, not a silent share
            ],
        )
        try:
            self.port = server.add_insecure_port(format_endpoint(host, port))
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise StartError(
                f"{self._context.id}: cannot listen on {self._settings.endpoint} "
                "(is the port in use? set receivers.otlp.protocols.grpc.endpoint)"
            )
        await server.start()
        self._server = server
        self._context.logger.info("listening for OTLP/gRPC on %s", format_endpoint(host, self.port))

    async def shutdown(self) -> None:
        server, self._server = self._server, None
        if server:
            await server.stop(_GRACE_SECONDS)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the method; the request stays bytes, and the response is bytes."""

    def __init__(self, intake: Intake) -> None:
        self._methods = {
            method: grpc.unary_unary_rpc_method_handler(_exporter(intake, signal))
            for method, signal in _METHODS.items()
            if signal in intake.signals
        }
        self._methods[_METRICS] = grpc.unary_unary_rpc_method_handler(_no_metrics)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._methods.get(handler_call_details.method)


def _exporter(
    intake: Intake, signal: Signal
) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
    async def export(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            await intake.accept(signal, request, transport="grpc")
        except InvalidData as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Refused as error:
            context.set_trailing_metadata(_retry_info(error))
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return b""  # ExportTraceServiceResponse and ExportLogsServiceResponse without partial_success

    return export


async def _no_metrics(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, _NO_METRICS)
    return b""


def _retry_info(error: Refused) -> tuple[tuple[str, bytes], ...]:
    """``google.rpc.Status`` with RetryInfo, as gRPC's rich error model carries it."""
    delay = Duration()
    delay.FromMilliseconds(int(error.retry_after * 1000))
    detail = AnyMessage()
    detail.Pack(RetryInfo(retry_delay=delay))
    status = status_pb2.Status(
        code=grpc.StatusCode.UNAVAILABLE.value[0], message=str(error), details=[detail]
    )
    return (("grpc-status-details-bin", status.SerializeToString()),)


FACTORY = ReceiverFactory(
    "otlp", OtlpSettings, OtlpReceiver, description="OTLP/gRPC: traces and logs of any gateway"
)
