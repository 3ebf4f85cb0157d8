"""What becomes of one OTLP/gRPC call, on a thread of gRPC's.

Statuses: OTLP specification, "OTLP/gRPC Response" and "Failures": INVALID_ARGUMENT for bad data, UNAVAILABLE
with RetryInfo for overload, RESOURCE_EXHAUSTED without it for what is too large. grpcio's own deserializer
would answer INTERNAL, which clients do not retry either, but which blames us: so all is bytes here.

The methods are registered as ones that take a stream, which on the wire is the same: only then does grpcio
call a handler before it has read (and inflated) the message. So credentials are judged first.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_moesif.component import Context, Intake, Receipt, Signal
from otel_moesif.errors import InvalidData, Refused, TooLarge, Unauthenticated
from otel_moesif.receivers.otlp.access import Access
from otel_moesif.receivers.otlp.grpc_body import Inflation
from otel_moesif.receivers.otlp.grpc_memory import Leavings
from otel_moesif.receivers.otlp.grpc_settings import GrpcSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

T = TypeVar("T")

_METHODS = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": Signal.TRACES,
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": Signal.LOGS,
}
_METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_NO_METRICS = "metrics are not analytics events; otel-moesif takes traces and logs"
_RETRY_AFTER = 1.0
# Of the metadata of a call, as of HTTP's headers (`http_parser`). gRPC's library has a bound of its own, but
# lets through several times as much of what comes in many frames (measured: 1.85.1).
_MOST_METADATA_BYTES = 32 << 10
_METADATA_OVERHEAD = 32


class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the method of a call, and answers it.

    Args:
        settings: The bounds.
        access: Judges who may send.
        context: The receiver's identity and logger.
        intake: Takes what came.
        loop: Where authenticators and intake live.

    Attributes:
        leavings: Of large messages.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        access: Access,
        context: Context,
        intake: Intake,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._settings = settings
        self._access = access
        self._context = context
        self._intake = intake
        self._loop = loop
        self._free = settings.max_requests_in_flight
        # Calls that were ended, and whose place others have already.
        self._ousted: set[grpc.ServicerContext] = set()
        self._lock = threading.Lock()
        self._inflation = Inflation(settings.max_recv_msg_size_mib << 20, settings.max_inflation_ratio)
        self.leavings = Leavings()
        # Calls that wait for their message, and since when.
        self._reading: dict[grpc.ServicerContext, float] = {}
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        refusal = f"no pipeline of the collector takes {{}} from {context.id}"
        handlers = {
            method: self._export(signal)
            if signal in intake.signals
            else _unimplemented(refusal.format(signal))
            for method, signal in _METHODS.items()
        }
        handlers[_METRICS] = _unimplemented(_NO_METRICS)
        self._methods = {
            method: grpc.stream_unary_rpc_method_handler(handler) for method, handler in handlers.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._methods.get(handler_call_details.method)

    def end_late(self) -> None:
        """End the calls whose message has not come within ``read_timeout``; to be called now and then."""
        latest = time.monotonic() - self._settings.read_timeout.total_seconds()
        for context, since in list(self._reading.items()):
            if since < latest and self._reading.pop(context, None) is not None:
                self._access.deny("too slow")
                context.cancel()

    def release(self) -> None:
        """Let go of every thread that waits for the loop: it answers nothing any more."""
        for waiting in list(self._waiting):
            waiting.cancel()

    def _export(self, signal: Signal) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
        def export(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            try:
                self._look_at_metadata(context)
                subject = self._on_loop(self._access.judge(_headers(context))) if self._access.asks else None
                metadata = self._access.noted(subject, context.peer())
                with self._place(context):
                    request = self._read(requests, context)
                    if request is None:
                        return b""  # to nobody
                    request = self._inflated(request)
                    receipt = self._on_loop(
                        self._intake.accept(signal, request, transport="grpc", metadata=metadata)
                    )
            except (InvalidData, Refused, Unauthenticated) as error:
                _abort(context, error)
            except concurrent.futures.CancelledError:
                _abort(context, Refused("shutting down; try again", _RETRY_AFTER))
            except Exception as error:  # noqa: BLE001 - gRPC would show its text to the client
                self._context.logger.error(  # noqa: TRY400 - a traceback might show what was sent
                    "a request failed with %s: the sender is told to retry", type(error).__name__
                )
                _abort(context, Refused("internal error; try again", _RETRY_AFTER))
            return _response(signal, receipt)

        return export

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it where it lives, and wait for what comes of it."""
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waiting.add(waiting)
        try:
            return waiting.result()
        finally:
            self._waiting.discard(waiting)

    def _look_at_metadata(self, context: grpc.ServicerContext) -> None:
        metadata = context.invocation_metadata() or ()
        if (
            sum(len(name) + len(value) + _METADATA_OVERHEAD for name, value in metadata)
            > _MOST_METADATA_BYTES
        ):
            self._access.deny("too large headers")
            raise TooLarge(f"the metadata is larger than {_MOST_METADATA_BYTES >> 10} KiB")

    def _inflated(self, request: bytes) -> bytes:
        try:
            return self._inflation.inflated(request)
        except TooLarge as error:
            self._access.deny(error.reason)
            raise
        except InvalidData:
            self._access.deny("malformed")
            raise

    @contextlib.contextmanager
    def _place(self, context: grpc.ServicerContext) -> Iterator[None]:
        """One of ``max_requests_in_flight``; if all are taken, that of who kept us waiting longest."""
        with self._lock:
            free, self._free = self._free, max(0, self._free - 1)
            ousted = None if free else next(iter(list(self._reading)), None)
            if ousted is not None and self._reading.pop(ousted, None) is not None:
                self._ousted.add(ousted)
            elif not free:
                self._access.deny("too many requests")
                raise Refused("too many requests at once; try again", _RETRY_AFTER)
        if ousted is not None:
            self._access.deny("made room for another call")
            ousted.cancel()
        try:
            yield
        finally:
            with self._lock:
                if context in self._ousted:
                    self._ousted.discard(context)
                else:
                    self._free += 1

    def _read(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes | None:
        """The one message of a call; None if the call has ended."""
        self._reading[context] = time.monotonic()
        request = None
        try:
            request = next(requests, None)
        except grpc.RpcError:  # has ended before
            pass
        finally:
            in_time = self._reading.pop(context, None) is not None
            self.leavings.note(len(request or b""))
        if request is None and in_time:
            # gRPC has answered RESOURCE_EXHAUSTED by itself, or the client is gone, or there was no message;
            # grpcio does not say which, so that they can only be counted together.
            self._access.deny("too large or broken off")
            if context.is_active():
                raise InvalidData("the call has no message")
        return request if in_time else None


def _headers(context: grpc.ServicerContext) -> dict[str, str]:
    """Metadata of the call as text: of several values the first; binary ones are left out."""
    headers: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            headers.setdefault(name, value)
    return headers


def _response(signal: Signal, receipt: Receipt) -> bytes:
    """Without ``partial_success`` both responses are empty messages."""
    if not receipt.rejected and not receipt.message:
        return b""
    response = (
        ExportTraceServiceResponse(
            partial_success=ExportTracePartialSuccess(
                rejected_spans=receipt.rejected, error_message=receipt.message
            )
        )
        if signal is Signal.TRACES
        else ExportLogsServiceResponse(
            partial_success=ExportLogsPartialSuccess(
                rejected_log_records=receipt.rejected, error_message=receipt.message
            )
        )
    )
    return bytes(response.SerializeToString())


def _abort(context: grpc.ServicerContext, error: InvalidData | Refused | Unauthenticated) -> NoReturn:
    """End the call with the status that the specification has for the error."""
    match error:
        case Refused():
            context.set_trailing_metadata(_retry_info(error))
            code = grpc.StatusCode.UNAVAILABLE
        case Unauthenticated():
            code = grpc.StatusCode.UNAUTHENTICATED
        case TooLarge():
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
        case _:
            code = grpc.StatusCode.INVALID_ARGUMENT
    context.abort(code, str(error))
    raise AssertionError("abort() raises")


def _unimplemented(message: str) -> Callable[[Iterator[bytes], grpc.ServicerContext], bytes]:
    def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, message)
        return b""

    return refuse


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
