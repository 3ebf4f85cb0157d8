"""What becomes of an OTLP/HTTP request: the way from its headers to the intake, and what the client is told.

Statuses: OTLP specification, "OTLP/HTTP Response"; RFC 9110 for those of HTTP itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from otel_moesif.component import Context, Intake, Receipt, Signal
from otel_moesif.errors import InvalidData, Refused, TooLarge, Unauthenticated
from otel_moesif.otlp.transcode import Transcoded, transcode
from otel_moesif.receivers.otlp.access import Access
from otel_moesif.receivers.otlp.http_answer import Answer, Encoding, Headers, failure, success
from otel_moesif.receivers.otlp.http_body import ENCODINGS, Held, Room, is_known, read_body, too_large
from otel_moesif.receivers.otlp.http_cors import Cors
from otel_moesif.receivers.otlp.http_request import Disconnected, Interrupted, Request
from otel_moesif.receivers.otlp.http_settings import HttpSettings

_METRICS = "/v1/metrics"
_NO_METRICS = "metrics are not analytics events; otel-moesif takes traces and logs"
# JSON up to this size is transcoded at once, in the event loop: a millisecond.
_SMALL_JSON_BYTES = 32 << 10
# A span with 20 attributes has a value every 17 bytes; nothing but values, one every second byte.
_JSON_BYTES_PER_VALUE = 16
_RETRY_AFTER_BUG = 5.0


class _Denied(Exception):  # noqa: N818 - an answer
    """A request that ends here.

    Attributes:
        answer: Status, message, further headers.
        reason: For the counter.
    """

    def __init__(self, status: int, message: str, reason: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers


class Exports:
    """Answers requests.

    Args:
        settings: Paths and bounds.
        access: Judges who may send, and counts who may not.
        context: The receiver's.
        intake: Where requests are stored.
        transcoder: One thread for large JSON. Python's lock would not let two run at once, and one at a time
            is what the memory is reckoned for.
    """

    def __init__(
        self,
        settings: HttpSettings,
        access: Access,
        context: Context,
        intake: Intake,
        transcoder: ThreadPoolExecutor,
    ) -> None:
        self._settings = settings
        self._access = access
        self._context = context
        # the counter of the intake, which sees only what became protobuf
        self._rejected = context.meter.create_counter(
            "otelcol_receiver_rejected_records",
            description="Spans and log records that could not be taken; the client was told so",
        )
        self._intake = intake
        self._transcoder = transcoder
        self._cors = Cors(settings.cors)
        self._room = Room(settings.max_bytes_in_flight)
        self._in_flight = 0
        self._paths = {settings.traces_url_path: Signal.TRACES, settings.logs_url_path: Signal.LOGS}

    async def answer(self, request: Request) -> Answer:
        """The answer to a request; its body is read only if nothing speaks against it before.

        Raises:
            Disconnected: There is nobody to answer.
        """
        encoding = Encoding.of(request.headers.get("content-type", ""))
        try:
            answer = await self._answer(request, encoding)
        except _Denied as denied:
            self._access.deny(denied.reason)
            answer = failure(denied.status, str(denied), encoding, denied.headers)
        except Unauthenticated as error:
            challenge = (("www-authenticate", error.challenge),)
            answer = failure(401, str(error), encoding, challenge)
        except TooLarge as error:
            answer = failure(413, str(error), encoding)
        except InvalidData as error:
            answer = failure(400, str(error), encoding)
        except Refused as error:
            answer = failure(503, str(error), encoding, retry_after=error.retry_after)
        except Disconnected:
            raise
        except Exception:
            self._context.logger.exception("cannot take a request")
            self._access.deny("bug")
            answer = failure(
                503, "not stored: internal error; try again", encoding, retry_after=_RETRY_AFTER_BUG
            )
        return answer.with_headers(self._cors.headers(request.headers.get("origin", "")))

    async def _answer(self, request: Request, encoding: Encoding | None) -> Answer:
        signal = self._signal(request.path)
        if request.method == "OPTIONS" and self._cors.enabled:
            asked = request.headers.get("access-control-request-headers", "")
            return self._cors.preflight(request.headers.get("origin", ""), asked)
        if request.method != "POST":
            allowed = "POST, OPTIONS" if self._cors.enabled else "POST"
            raise _Denied(405, f"only {allowed} is allowed here", "method", (("allow", allowed),))
        metadata = await self._access.admit(request.headers, request.peer)
        if encoding is None:
            raise _Denied(
                415, f"the content type must be {' or '.join(e.value for e in Encoding)}", "content type"
            )
        with self._room.hold() as held:
            content, rejected = await self._content(request, signal, encoding, held)
            receipt = await self._store(signal, content, metadata)
        if rejected.message:
            if rejected.rejected:  # else it was a resource or a scope without any
                attributes = {"receiver": str(self._context.id), "transport": "http", "signal": str(signal)}
                self._rejected.add(rejected.rejected, {**attributes, "reason": "malformed in JSON"})
            message = "; ".join(filter(None, (rejected.message, receipt.message)))
            receipt = Receipt(receipt.rejected + rejected.rejected, message)
        return success(signal, receipt, encoding)

    def _signal(self, path: str) -> Signal:
        signal = self._paths.get(path)
        if signal in self._intake.signals:
            return signal
        if signal:
            raise _Denied(404, f"no pipeline takes {signal} from here", "path")
        if path == _METRICS:
            raise _Denied(404, _NO_METRICS, "metrics")
        raise _Denied(404, f"there is nothing here; OTLP is taken at {' and '.join(self._paths)}", "path")

    async def _content(
        self, request: Request, signal: Signal, encoding: Encoding, held: Held
    ) -> tuple[bytes, Receipt]:
        """The request in protobuf, and what of it did not become protobuf."""
        try:
            body = await self._body(request, encoding, held)
            if encoding is Encoding.PROTOBUF:
                return body, Receipt()
            transcoded = await self._transcode(signal, body)
        except Interrupted as error:
            raise _Denied(error.status, str(error), error.reason) from None
        except TooLarge as error:
            self._access.deny(error.reason)
            raise
        except InvalidData:
            self._access.deny("malformed")
            raise
        except Refused as error:
            self._access.deny(error.reason)
            raise
        return transcoded.request, Receipt(transcoded.rejected, transcoded.message)

    async def _body(self, request: Request, encoding: Encoding, held: Held) -> bytes:
        content_encoding = request.headers.get("content-encoding", "")
        if not is_known(content_encoding):
            raise _Denied(
                415,
                f"the content encoding must be one of {ENCODINGS}",
                "content encoding",
                (("accept-encoding", ENCODINGS),),
            )
        largest = self._settings.max_inflated_size
        if encoding is Encoding.JSON:
            largest = min(largest, self._settings.max_json_body_size)
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_request_body_size:
            raise too_large(self._settings.max_request_body_size)
        return await read_body(request, content_encoding, self._settings, largest, held)

    async def _transcode(self, signal: Signal, body: bytes) -> Transcoded:
        most = self._settings.max_json_body_size // _JSON_BYTES_PER_VALUE
        if len(body) <= _SMALL_JSON_BYTES:
            return transcode(signal, body, most)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._transcoder, transcode, signal, body, most)

    async def _store(self, signal: Signal, content: bytes, metadata: Mapping[str, str]) -> Receipt:
        if self._in_flight >= self._settings.max_requests_in_flight:
            self._access.deny("too many requests")
            raise Refused("not stored: too many requests at once; try again", reason="too many requests")
        self._in_flight += 1
        try:
            return await self._intake.accept(signal, content, transport="http", metadata=metadata)
        finally:
            self._in_flight -= 1
