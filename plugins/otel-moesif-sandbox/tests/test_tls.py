"""The sandbox over HTTPS, with and without client certificates."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import pytest
from otel_moesif_sandbox import Sandbox

trustme = pytest.importorskip("trustme", reason="trustme makes the certificates (dev extra)")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def contexts(authority, *, client_certificate):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    if client_certificate is not None:
        server.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(server)
    if client_certificate:
        authority.issue_cert("collector@example.com").configure_cert(client)
    return server, client


@pytest.mark.parametrize("client_certificate", [None, True])
def test_serves_https(authority, event, client_certificate):
    server, trusting = contexts(authority, client_certificate=client_certificate)
    headers = {"X-Moesif-Application-Id": "x"}

    async def main():
        async with (
            Sandbox("127.0.0.1:0", ssl_context=server) as sandbox,
            httpx.AsyncClient(
                base_url=sandbox.url, verify=trusting, headers=headers, trust_env=False
            ) as client,
        ):
            assert sandbox.url == f"https://127.0.0.1:{sandbox.port}"
            assert (await client.post("/v1/events", json=event())).status_code == 201
            for trouble in ({"drop_connection": True}, {"truncate": True}):
                sandbox.behave(**trouble, times=1)
                with pytest.raises(httpx.TransportError):
                    await client.post("/v1/events", json=event())
            assert len(sandbox.events) == 3

    asyncio.run(main())


def test_turns_away_who_has_no_certificate(authority, event):
    server, trusting = contexts(authority, client_certificate=False)

    async def main():
        async with (
            Sandbox("127.0.0.1:0", ssl_context=server) as sandbox,
            httpx.AsyncClient(base_url=sandbox.url, verify=trusting, trust_env=False) as client,
        ):
            with pytest.raises(httpx.TransportError):
                await client.get("/health/probe")

    asyncio.run(main())
