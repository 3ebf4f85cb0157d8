"""The HTTP client of the Moesif exporter, against real servers on the loopback address."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import socket
import time
from importlib.metadata import version

from otel_moesif import RetryableError
from otel_moesif.cli.logs import configure
from otel_moesif.config.model import LogsSettings
from otel_moesif.exporters.moesif.answer import ANSWER_CAP
from otel_moesif.exporters.moesif.client import get, make_client
from tests.exporters.sending import APPLICATION_ID, send, settings_for, unreachable
from tests.exporters.servers import (
    CREATED,
    Http1,
    Http2,
    Reset,
    answered,
    server_context,
)
from tests.ports import free_port


def test_what_is_sent():
    async def life():
        async with Http1() as server:
            await send(f"{server.url}/collector/v1", content=b"zipped")
            await send(server.url, content=b"[1]", compression="none")
        return server.requests

    zipped, plain = asyncio.run(life())
    assert zipped.line == "POST /collector/v1/events/batch HTTP/1.1"
    assert zipped.body == b"zipped"
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.headers["content-type"] == "application/json"
    assert zipped.headers["accept-encoding"] == "identity"
    assert zipped.headers["user-agent"] == f"otel-moesif/{version('otel-moesif')}"
    assert zipped.headers["x-moesif-application-id"] == APPLICATION_ID
    assert (plain.body, "content-encoding" in plain.headers) == (b"[1]", False)


def test_a_cookie_of_one_tenants_answer_is_in_no_other_request():
    async def life():
        async with Http1(answered(201, Set_Cookie="stuck=to-the-first-tenant; Path=/")) as server:
            await send(server.url, times=2)
            return server.requests

    assert not any("cookie" in request.headers for request in asyncio.run(life()))


def test_what_an_answer_says():
    async def life():
        said = answered(503, b"busy", Retry_After="7", X_Moesif_Config_ETag="abc")
        async with Http1(said, CREATED) as server:
            return await send(server.url, times=2)

    busy, created = asyncio.run(life())
    assert (busy.status, busy.body, busy.retry_after, busy.config_etag) == (503, b"busy", 7, "abc")
    assert busy.http_version == "HTTP/1.1"
    assert (created.status, created.body, created.retry_after, created.config_etag) == (201, b"", None, None)


def test_a_date_to_come_back_is_read_by_the_clock_of_the_sender():
    async def life():
        dates = {
            "Date": "Thu, 01 Jan 2015 10:00:00 GMT",
            "Retry_After": "Thu, 01 Jan 2015 10:00:40 GMT",
        }
        async with Http1(answered(429, **dates)) as server:
            return await send(server.url)

    assert asyncio.run(life())[0].retry_after == 40


def test_what_is_known_already_is_named():
    async def life():
        async with Http1(answered(304)) as server:
            settings = settings_for(server.url)
            async with make_client(settings) as client:
                answer = await get(client, "/v1/config", APPLICATION_ID, settings, etag="abc")
        return answer, server.requests[0]

    answer, request = asyncio.run(life())
    assert answer.status == 304
    assert request.headers["if-none-match"] == "abc"
    assert "content-encoding" not in request.headers


def test_an_app_config_may_be_larger_than_other_answers():
    async def life():
        async with Http1(answered(200, b"x" * 3 * ANSWER_CAP)) as server:
            settings = settings_for(server.url)
            async with make_client(settings) as client:
                return await get(client, "/v1/config", APPLICATION_ID, settings)

    assert len(asyncio.run(life()).body) == 3 * ANSWER_CAP


def test_a_redirect_is_not_followed_as_the_application_id_would_go_along():
    async def life():
        async with Http1() as elsewhere:
            async with Http1(answered(301, Location=f"{elsewhere.url}/v1/events/batch")) as server:
                [answer] = await send(server.url)
            assert (answer.status, answer.location) == (301, f"{elsewhere.url}/v1/events/batch")
            assert elsewhere.requests == []

    asyncio.run(life())


# -- answers that do not end well ----------------------------------------------------------------------


def test_row_a_a_post_that_meets_a_busy_server_can_be_sent_again():
    """Moesif's Python SDK never retries a POST: here it is for the sender to do, with the same bytes."""

    async def life():
        async with Http1(answered(503), CREATED) as server:
            statuses = [answer.status for answer in await send(server.url, content=b"same", times=2)]
        return statuses, [request.body for request in server.requests]

    assert asyncio.run(life()) == ([503, 201], [b"same", b"same"])


