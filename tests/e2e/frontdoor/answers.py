"""Requests of bytes to either door of a collector, and what it answers, in the same words for both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import httpx
from google.protobuf import json_format
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.e2e.collector import Collector
from tests.e2e.traffic import LOGS, METRICS, TRACES

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_GRPC = {"traces": TRACES, "logs": LOGS, "metrics": METRICS}
_RESPONSES = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}


@dataclass(frozen=True)
class Answer:
    """What a client was told.

    Attributes:
        code: Name of the gRPC status, or of the ``google.rpc.Code`` in the body of an HTTP answer.
        http: HTTP status; 0 for gRPC.
        message: Of the status.
        retry: Seconds of ``RetryInfo``; None without it.
        rejected: Records that were not taken, as ``partial_success`` says.
        warning: Its message.
        headers: Of the HTTP answer.
        body: Of the HTTP answer, or gRPC's response.
    """

    code: str
    http: int = 0
    message: str = ""
    retry: float | None = None
    rejected: int = 0
    warning: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Door(Protocol):
    """One protocol of a running collector."""

    name: str

    def send(self, body: bytes, signal: str = "traces", headers: Mapping[str, str] | None = None) -> Answer:
        """One request; whatever comes back is an answer, and not an exception."""


class GrpcDoor:
    """OTLP/gRPC.

    Args:
        channel: To the collector.
        compression: What messages are compressed with.
    """

    name = "grpc"

    def __init__(self, channel: grpc.Channel, compression: grpc.Compression | None = None) -> None:
        self._channel = channel
        self._compression = compression

    def send(self, body: bytes, signal: str = "traces", headers: Mapping[str, str] | None = None) -> Answer:
        return self.call(body, _GRPC[signal], signal, headers)

    def call(
        self, body: bytes, method: str, signal: str = "traces", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The same for any method."""
        try:
            response = self._channel.unary_unary(method)(
                body, timeout=20, metadata=tuple((headers or {}).items()), compression=self._compression
            )
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
            return Answer(error.code().name, 0, error.details() or "", _retry(Status.FromString(details)))
        return Answer("OK", 0, "", None, *_partial(signal, response), body=response)


class HttpDoor:
    """OTLP/HTTP.

    Args:
        client: Knows the base URL.
        encoding: Content type of requests, unless their headers say another.
    """

    def __init__(self, client: httpx.Client, encoding: str = PROTOBUF) -> None:
        self._client = client
        self._encoding = encoding
        self.name = "http" if encoding == PROTOBUF else "http/json"

    def send(self, body: bytes, signal: str = "traces", headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("POST", f"/v1/{signal}", body, headers)

    def request(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The same for any method and path."""
        headers = {"content-type": self._encoding, **(headers or {})}
        response = self._client.request(method, path, content=body, headers=headers)
        said = dict(response.headers)
        kind, content = said.get("content-type", ""), response.content
        if response.status_code == 200:
            asked = headers["content-type"].partition(";")[0].strip().lower()
            assert kind == asked, "a success has the encoding of its request"
            signal = path.rpartition("/")[2]
            message = _message(_RESPONSES[signal][0], kind, content)
            partial = _partial(signal, message.SerializeToString())
            return Answer("OK", 200, "", None, *partial, headers=said, body=content)
        status = _message(Status, kind, content)
        name = code_pb2.Code.Name(status.code)
        return Answer(name, response.status_code, status.message, _retry(status), headers=said, body=content)


@contextlib.contextmanager
def doors(collector: Collector) -> Iterator[dict[str, Any]]:
    """``grpc``, ``http`` and ``json`` of a running collector that has neither TLS nor authentication."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with (
        grpc.insecure_channel(collector.target, options=[*options, ("grpc.enable_retries", 0)]) as channel,
        httpx.Client(base_url=collector.url, trust_env=False, timeout=20) as client,
    ):
        yield {"grpc": GrpcDoor(channel), "http": HttpDoor(client), "json": HttpDoor(client, JSON)}


def _message(kind: Any, content_type: str, content: bytes) -> Any:
    if content_type == JSON:
        return json_format.Parse(content, kind())
    assert content_type == PROTOBUF, f"neither of OTLP's encodings: {content_type}"
    return kind.FromString(content)


def _partial(signal: str, response: bytes) -> tuple[int, str]:
    kind, name = _RESPONSES[signal]
    partial = kind.FromString(response).partial_success
    return getattr(partial, name), partial.error_message


def _retry(status: Status) -> float | None:
    for detail in status.details:
        info = RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToMilliseconds() / 1000
    return None
