"""How the sandbox starts and stops, alone and as a component."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from datetime import UTC, datetime

import httpx
import pytest
from otel_moesif_sandbox import Sandbox, plugin
from pydantic import ValidationError

from otel_moesif import ComponentId, Context, StartError


def test_says_which_port_is_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError) as error:
            asyncio.run(Sandbox(endpoint).start())
    assert str(error.value).startswith(f"moesif_sandbox cannot listen on {endpoint}: the port is in use (")
    assert "\n" not in str(error.value)


def test_says_which_host_is_not_here():
    with pytest.raises(
        StartError, match=r"moesif_sandbox cannot listen on 203\.0\.113\.1:0: .*no such address"
    ):
        asyncio.run(Sandbox("203.0.113.1:0").start())


def test_localhost_is_both_loopback_addresses_with_one_port():
    async def main():
        async with Sandbox("localhost:0") as sandbox, httpx.AsyncClient(trust_env=False) as client:
            assert sandbox.url == f"http://localhost:{sandbox.port}"
            families = {item[0] for item in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
            assert (await client.get(f"http://127.0.0.1:{sandbox.port}/health/probe")).status_code == 200
            if socket.AF_INET6 in families and socket.has_ipv6:
                assert (await client.get(f"{sandbox.url}/health/probe")).status_code == 200

    asyncio.run(main())


def test_shutdown_is_safe_unstarted_and_twice_and_frees_the_port():
    async def main():
        sandbox = Sandbox("127.0.0.1:0")
        await sandbox.shutdown()
        await sandbox.start()
        port = sandbox.port
        await sandbox.shutdown()
        await sandbox.shutdown()
        async with Sandbox(f"127.0.0.1:{port}") as again:
            assert again.port == port

    asyncio.run(main())


def test_shutdown_does_not_wait_for_clients(event):
    async def main():
        async with httpx.AsyncClient(headers={"X-Moesif-Application-Id": "x"}, trust_env=False) as client:
            async with Sandbox("127.0.0.1:0") as sandbox:
                await client.get(f"{sandbox.url}/health/probe")  # leaves an idle connection
                sandbox.behave(delay=60)
                pending = asyncio.create_task(client.post(f"{sandbox.url}/v1/events", json=event()))
                async with asyncio.timeout(10):
                    while not sandbox.events:  # noqa: ASYNC110 - as a client would see it
                        await asyncio.sleep(0.01)
                before = time.monotonic()
            assert time.monotonic() - before < 5
            with pytest.raises(httpx.HTTPError):
                (await pending).raise_for_status()

    asyncio.run(main())


def test_leaves_the_signals_alone():
    async def main():
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        async with Sandbox("127.0.0.1:0"):
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before

    asyncio.run(main())


def test_never_logs_the_application_id(run, event, caplog):
    caplog.set_level(logging.DEBUG)

    async def scenario(sandbox, client):
        await client.post("/v1/events", json=event())
        await client.post("/v1/events", json={})
        assert "secret-part" not in (await client.get("/sandbox/stats")).text

    run(scenario)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert any("Moesif sandbox listens on http://127.0.0.1:" in line for line in ours)
    assert not any("secret-part" in line for line in ours)


def test_is_a_component():
    (factory,) = plugin.otel_moesif_components()
    context = Context(ComponentId("moesif_sandbox"), logging.getLogger("test"), meter=None)
    config = factory.config.model_validate({"endpoint": "127.0.0.1:0"})
    sandbox = factory.build(config, context)

    async def main():
        await sandbox.start()
        assert sandbox.port > 0
        await sandbox.shutdown()

    asyncio.run(main())
    assert factory.config().endpoint == "localhost:9500"


def test_its_options_reach_it(event):
    (factory,) = plugin.otel_moesif_components()
    context = Context(ComponentId("moesif_sandbox"), logging.getLogger("test"), meter=None)
    options = {"endpoint": "127.0.0.1:0", "applications": ["one-of-two"], "reject_older_than": "720h"}
    sandbox = factory.build(factory.config.model_validate(options), context)

    async def main():
        async with sandbox, httpx.AsyncClient(base_url=sandbox.url, trust_env=False) as client:
            statuses = []
            for application in ("one-of-two", "another"):
                headers = {"X-Moesif-Application-Id": application}
                old = event({"request.time": "2024-10-30T04:45:42.914Z"})
                for body in (old, event({"request.time": datetime.now(UTC).isoformat()})):
                    answer = await client.post("/v1/events", json=body, headers=headers)
                    statuses.append(answer.status_code)
            assert statuses == [400, 201, 401, 401]

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"endpoint": "localhost"}, {"max_events": 0}, {"port": 9500}])
def test_refuses_wrong_options(options):
    with pytest.raises(ValidationError):
        plugin.SandboxConfig.model_validate(options)
