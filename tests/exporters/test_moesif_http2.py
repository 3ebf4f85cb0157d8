"""HTTP/2 of the Moesif exporter's client, and connections on it that go wrong."""

from __future__ import annotations

import asyncio

import pytest

from otel_moesif.exporters.moesif.answer import ANSWER_CAP
from otel_moesif.exporters.moesif.client import make_client, post
from otel_moesif.exporters.moesif.unreachable import UnreachableError
from tests.exporters.sending import APPLICATION_ID, BATCH, send, settings_for
from tests.exporters.servers import (
    Http1,
    Http2,
    server_context,
)


def test_http2_where_the_server_offers_it(authority):
    async def life():
        async with Http2(server_context(authority)) as server:
            answers = await send(server.url, content=b"x" * 200_000, times=3, tls={"ca_file": authority.file})
            assert server.connections == 1
            return answers, server.requests

    answers, requests = asyncio.run(life())
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert [len(request.body) for request in requests] == [200_000] * 3
    assert requests[0].headers["x-moesif-application-id"] == APPLICATION_ID


@pytest.mark.parametrize("http2", [True, False])
def test_http1_where_the_server_or_the_option_wants_it(authority, http2):
    async def life():
        async with Http1(tls=server_context(authority)) as server:
            return await send(server.url, http2=http2, tls={"ca_file": authority.file})

    assert asyncio.run(life())[0].http_version == "HTTP/1.1"


def test_an_http2_connection_that_went_silent_is_not_used_again(authority):
    async def life():
        async with Http2(server_context(authority)) as server:
            settings = settings_for(server.url, timeout="500ms", tls={"ca_file": authority.file})
            async with make_client(settings) as client:
                assert (await post(client, BATCH, b"[]", APPLICATION_ID, settings)).status == 201
                server.silent.add(1)
                with pytest.raises(UnreachableError, match=r"no answer within 0.5 s"):
                    await post(client, BATCH, b"[]", APPLICATION_ID, settings)
                assert (await post(client, BATCH, b"[]", APPLICATION_ID, settings)).status == 201
            assert server.connections == 2

    asyncio.run(life())


def test_over_http2_of_a_long_answer_only_the_cap_is_read_and_others_go_on(authority):
    async def life():
        async with Http2(server_context(authority)) as server:
            server.body = b"x" * 5_000_000
            answers = await send(server.url, times=6, tls={"ca_file": authority.file})
            assert server.connections == 6
            return answers

    assert {(answer.status, len(answer.body)) for answer in asyncio.run(life())} == {(201, ANSWER_CAP)}


def test_after_a_shutdown_amid_a_request_nothing_is_left(authority):
    async def life():
        async with Http2(server_context(authority)) as server:
            server.silent.add(1)
            settings = settings_for(server.url, tls={"ca_file": authority.file})
            async with make_client(settings) as client:
                task = asyncio.create_task(post(client, BATCH, b"[]", APPLICATION_ID, settings))
                while not server.requests:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    asyncio.run(life())