def test_row_a_no_request_without_a_time_limit():
    async def life():
        async with Http1(lambda writer: asyncio.Event().wait()) as server:
            began = time.monotonic()
            error = await unreachable(server.url, timeout="200ms")
            assert str(error) == f"cannot reach {server.url}: no answer within 0.2 s"
            assert 0.19 < time.monotonic() - began < 3

    asyncio.run(life())


def test_an_answer_that_trickles_for_ever_ends_with_the_time_limit():
    async def trickle(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def life():
        async with Http1(trickle, CREATED) as server:
            began = time.monotonic()
            error = await unreachable(server.url, timeout="300ms")
            assert "within 0.3 s" in str(error)
            assert time.monotonic() - began < 3

    asyncio.run(life())


def test_of_an_endless_answer_only_the_cap_is_read():
    async def flood(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                flooded[0] += 65536
                await writer.drain()

    flooded = [0]

    async def life():
        async with Http1(flood, CREATED) as server:
            first, second = await send(server.url, times=2)
            assert (first.status, len(first.body), second.status) == (200, ANSWER_CAP, 201)
            assert server.connections == 2  # the first one was closed

    asyncio.run(life())
    assert flooded[0] < 50_000_000  # what the socket buffers hold, not all of it


def test_a_connection_that_ends_amid_the_answer_is_no_answer():
    async def cut(writer):
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()

    async def life():
        async with Http1(cut) as server:
            return server.port, str(await unreachable(server.url))

    port, said = asyncio.run(life())
    assert said == (
        f"cannot reach http://127.0.0.1:{port}: "
        f"127.0.0.1:{port} closed the connection before the end of its answer"
    )


def test_a_connection_that_ends_before_the_answer():
    async def hang_up(writer):
        writer.close()

    async def life():
        async with Http1(hang_up) as server:
            assert "closed the connection before the end of its answer" in str(await unreachable(server.url))

    asyncio.run(life())


def test_a_connection_that_is_reset_instead_of_an_answer(authority):
    async def life():
        async with Reset(server_context(authority)) as server:
            return server.port, await unreachable(server.url, tls={"ca_file": authority.file})

    port, error = asyncio.run(life())
    assert error.what == f"127.0.0.1:{port} closed the connection before the end of its answer"


def test_a_connection_that_is_reset_while_tls_is_agreed_upon():
    async def life():
        async with Reset() as server:
            return server.port, await unreachable(server.url.replace("http:", "https:"))

    port, error = asyncio.run(life())
    assert error.what == f"127.0.0.1:{port} closed the connection while it was made"
    assert error.remedy == "check endpoint"


def test_what_is_not_http_at_all():
    async def greet(writer):
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()

    async def life():
        async with Http1(greet) as server:
            assert isinstance(await unreachable(server.url), RetryableError)

    asyncio.run(life())


def test_nobody_listens():
    port = free_port()
    error = asyncio.run(unreachable(f"http://localhost:{port}"))
    assert error.what == f"nobody listens at localhost:{port}"
    assert error.remedy == "check endpoint"
    assert str(error) == f"cannot reach http://localhost:{port}: {error.what} (check endpoint)"


def test_a_name_that_dns_does_not_know():
    error = asyncio.run(unreachable("https://nosuch.invalid"))  # RFC 6761 section 6.4
    assert error.what == "DNS knows no address of nosuch.invalid"
    assert "name server" in error.remedy


def test_a_connection_that_is_not_made_in_time():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        # the queue of a listener that accepts nothing takes one or two; then the kernel drops what comes
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003
            one.connect_ex(address)
        error = asyncio.run(unreachable(f"http://127.0.0.1:{address[1]}", connect_timeout="200ms"))
        for one in waiting:
            one.close()
    assert f"no connection to 127.0.0.1:{address[1]} within 0.2 s" in error.what
    assert "firewall" in error.remedy


# -- secrets -------------------------------------------------------------------------------------------


def test_row_m_the_application_id_is_in_no_log_and_no_error(authority, monkeypatch):
    """Gravitee's reporter logs it; so would the HTTP/2 library, at a debug level that it does not get."""
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    before = logging.getLogger().handlers[:], logging.getLogger().level
    configure(LogsSettings(level="debug"))
    try:

        async def life():
            async with Http2(server_context(authority)) as server:
                await send(server.url, tls={"ca_file": authority.file})
                server.silent.add(2)
                return await unreachable(server.url, timeout="200ms", tls={"ca_file": authority.file})

        said = str(asyncio.run(life()))
        logging.getLogger("otel_moesif.test").debug("the log is on")
    finally:
        logging.basicConfig(handlers=before[0], level=before[1], force=True)
        logging.captureWarnings(capture=False)
    assert "the log is on" in log.getvalue()
    assert "secret" not in log.getvalue() + said
    assert "wxyz" not in log.getvalue() + said
