"""How many connections the Moesif exporter's client opens, for whom, and when it closes them."""

from __future__ import annotations

import asyncio

import pytest

from otel_moesif.exporters.moesif.client import make_client, post
from tests.exporters.sending import APPLICATION_ID, BATCH, settings_for, until
from tests.exporters.servers import CREATED, Http1


def test_one_client_serves_several_tenants():
    async def life():
        async with Http1() as server:
            settings = settings_for(server.url)
            async with make_client(settings) as client:
                assert "x-moesif-application-id" not in client.headers
                for tenant in ("first-tenant", "second-tenant"):
                    await post(client, BATCH, b"[]", tenant, settings)
        assert server.connections == 1
        return [request.headers["x-moesif-application-id"] for request in server.requests]

    assert asyncio.run(life()) == ["first-tenant", "second-tenant"]


def test_a_connection_that_nobody_used_for_long_is_closed():
    async def life(idle):
        async with Http1() as server:
            settings = settings_for(server.url, idle_conn_timeout=idle)
            async with make_client(settings) as client:
                await post(client, BATCH, b"[]", APPLICATION_ID, settings)
                await asyncio.sleep(0.05)
                await post(client, BATCH, b"[]", APPLICATION_ID, settings)
            return server.connections

    assert asyncio.run(life("1ms")) == 2
    assert asyncio.run(life("1m")) == 1


def test_of_several_connections_too_those_that_nobody_used_for_long_are_closed():
    async def life():
        async with Http1() as server:
            settings = settings_for(server.url, idle_conn_timeout="100ms")
            async with make_client(settings) as client:
                await asyncio.gather(
                    *(post(client, BATCH, b"[]", f"tenant-{one}", settings) for one in range(3))
                )
                assert server.open == 3
                await asyncio.sleep(0.15)
                await post(client, BATCH, b"[]", APPLICATION_ID, settings)
                await until(lambda: server.open == 1)

    asyncio.run(life())


@pytest.mark.parametrize("tenants", [1, 3])
@pytest.mark.parametrize(("path", "each"), [(BATCH, 3), ("/v1/users/batch", 4)])
def test_how_many_connections_a_tenant_has_for_events_and_for_the_rest(tenants, path, each):
    """For events as many as there are senders, and two; beside them one for each kind, and for the rates."""

    async def life():
        waiting = asyncio.Event()

        async def wait(writer):
            await waiting.wait()
            writer.write(CREATED)
            await writer.drain()

        async with Http1(wait) as server:
            settings = settings_for(server.url, timeout="60s", sending_queue={"num_consumers": 1})
            async with make_client(settings) as client:
                tasks = [
                    asyncio.create_task(post(client, path, b"[]", f"tenant-{number % tenants}", settings))
                    for number in range(8 * tenants)
                ]
                await until(lambda: len(server.requests) >= each * tenants)
                await asyncio.sleep(0.1)  # would more come, they would be here
                most = server.connections
                waiting.set()
                statuses = {answer.status for answer in await asyncio.gather(*tasks)}
            return most, statuses, len(server.requests)

    assert asyncio.run(life()) == (each * tenants, {201}, 8 * tenants)


def test_whatever_of_one_tenant_hangs_the_others_and_its_own_events_have_connections():
    async def life():
        async with Http1() as server:
            read = asyncio.Event()

            async def hang(writer):
                await read.wait()

            server.answers = [hang] * 4 + [CREATED]
            settings = settings_for(server.url, timeout="30s", sending_queue={"num_consumers": 1})
            async with make_client(settings) as client:
                profiles = "/v1/users/batch"
                hanging = [
                    asyncio.create_task(post(client, profiles, b"[]", APPLICATION_ID, settings))
                    for _ in range(20)
                ]
                await until(lambda: len(server.requests) == 4)
                answers = [
                    await post(client, BATCH, b"[]", APPLICATION_ID, settings),
                    await post(client, profiles, b"[]", "other-tenant", settings),
                ]
                assert not any(task.done() for task in hanging)
                for task in hanging:
                    task.cancel()
                await asyncio.gather(*hanging, return_exceptions=True)
                answers.append(await post(client, profiles, b"[]", APPLICATION_ID, settings))
                return answers

    assert {answer.status for answer in asyncio.run(life())} == {201}
