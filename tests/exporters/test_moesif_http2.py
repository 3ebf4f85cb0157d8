"""HTTP/2 of the Moesif exporter's client, and connections on it that go wrong."""

from __future__ import annotations

import asyncio

import pytest

from otel_moesif.exporters.moesif.answer import ANSWER_CAP
from otel_moesif.exporters.moesif.client import make_client, post
from otel_moesif.exporters.moesif.unreachable import UnreachableError
from tests.exporters.sending import APPLICATION_ID, BATCH, send, settings_for, until
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


# -- who hangs, and the others --------------------------------------------------------------------------

HANGING = [f"hangs-{number}" for number in range(5)]


def test_over_http2_requests_that_hang_hold_up_no_other(authority):
    async def life():
        async with Http2(server_context(authority)) as server:
            server.unanswered = set(HANGING)
            settings = settings_for(server.url, timeout="30s", tls={"ca_file": authority.file})
            async with make_client(settings) as client:
                hanging = [
                    asyncio.create_task(post(client, BATCH, b"[]", tenant, settings)) for tenant in HANGING
                ]
                await until(lambda: len(server.requests) == len(HANGING))
                answers = [await post(client, BATCH, b"[]", "healthy", settings) for _ in range(10)]
                assert not any(task.done() for task in hanging)
                assert server.connections == len(HANGING) + 1
                await server.answer_late()
                return [*answers, *await asyncio.gather(*hanging)]

    answers = asyncio.run(life())
    assert {(answer.status, answer.http_version) for answer in answers} == {(201, "HTTP/2")}


@pytest.mark.parametrize("other", [APPLICATION_ID, "other-tenant"])
def test_over_http2_a_request_that_is_given_up_breaks_no_other(authority, other):
    async def life():
        async with Http2(server_context(authority)) as server:
            server.unanswered = {APPLICATION_ID, other}
            settings = settings_for(server.url, timeout="30s", tls={"ca_file": authority.file})
            async with make_client(settings) as client:
                hangs = asyncio.create_task(post(client, BATCH, b"[]", APPLICATION_ID, settings))
                slow = asyncio.create_task(post(client, BATCH, b"[]", other, settings))
                await until(lambda: len(server.requests) == 2)
                hangs.cancel()
                await asyncio.gather(hangs, return_exceptions=True)
                await until(lambda: server.open == 1)
                await server.answer_late()
                return await slow

    assert asyncio.run(life()).status == 201


def test_an_http2_connection_that_the_server_closed_meanwhile_is_not_used_again(authority):
    async def life():
        async with Http2(server_context(authority)) as server:
            settings = settings_for(server.url, tls={"ca_file": authority.file})
            async with make_client(settings) as client:
                await post(client, BATCH, b"[]", APPLICATION_ID, settings)
                server.hang_up()
                await until(lambda: server.open == 0)
                assert (await post(client, BATCH, b"[]", APPLICATION_ID, settings)).status == 201
                assert server.connections == 2

    asyncio.run(life())


def test_at_the_end_all_connections_are_closed(authority):
    async def life():
        async with Http2(server_context(authority)) as server:
            server.unanswered = set(HANGING)
            settings = settings_for(server.url, timeout="30s", tls={"ca_file": authority.file})
            async with make_client(settings) as client:
                posts = [post(client, BATCH, b"[]", tenant, settings) for tenant in [*HANGING, "healthy"]]
                tasks = [asyncio.create_task(one) for one in posts]
                await until(lambda: tasks[-1].done() and len(server.requests) == len(tasks))
                assert server.open == len(tasks)
            await until(lambda: server.open == 0)
            assert server.connections == len(tasks)
            return await asyncio.gather(*tasks, return_exceptions=True)

    *failed, answer = asyncio.run(life())
    assert answer.status == 201
    # what OpenSSL waited for when its connection was closed is no failure of TLS
    assert all("closed the connection before the end of its answer" in error.what for error in failed)
