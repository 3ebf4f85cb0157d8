"""What an OTLP/HTTP client is told, in the encoding that it speaks.

Source: OTLP specification, "OTLP/HTTP Response": every failure has a ``google.rpc.Status`` as its body, every
answer the encoding of its request.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, status_pb2
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from otel_moesif.component import Receipt, Signal

Headers = tuple[tuple[str, str], ...]

# google.rpc.Code says in brackets which HTTP status each is; those that it does not know are added.
_CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    404: code_pb2.NOT_FOUND,
    405: code_pb2.UNIMPLEMENTED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.INVALID_ARGUMENT,
    431: code_pb2.RESOURCE_EXHAUSTED,
    503: code_pb2.UNAVAILABLE,
}


class Encoding(Enum):
    """How request and answer are written; the value is the content type."""

    PROTOBUF = "application/x-protobuf"
    JSON = "application/json"

    @classmethod
    def of(cls, content_type: str) -> Encoding | None:
        """By the header, whose parameters do not matter; None for all others."""
        try:
            return cls(content_type.partition(";")[0].strip().lower())
        except ValueError:
            return None


@dataclass(frozen=True)
class Answer:
    """A response.

    Attributes:
        status: HTTP's.
        body: The whole of it.
        headers: All but those that the connection adds.
    """

    status: int
    body: bytes = b""
    headers: Headers = ()

    def with_headers(self, headers: Headers) -> Answer:
        """The same answer that says more."""
        return replace(self, headers=self.headers + headers) if headers else self


def success(signal: Signal, receipt: Receipt, encoding: Encoding) -> Answer:
    """A request was stored; what could not be taken of it is OTLP's ``partial_success``."""
    if not receipt.rejected and not receipt.message:
        return Answer(200, b"" if encoding is Encoding.PROTOBUF else b"{}", _type(encoding))
    if signal is Signal.TRACES:
        spans = ExportTracePartialSuccess(rejected_spans=receipt.rejected, error_message=receipt.message)
        response = ExportTraceServiceResponse(partial_success=spans)
    else:
        logs = ExportLogsPartialSuccess(rejected_log_records=receipt.rejected, error_message=receipt.message)
        response = ExportLogsServiceResponse(partial_success=logs)
    return Answer(200, _encoded(response, encoding), _type(encoding))


def failure(
    status: int,
    message: str,
    encoding: Encoding | None,
    headers: Headers = (),
    retry_after: float | None = None,
) -> Answer:
    """A request was not taken.

    Args:
        status: HTTP's, one of those that OTLP clients understand.
        message: Why, for whoever looks after the client.
        encoding: The request's. None: it had one that is not understood; JSON then, which people can read.
        headers: To be added.
        retry_after: Seconds after which the client shall try again; None: never.
    """
    details = []
    if retry_after is not None:
        # Whole seconds are all that the header can say (RFC 9110 section 10.2.3).
        headers = (*headers, ("retry-after", str(max(1, math.ceil(retry_after)))))
        delay = Duration()
        delay.FromMilliseconds(int(retry_after * 1000))
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=delay))
        details.append(detail)
    encoding = encoding or Encoding.JSON
    body = status_pb2.Status(code=_CODES[status], message=message, details=details)
    return Answer(status, _encoded(body, encoding), _type(encoding) + headers)


def on_the_wire(answer: Answer, method: str, *, ends: bool) -> bytes:
    """The whole response.

    Args:
        answer: What to say.
        method: The request's; the answer to HEAD has no body.
        ends: Whether the connection ends with it.
    """
    headers = [*answer.headers, ("date", formatdate(usegmt=True))]
    if answer.status != 204:
        headers.append(("content-length", str(len(answer.body))))
    headers.append(("connection", "close" if ends else "keep-alive"))
    text = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n{text}\r\n"
    return head.encode("latin-1", "replace") + (b"" if method == "HEAD" else answer.body)


def _encoded(message: object, encoding: Encoding) -> bytes:
    if encoding is Encoding.PROTOBUF:
        return bytes(message.SerializeToString())  # type: ignore[attr-defined]
    return json.dumps(json_format.MessageToDict(message), ensure_ascii=False).encode()


def _type(encoding: Encoding) -> Headers:
    return (("content-type", encoding.value),)
