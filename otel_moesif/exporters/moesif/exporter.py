"""The exporter itself: one request per batch to ``/v1/events/batch``."""

from __future__ import annotations

import asyncio
import ipaddress
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx
from isal import isal_zlib

from otel_moesif import Context, Events, ExporterFactory, RetryableError
from otel_moesif.exporters.moesif.answer import (
    excerpt,
    failure,
    masked,
    read_capped,
    retry_after_seconds,
)
from otel_moesif.exporters.moesif.mapping import to_moesif
from otel_moesif.exporters.moesif.settings import MoesifSettings

_GZIP_LEVEL = 1  # of isal; 2 and 3 save 0.5 and 4 % of the bytes
_GZIP_WBITS = 31  # zlib.h: 15 bits of window, plus 16 for the gzip format
_PIECE = 1 << 16


class MoesifExporter:
    """Ships events to Moesif's collector API.

    Args:
        settings: Where to, as whom, and how.
        context: The component's logger.
    """

    def __init__(self, settings: MoesifSettings, context: Context) -> None:
        self._settings = settings
        self._logger = context.logger
        self._application_id = settings.application_id.get_secret_value()
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Open the client; says where it ships to, and connects with the first batch."""
        endpoint = self._settings.endpoint
        local = _is_local(endpoint)
        consumers = self._settings.sending_queue.num_consumers
        headers = {
            "X-Moesif-Application-Id": self._application_id,
            "Content-Type": "application/json",
            "User-Agent": f"otel-moesif/{version('otel-moesif')}",
            # so that the cap on answers counts what really comes
            "Accept-Encoding": "identity",
        }
        if self._settings.compression == "gzip":
            headers["Content-Encoding"] = "gzip"
        self._client = httpx.AsyncClient(
            base_url=endpoint,
            headers=headers,
            # one bound for the whole request instead (in `export`): httpx bounds each read on its own
            timeout=None,  # noqa: S113
            limits=httpx.Limits(max_connections=consumers, max_keepalive_connections=consumers),
            # a proxy of the environment has no way to this machine
            trust_env=not local,
        )
        if local:
            self._logger.info("moesif: shipping to the sandbox at %s", endpoint)
        else:
            self._logger.info(
                "moesif: shipping to Moesif at %s, application id %s", endpoint, masked(self._application_id)
            )

    async def export(self, events: Events) -> None:
        """Send one batch.

        Raises:
            RetryableError: Moesif cannot be reached, is busy, or does not accept the application id.
            PermanentError: Moesif refuses these events.
        """
        if self._client is None:
            raise RetryableError("the exporter is not started")
        if not len(events):
            return
        # encoding takes milliseconds, and polars and isal work outside the GIL
        content = await asyncio.to_thread(self._encode, events)
        try:
            async with (
                asyncio.timeout(self._settings.timeout.total_seconds()),
                self._client.stream("POST", "/v1/events/batch", content=content) as response,
            ):
                # read even when all is well, because only then the connection is used again
                body = await read_capped(response.aiter_raw())
        except TimeoutError:
            seconds = self._settings.timeout.total_seconds()
            raise RetryableError(f"no answer from {self._settings.endpoint} within {seconds:g} s") from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise RetryableError(f"cannot reach {self._settings.endpoint}: {reason}") from error
        wait = retry_after_seconds(response.headers.get("Retry-After"))
        refusal = failure(response.status_code, excerpt(body, self._application_id), wait)
        if refusal is not None:
            raise refusal

    async def shutdown(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _encode(self, events: Events) -> bytes:
        text: str = to_moesif(events).str.join(",").item()
        return gzipped("[", text, "]") if self._settings.compression == "gzip" else f"[{text}]".encode()


def gzipped(*texts: str) -> bytes:
    """Compress texts as one.

    Piece by piece, because bytes of megabytes would be fresh memory each time, and touching that for the
    first time costs more than compressing it.
    """
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS)
    pieces = (text[start : start + _PIECE] for text in texts for start in range(0, len(text), _PIECE))
    return b"".join([*(compressor.compress(piece.encode()) for piece in pieces), compressor.flush()])


def _is_local(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761 section 6.3


FACTORY = ExporterFactory(
    type="moesif",
    config=MoesifSettings,
    build=MoesifExporter,
    description="Ships events to Moesif",
)
