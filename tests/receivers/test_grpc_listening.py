"""Where gRPC listens, and what is said if it cannot."""

from __future__ import annotations

import asyncio
import socket

import pytest

from otel_moesif import StartError
from otel_moesif.receivers.otlp.receiver import OtlpReceiver
from otel_moesif.receivers.otlp.settings import OtlpSettings
from tests.receivers.doors import Authority, Recorder, context


def receiver(protocol: str, endpoint: str, **options) -> OtlpReceiver:
    settings = {"protocols": {protocol: {"endpoint": endpoint, **options}}}
    return OtlpReceiver(OtlpSettings.model_validate(settings), context())


def refusal(protocol: str, endpoint: str, **options) -> str:
    """Why it does not start."""

    async def run():
        own = receiver(protocol, endpoint, **options)
        try:
            await own.start(Recorder())
        finally:
            await own.shutdown()

    with pytest.raises(StartError) as caught:
        asyncio.run(run())
    return str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("192.0.2.1:4317", "Cannot assign requested address"),  # RFC 5737: nobody's
        ("no-such-host.invalid:4317", None),  # in the words of the resolver
        ("127.0.0.1:{}", "is the port in use?"),
        ("0.0.0.0:{}", "is the port in use?"),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_it_gives_the_reason_that_http_gives(tmp_path, endpoint, reason, tls):
    options = {"tls": Authority(tmp_path).write()} if tls else {}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = endpoint.format(taken.getsockname()[1])
        said, by_http = refusal("grpc", endpoint, **options), refusal("http", endpoint)
    assert said == by_http.replace("::http::", "::grpc::")
    assert said.startswith(f"otlp: cannot listen on {endpoint} (")
    assert reason is None or reason in said
    assert ("in use" in said) is (reason == "is the port in use?")


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_is_no_name_of_a_host_is_said(protocol, host):
    assert "cannot listen on" in refusal(protocol, f"{host}:4317")


def test_a_name_of_which_one_address_is_taken_is_not_listened_on():
    """gRPC's library takes localhost's other address; clients of the first would reach somebody else."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "is the port in use?" in refusal("grpc", f"localhost:{taken.getsockname()[1]}")


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "LocalHost", "127.0.0.1"])
def test_this_machine_is_not_open_to_others_however_it_is_spelt(caplog, protocol, host):
    async def run():
        own = receiver(protocol, f"{host}:0")
        await own.start(Recorder())
        await own.shutdown()

    asyncio.run(run())
    assert "open to other machines" not in caplog.text
