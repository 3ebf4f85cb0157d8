"""Proxies between the Moesif exporter and its endpoint: real ones, on the loopback address."""

from __future__ import annotations

import asyncio
import base64
import logging

import pytest

from otel_moesif import StartError
from otel_moesif.exporters.moesif.client import make_client
from otel_moesif.exporters.moesif.proxy import find_proxy
from tests.exporters.sending import send, settings_for, unreachable
from tests.exporters.servers import (
    Http1,
    Http2,
    Proxy,
    Socks,
    server_context,
)
from tests.ports import free_port


def test_through_a_proxy_to_https(authority):
    async def life():
        context = server_context(authority, "moesif.test")
        async with Http2(context) as server, Proxy() as proxy:
            url = f"https://moesif.test:{server.port}"
            tls = {"ca_file": authority.file}
            answers = await send(url, times=2, proxy_url=f"http://127.0.0.1:{proxy.port}", tls=tls)
            return answers, proxy.requests, server.port

    answers, requests, port = asyncio.run(life())
    assert [(answer.status, answer.http_version) for answer in answers] == [(201, "HTTP/2")] * 2
    assert [request.line for request in requests] == [f"CONNECT moesif.test:{port} HTTP/1.1"]
    assert "x-moesif-application-id" not in requests[0].headers


def test_through_a_proxy_of_the_environment_to_http(monkeypatch):
    async def life():
        async with Http1() as server, Proxy() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
            [answer] = await send(f"http://moesif.test:{server.port}")
            return answer, proxy.requests

    answer, [request] = asyncio.run(life())
    assert answer.status == 201
    assert request.line.startswith("POST http://moesif.test:")


def test_a_proxy_of_the_environment_has_no_way_to_this_machine(authority, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))

    async def life():
        async with Http1(tls=server_context(authority)) as server:
            return await send(server.url)

    assert asyncio.run(life())[0].status == 201


def test_through_a_socks_proxy(authority):
    async def life():
        async with Http1(tls=server_context(authority, "moesif.test")) as server, Socks() as proxy:
            url = f"https://moesif.test:{server.port}"
            tls = {"ca_file": authority.file}
            [answer] = await send(url, proxy_url=f"socks5://127.0.0.1:{proxy.port}", tls=tls)
            return answer, proxy.requests, server.port

    answer, [request], port = asyncio.run(life())
    assert answer.status == 201
    assert request.line == f"moesif.test:{port}"


def test_a_proxy_that_wants_a_password(authority, caplog):
    async def life():
        async with Http1(tls=server_context(authority, "moesif.test")) as server, Proxy() as proxy:
            proxy.wants = f"Basic {base64.b64encode(b'me:hunter2').decode()}"
            url = f"https://moesif.test:{server.port}"
            options = {"tls": {"ca_file": authority.file}}
            right = f"http://me:hunter2@127.0.0.1:{proxy.port}"
            [answer] = await send(url, proxy_url=right, **options)
            wrong = f"http://me:hunter3@127.0.0.1:{proxy.port}"
            return answer, await unreachable(url, proxy_url=wrong, **options), proxy.port

    with caplog.at_level(logging.DEBUG, "otel_moesif"):
        answer, error, port = asyncio.run(life())
    assert answer.status == 201
    assert f"the proxy http://127.0.0.1:{port} wants a user and a password (HTTP 407)" in error.what
    assert f"through the proxy http://127.0.0.1:{port}" in caplog.text
    assert "hunter" not in caplog.text + str(error)


def test_a_proxy_that_refuses(authority):
    async def life():
        async with Proxy() as proxy:
            proxy.status = 403
            return await unreachable("https://moesif.test", proxy_url=proxy.url), proxy.url

    error, url = asyncio.run(life())
    assert error.what == f"the proxy {url} refused (HTTP 403)"


def test_a_proxy_that_is_not_there():
    port = free_port()
    error = asyncio.run(unreachable("https://moesif.test", proxy_url=f"http://u:hunter2@127.0.0.1:{port}"))
    assert error.what == f"nobody listens at the proxy http://127.0.0.1:{port}"
    assert error.remedy == "check proxy_url"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_what_is_said_of_a_proxy_of_the_environment_names_its_variable(monkeypatch, variable):
    async def life():
        async with Proxy() as proxy:
            monkeypatch.setenv(variable, proxy.url)
            proxy.status = 407
            refused = await unreachable("https://moesif.test")
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
        return refused, await unreachable("https://moesif.test")

    refused, absent = asyncio.run(life())
    assert refused.remedy == f"set {variable} to http://user:password@host:port"
    assert absent.remedy == f"check {variable}"


@pytest.mark.parametrize(
    ("no_proxy", "host", "asked"),
    [
        ("", "api.moesif.net", True),
        ("*", "api.moesif.net", False),
        ("moesif.net", "api.moesif.net", False),
        (".moesif.net", "api.moesif.net", False),
        ("*.moesif.net", "api.moesif.net", False),
        ("esif.net", "api.moesif.net", True),
        ("API.moesif.net", "api.moesif.net", False),
        ("api.moesif.net:443", "api.moesif.net", False),
        ("api.moesif.net:80", "api.moesif.net", True),
        ("10.0.0.0/8, 192.168.0.0/16", "10.20.30.40", False),
        ("10.0.0.0/8", "11.20.30.40", True),
        ("10.20.30.40", "10.20.30.40", False),
        ("fd00::/8", "[fd00::1]", False),
        ("fd00::1", "[fd00::1]", False),
        ("[fd00::1]:443", "[fd00::1]", False),
        ("[fd00::1]:80", "[fd00::1]", True),
    ],
)
def test_who_is_reached_without_the_proxy_of_the_environment(monkeypatch, no_proxy, host, asked):
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert bool(find_proxy(settings_for(f"https://{host}"))) is asked


@pytest.mark.parametrize("host", ["localhost", "sandbox.localhost", "127.0.0.2", "[::1]"])
def test_a_proxy_that_is_configured_is_asked_whoever_is_to_be_reached(monkeypatch, host):
    monkeypatch.setenv("ALL_PROXY", "http://other.example.com:3128")
    assert find_proxy(settings_for(f"https://{host}")) is None
    configured = find_proxy(settings_for(f"https://{host}", proxy_url="http://proxy.example.com:3128"))
    assert configured.url == "http://proxy.example.com:3128"


@pytest.mark.parametrize("url", ["ftp://me:hunter2@proxy", "http://", "http://me:hunter2@proxy:port"])
def test_a_proxy_that_is_none(url, monkeypatch):
    with pytest.raises(StartError, match=r"^proxy_url: must be the URL of a proxy") as caught:
        make_client(settings_for("https://api.moesif.net", proxy_url=url))
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("ALL_PROXY", url)
    with pytest.raises(StartError, match=r"^ALL_PROXY: must be the URL of a proxy"):
        make_client(settings_for("https://api.moesif.net"))
