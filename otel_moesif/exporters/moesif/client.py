"""The HTTP client of the Moesif exporter: one for all of its requests, whoever they are for."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx

from otel_moesif.client_tls import ClientTls
from otel_moesif.exporters.moesif.answer import ANSWER_CAP, read_capped, retry_after_seconds
from otel_moesif.exporters.moesif.connections import Connections
from otel_moesif.exporters.moesif.proxy import find_proxy, place
from otel_moesif.exporters.moesif.settings import MoesifSettings
from otel_moesif.exporters.moesif.unreachable import unreachable

logger = logging.getLogger(__name__)

CONFIG_CAP = 16 << 20
"""Most bytes of an app config: a rate for each of 200,000 users has about 8 MB."""

_APPLICATION_ID = "X-Moesif-Application-Id"
_EVENTS = "/events/batch"
# Of each application id, beside one for each batch: a batch of more than one request has these in common.
_FOR_LARGE_BATCHES = 2
# Of each application id: the sampling config, profiles of users and of companies, and actions.
_OFF_THE_EVENT_PATH = 4


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        body: As it came, up to the cap; more was not read, and the connection closed.
        config_etag: ``X-Moesif-Config-ETag``: changes when the rates change.
        retry_after: Seconds that the answer asks to wait.
        location: Where a redirect points to; never followed, as the application id would go along.
        http_version: ``HTTP/1.1`` or ``HTTP/2``.
    """

    status: int
    body: bytes
    config_etag: str | None
    retry_after: float | None
    location: str | None
    http_version: str


def make_client(settings: MoesifSettings) -> httpx.AsyncClient:
    """Make the client; connects with the first request.

    It serves several tenants, so an application id is given with each request.

    Raises:
        StartError: The proxy's URL or a file of ``tls`` cannot be used.
    """
    proxy = find_proxy(settings)
    if proxy:
        logger.info("going to %s through the proxy %s", settings.endpoint, place(proxy))
        if proxy.url.scheme == "https":
            # a context of its own: the HTTP client sets in it what it offers to whom
            proxy.ssl_context = ClientTls(ca_file=settings.tls.ca_file).ssl_context()
    context = _ssl_context(settings)
    idle = settings.idle_conn_timeout.total_seconds()
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=idle)
    on_the_event_path = settings.sending_queue.num_consumers + _FOR_LARGE_BATCHES

    def connection() -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(
            verify=context, http2=settings.http2, limits=limits, proxy=proxy, trust_env=False
        )

    def share(request: httpx.Request) -> tuple[tuple[str, bool], int]:
        # nobody waits for the connections of another tenant, and no event for what goes out beside it
        is_events = request.url.path.endswith(_EVENTS)
        most = on_the_event_path if is_events else _OFF_THE_EVENT_PATH
        return (request.headers[_APPLICATION_ID], is_events), most

    return httpx.AsyncClient(
        base_url=settings.endpoint,
        headers={
            "User-Agent": f"otel-moesif/{version('otel-moesif')}",
            # so that the cap on answers counts what really comes
            "Accept-Encoding": "identity",
        },
        # each read and write; `_ask` bounds the whole
        timeout=httpx.Timeout(
            settings.timeout.total_seconds(), connect=settings.connect_timeout.total_seconds()
        ),
        transport=Connections(connection, share, idle),
        # cookies of a load balancer would go from one tenant's answer into another's request
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        # proxies and authorities of the environment are read here; ~/.netrc is none of our business
        trust_env=False,
    )


async def post(
    client: httpx.AsyncClient, path: str, content: bytes, application_id: str, settings: MoesifSettings
) -> Answer:
    """Send JSON.

    Args:
        client: See `make_client`.
        path: For example ``/v1/events/batch``.
        content: JSON, already compressed as ``settings.compression`` says.
        application_id: Of the tenant.
        settings: Of the exporter.

    Raises:
        UnreachableError: There was no whole answer within ``settings.timeout``.
    """
    headers = {"Content-Type": "application/json"}
    if settings.compression == "gzip":
        headers["Content-Encoding"] = "gzip"
    request = client.build_request(
        "POST", path, content=content, headers=_as_tenant(application_id) | headers
    )
    return await _ask(client, request, settings, ANSWER_CAP)


async def get(
    client: httpx.AsyncClient,
    path: str,
    application_id: str,
    settings: MoesifSettings,
    *,
    etag: str | None = None,
) -> Answer:
    """Ask for JSON.

    Args:
        client: See `make_client`.
        path: For example ``/v1/config``.
        application_id: Of the tenant.
        settings: Of the exporter.
        etag: What is known already: the answer is 304 as long as it has not changed.

    Raises:
        UnreachableError: There was no whole answer within ``settings.timeout``.
    """
    headers = {"If-None-Match": etag} if etag else {}
    request = client.build_request("GET", path, headers=_as_tenant(application_id) | headers)
    return await _ask(client, request, settings, CONFIG_CAP)


async def _ask(
    client: httpx.AsyncClient, request: httpx.Request, settings: MoesifSettings, cap: int
) -> Answer:
    try:
        # one bound for all of it, as a server that trickles is never late with the next byte
        async with asyncio.timeout(settings.timeout.total_seconds()):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                # read even when all is well, because only then the connection is used again
                body = await read_capped(response.aiter_raw(), cap)
            finally:
                await response.aclose()
    except Exception as error:  # noqa: BLE001 - whatever the HTTP library raises, the events are not to blame
        raise unreachable(error, settings) from None
    headers = response.headers
    return Answer(
        response.status_code,
        body,
        headers.get("X-Moesif-Config-ETag"),
        retry_after_seconds(headers.get("Retry-After"), headers.get("Date")),
        headers.get("Location"),
        response.http_version,
    )


def _as_tenant(application_id: str) -> dict[str, str]:
    return {_APPLICATION_ID: application_id}


def _ssl_context(settings: MoesifSettings) -> ssl.SSLContext:
    if settings.endpoint.startswith("https:") or settings.tls == ClientTls():
        return settings.tls.ssl_context()
    where = urlsplit(settings.endpoint).netloc
    logger.warning("tls: not used for %s, whose endpoint begins with http://", where)
    return settings.tls.ssl_context()
