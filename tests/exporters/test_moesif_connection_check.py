"""What ``otel-moesif check`` says of Moesif, for whatever answers at the endpoint."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
import trustme

from otel_moesif.exporters.moesif.client import make_client
from otel_moesif.exporters.moesif.connection_check import check_application
from otel_moesif.exporters.moesif.settings import MoesifSettings
from tests.exporters.conftest import FIXTURES
from tests.exporters.servers import Http1, Http2, Proxy, answered, server_context
from tests.ports import free_port

APPLICATION_ID = "eyJhcHAiOiJ0ZXN0In0.secret-part-wxyz"
CONFIG = json.dumps({"app_id": "1:2", "sample_rate": 100}).encode()


async def check(endpoint, **options):
    settings = MoesifSettings.model_validate({"endpoint": endpoint, "timeout": "5s", **options})
    async with make_client(settings) as client:
        return await check_application(client, settings, APPLICATION_ID)


@pytest.fixture
def check_answer():
    """What is said of an answer, and the request that it was an answer to."""

    def run(answer, path="", **options):
        async def life():
            async with Http1(answer) as server:
                checked = await check(server.url + path, **options)
                return checked, server.requests

        checked, [request] = asyncio.run(life())
        assert "secret" not in repr(checked)
        return checked, request

    return run


def test_a_key_that_is_accepted(check_answer):
    checked, request = check_answer(answered(200, CONFIG))
    assert checked.ok
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+, application id …wxyz", checked.subject)
    assert re.fullmatch(r"accepted in \d+ ms over HTTP/1\.1; rates: 100 % of all calls", checked.verdict)
    assert checked.remedy == ""
    assert request.line == "GET /v1/config HTTP/1.1"
    assert request.headers["x-moesif-application-id"] == APPLICATION_ID
    assert request.body == b""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sample_rate": 12.5}, "rates: 12.5 % of all calls"),
        ({"app_id": "x"}, "rates: 100 % of all calls"),
        (
            {"sample_rate": 0, "user_sample_rate": {"a": 1}, "company_sample_rate": {"b": 2, "c": 3}},
            "rates: 0 % of all calls; others for 1 user, 2 companies",
        ),
        ({"sample_rate": "all", "regex_config": None}, "rates: an unknown part of all calls"),
    ],
)
def test_the_rates_are_told(check_answer, config, said):
    checked, _ = check_answer(answered(200, json.dumps(config).encode()))
    assert checked.ok
    assert checked.verdict.endswith(said)


def test_the_rates_of_a_real_account(check_answer):
    path = FIXTURES / "moesif" / "java_config_regex_and_entities.json"
    if not path.exists():
        pytest.skip("the folder with Moesif's configs is not here")
    config = json.loads(path.read_text())
    checked, _ = check_answer(answered(200, path.read_bytes()))
    rules = len(config["regex_config"])
    assert checked.verdict.endswith(
        f"; rates: 100 % of all calls; others for 3 users, 7 companies, {rules} regex rule{'s' * (rules > 1)}"
    )


def test_rates_that_are_not_applied(check_answer):
    checked, _ = check_answer(answered(200, CONFIG), sampling={"enabled": False})
    assert checked.verdict.endswith("(not applied: sampling::enabled is false)")


def test_nothing_new_is_as_good(check_answer):
    checked, _ = check_answer(answered(304))
    assert checked.ok


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "check application_id: the Collector Application Id under API Keys in Moesif's account menu"),
        (402, "the subscription at Moesif is not active: see Billing in Moesif's account menu"),
        (403, "check application_id, and whether it may write: it must be a Collector Application Id"),
        (404, "check endpoint: it must be the base URL of Moesif's collector API, https://api.moesif.net"),
        (400, "check endpoint: the collector API is https://api.moesif.net"),
        (204, "check endpoint: the collector API is https://api.moesif.net"),
        (429, "nothing to set right here; events are kept until it answers"),
        (503, "nothing to set right here; events are kept until it answers"),
    ],
)
def test_a_status_that_is_not_well(check_answer, status, remedy):
    checked, _ = check_answer(answered(status, f"no {APPLICATION_ID}".encode()))
    assert not checked.ok
    assert checked.verdict in {f"HTTP {status}: no …wxyz", f"HTTP {status}"}
    assert checked.remedy == remedy


def test_a_redirect_says_where_to(check_answer):
    checked, _ = check_answer(answered(301, Location="https://elsewhere.example.com/v1/config"))
    assert checked.verdict == "HTTP 301: it points to https://elsewhere.example.com/v1/config"
    assert checked.remedy.startswith("check endpoint")


@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b"{}", b"[]", b'{"message": "hello"}', b""])
def test_another_api_that_says_yes_to_everything(check_answer, body):
    checked, _ = check_answer(answered(200, body))
    assert not checked.ok
    assert checked.verdict.startswith("HTTP 200, but what came is not Moesif's")
    assert checked.remedy == "check endpoint: is it the collector API, https://api.moesif.net?"


def test_v1_twice(check_answer):
    checked, request = check_answer(answered(404), "/v1/v1")
    assert request.line == "GET /v1/v1/config HTTP/1.1"
    assert checked.remedy == "take /v1 out of endpoint: /v1/config and the like are added to it"


def test_a_page_of_the_api_instead_of_its_base(check_answer):
    checked, _ = check_answer(answered(404), "/v1/events/batch")
    assert checked.remedy.startswith("take /v1/events/batch out of endpoint")


def test_a_path_with_v1_may_be_right(check_answer):
    checked, _ = check_answer(answered(200, CONFIG), "/v1/collector")
    assert checked.ok


@pytest.mark.parametrize("host", ["api.moesif.com", "www.moesif.com"])
@pytest.mark.parametrize("status", [200, 401, 404])
def test_the_management_api_is_not_the_collector_api(host, status):
    async def life():
        async with Http1(answered(status, b"{}")) as server, Proxy() as proxy:
            return await check(f"http://{host}:{server.port}", proxy_url=proxy.url), proxy.url

    checked, proxy = asyncio.run(life())
    assert not checked.ok
    assert checked.subject.endswith(f", through the proxy {proxy}")
    assert checked.remedy == f"set endpoint to https://api.moesif.net: {host} is not the collector API"


def test_over_http2_and_tls(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def life():
        async with Http2(server_context(authority)) as server:
            server.status, server.body = 200, CONFIG
            good = await check(server.url, tls={"ca_file": tmp_path / "ca.pem"})
            return good, await check(server.url)

    good, bad = asyncio.run(life())
    assert re.fullmatch(r"accepted in \d+ ms over HTTP/2; rates: 100 % of all calls", good.verdict)
    assert "its certificate is not trusted" in bad.verdict
    assert bad.remedy == "set tls::ca_file to the authority that issued it"


def test_nobody_there():
    port = free_port()
    checked = asyncio.run(check(f"http://127.0.0.1:{port}"))
    assert not checked.ok
    assert checked.verdict == f"nobody listens at 127.0.0.1:{port}"
    assert checked.remedy == "check endpoint"


def test_silence():
    async def life():
        async with Http1(lambda writer: asyncio.Event().wait()) as server:
            return await check(server.url, timeout="100ms")

    checked = asyncio.run(life())
    assert not checked.ok
    assert checked.verdict == "no answer within 0.1 s"
    assert checked.remedy == (
        "check endpoint: is it a collector API that listens there? If it is only slow, set a longer timeout"
    )


def test_silence_behind_a_proxy_of_the_environment(monkeypatch):
    async def life():
        async with Http1(lambda writer: asyncio.Event().wait()) as server, Proxy() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            return await check(f"http://moesif.test:{server.port}", timeout="100ms")

    checked = asyncio.run(life())
    assert checked.verdict == "no answer within 0.1 s"
    assert checked.remedy.startswith("check endpoint and HTTP_PROXY: ")
