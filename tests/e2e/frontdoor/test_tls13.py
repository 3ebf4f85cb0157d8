"""``min_version: "1.3"`` for gRPC, whose library can only be told through the environment of the process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess

import grpc
import pytest

from otel_moesif.errors import StartError
from otel_moesif.receivers.otlp.tls13_only import SUITE, VARIABLE
from tests.e2e.collector import Collector
from tests.e2e.frontdoor.payloads import calls
from tests.e2e.traffic import TRACES
from tests.processes import until
from tests.receivers.doors import Authority, Door, Recorder

NOWHERE = {"moesif": "http://127.0.0.1:9"}
REFUSED = 2  # the exit code of a wrong configuration
STRICT = {"min_version": "1.3", "reload_interval": "0s"}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def shakes(port: int, authority: Authority, version: ssl.TLSVersion, certificate: str = "") -> bool:
    """Whether a client that speaks only this version, with any cipher, gets an answer."""
    client = ssl.create_default_context(cadata=authority.pem.decode())
    client.minimum_version = client.maximum_version = version
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.set_alpn_protocols(["h2"])
    if certificate:
        client.load_cert_chain(certificate)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        client.wrap_socket(plain, server_hostname="localhost") as one,
    ):
        return bool(one.recv(1))
    return False


def versions(port: int, authority: Authority, certificate: str = "") -> list[str]:
    return [
        version.name
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
        if shakes(port, authority, version, certificate)
    ]


def sends(target: str, credentials: grpc.ChannelCredentials) -> None:
    """One good request, over gRPC's own client."""
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(target, credentials, options) as channel:
        assert channel.unary_unary(TRACES)(calls(1).body, timeout=20) == b""


def openssl_shakes(port: int, flag: str) -> bool:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", flag, "-alpn", "h2"]
    done = subprocess.run(command, input=b"", capture_output=True, check=False, timeout=20)
    return b"Verify return code" in done.stdout and b"Cipher is (NONE)" not in done.stdout


@pytest.mark.parametrize("mutual", [False, True], ids=["TLS", "mTLS"])
def test_grpc_speaks_tls_1_3_alone_also_with_new_certificates(tmp_path, authority, mutual):
    (tmp_path / "other").mkdir()
    next_one = Authority(tmp_path / "other")
    pair, certificate = authority.pair("gateway"), ""
    tls = {**authority.write(), **STRICT}
    if mutual:
        tls["client_ca_file"] = str(authority.file("clients.pem"))
        certificate = str(tmp_path / "gateway.pem")
        (tmp_path / "gateway.pem").write_bytes(b"".join(pair))
    collector = Collector(tmp_path, NOWHERE, grpc={"tls": tls})
    with collector.run():
        port, shown = collector.grpc_port, pair if mutual else None
        assert versions(port, authority, certificate) == ["TLSv1_3"]
        sends(collector.target, authority.credentials(shown))
        if shutil.which("openssl") and not mutual:
            assert (openssl_shakes(port, "-tls1_3"), openssl_shakes(port, "-tls1_2")) == (True, False)
        for file, text in zip(("server.pem", "server.key"), next_one.pair(), strict=True):
            (tmp_path / file).write_bytes(text)
        until(lambda: versions(port, next_one, certificate) == ["TLSv1_3"], "the new certificate")
        sends(collector.target, next_one.credentials(shown))


def test_without_it_both_versions_are_spoken(tmp_path, authority):
    collector = Collector(tmp_path, NOWHERE, grpc={"tls": authority.write()})
    with collector.run():
        assert versions(collector.grpc_port, authority) == ["TLSv1_2", "TLSv1_3"]


def refusal(collector: Collector) -> str:
    """What a collector says that does not start since its configuration is wrong."""
    with collector.start() as process:
        until(lambda: process.exit_code is not None, "its end", timeout=20)
        assert process.exit_code == REFUSED
    return collector.log.read_text()


def test_ciphers_that_the_operator_chose_are_not_overridden(tmp_path, authority):
    chosen = "ECDHE-ECDSA-AES128-GCM-SHA256"
    tls = {**authority.write(), **STRICT}
    said = refusal(Collector(tmp_path, NOWHERE, grpc={"tls": tls}, env={VARIABLE: chosen}))
    assert "receivers::otlp::protocols::grpc::tls::min_version: " in said
    assert f"{VARIABLE}, which is set to something else; unset it" in said


def test_own_metrics_over_grpc_load_the_library_too_soon_unless_the_environment_is_prepared(
    tmp_path, authority
):
    collector = Collector(tmp_path, NOWHERE, grpc={"tls": {**authority.write(), **STRICT}})
    push = {"endpoint": "http://127.0.0.1:9", "interval": "1h"}
    collector.config["service"]["telemetry"]["metrics"]["otlp"] = push
    assert f"start the collector with {VARIABLE}={SUITE} in its environment" in refusal(collector)
    collector.env = {VARIABLE: SUITE}
    with collector.run():
        assert versions(collector.grpc_port, authority) == ["TLSv1_3"]


def test_a_library_that_speaks_1_2_all_the_same_is_found_out_before_anybody_comes(authority):
    """As is that of this process, which was loaded without the variable."""

    async def run():
        async with Door(Recorder(), tls={**authority.write(), **STRICT}):
            pass

    with pytest.raises(
        StartError, match=r"protocols::grpc::tls::min_version: .* speaks TLS 1\.2 all the same"
    ):
        asyncio.run(run())
