"""Keys of servers' certificates: kinds that nobody can use, and some that gRPC's library cannot."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import ssl

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from otel_moesif import StartError
from otel_moesif.receivers.otlp.receiver import OtlpReceiver
from otel_moesif.receivers.otlp.settings import OtlpSettings
from tests.receivers.doors import Authority, Door, Recorder, context, spans

KINDS = {
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "brainpoolP256r1": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
}
# On which OpenSSL makes signatures, but not in TLS.
NOBODY = ["brainpoolP256r1", "secp256k1"]


def write(directory, kind: str, **tls) -> dict:
    """A certificate of its own, with a key of that kind; gives the options of ``tls``."""
    key = KINDS[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, None if kind.startswith("Ed") else hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM)
    (directory / "server.pem").write_bytes(text)
    (directory / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {"cert_file": str(directory / "server.pem"), "key_file": str(directory / "server.key"), **tls}


def receiver(protocol: str, tls: dict) -> OtlpReceiver:
    options = {"protocols": {protocol: {"endpoint": "127.0.0.1:0", "tls": tls}}}
    return OtlpReceiver(OtlpSettings.model_validate(options), context())


async def started_and_ended(protocol: str, tls: dict) -> None:
    own = receiver(protocol, tls)
    await own.start(Recorder())
    await own.shutdown()


@pytest.mark.parametrize("kind", NOBODY)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("asks", [False, True])
def test_a_key_that_no_client_agrees_on_ends_the_start(tmp_path, kind, protocol, asks):
    tls = write(tmp_path, kind)
    if asks:
        tls["client_ca_file"] = str(Authority(tmp_path).file("clients.pem"))
    where = (
        rf"^receivers::otlp::protocols::{protocol}::tls::cert_file: .*server.pem is unusable: clients cannot"
    )
    with pytest.raises(StartError, match=where) as caught:
        asyncio.run(started_and_ended(protocol, tls))
    assert "\n" not in str(caught.value)


def test_so_does_one_where_only_tls_13_is_spoken(tmp_path):
    with pytest.raises(StartError, match="clients cannot agree on it"):
        asyncio.run(started_and_ended("http", write(tmp_path, "secp256k1", min_version="1.3")))


@pytest.mark.parametrize("kind", [*NOBODY, "Ed448"])
def test_grpc_keeps_the_old_certificate_when_the_new_key_cannot_be_used(tmp_path, caplog, kind):
    async def run():
        async with Door(recorder := Recorder(), tls=write(tmp_path, "RSA", reload_interval="0s")) as door:
            old = grpc.ssl_channel_credentials((tmp_path / "server.pem").read_bytes())
            write(tmp_path, kind)
            for _ in range(3):
                channel = door.channel(old)
                assert await door.call(spans(), channel=channel) == b""
                await channel.close()
            assert len(recorder.requests) == 3

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert said_once(caplog)


@pytest.mark.parametrize("kind", NOBODY)
def test_http_keeps_the_old_certificate_and_resets_nobody(tmp_path, caplog, kind):
    async def run():
        own = receiver("http", write(tmp_path, "RSA", reload_interval="0s"))
        await own.start(Recorder())
        client = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
        write(tmp_path, kind)
        for _ in range(3):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", own.http_port, ssl=client, server_hostname="localhost"
            )
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 30)).startswith(b"HTTP/1.1 404")
            writer.close()
        await own.shutdown()

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    assert said_once(caplog)


def said_once(caplog) -> bool:
    errors = [x.getMessage() for x in caplog.records if x.levelno == logging.ERROR]
    assert "new certificate files are in use" not in caplog.text
    assert [x.endswith("the certificate read before stays in use") for x in errors] == [True]
    return True


@pytest.mark.parametrize(
    ("kind", "known"),
    [("RSA", True), ("P-256", True), ("P-384", True), ("P-521", False), ("Ed25519", False)],
)
@pytest.mark.parametrize("asks", [False, True])
def test_a_warning_says_that_grpc_clients_cannot_connect_and_only_then(tmp_path, caplog, kind, known, asks):
    """Against the library's own client, so that a version that learns these kinds is noticed."""
    authority = Authority(tmp_path)

    async def run():
        tls = write(tmp_path, kind)
        if asks:
            tls["client_ca_file"] = str(authority.file("clients.pem"))
        async with Door(Recorder(), tls=tls) as door:
            chain, key = authority.pair("gateway") if asks else (None, None)
            channel = door.channel(
                grpc.ssl_channel_credentials(
                    (tmp_path / "server.pem").read_bytes(), private_key=key, certificate_chain=chain
                )
            )
            if known:
                assert await door.call(spans(), channel=channel) == b""
            else:
                failure = await door.failure(spans(), channel=channel)
                assert failure.code() is grpc.StatusCode.UNAVAILABLE
            await channel.close()

    asyncio.run(run())
    warned = "gRPC clients of Python, C++, Ruby and PHP do not know" in caplog.text
    assert warned is not known


@pytest.mark.parametrize("kind", ["P-521", "Ed25519", "Ed448"])
def test_http_takes_the_keys_that_grpc_does_not_know(tmp_path, caplog, kind):
    asyncio.run(started_and_ended("http", write(tmp_path, kind)))
    assert "cert_file" not in caplog.text


def test_a_key_that_grpc_cannot_use_at_all_ends_the_start(tmp_path):
    where = r"^receivers::otlp::protocols::grpc::tls::cert_file: .* gRPC has no use for a key of its kind"
    with pytest.raises(StartError, match=where):
        asyncio.run(started_and_ended("grpc", write(tmp_path, "Ed448")))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_comments_beside_certificates_may_be_of_any_letters(tmp_path, caplog, protocol):
    tls = write(tmp_path, "P-256", client_ca_file=str(authorities := Authority(tmp_path).file("clients.pem")))
    for file in (tmp_path / "server.pem", authorities):
        file.write_bytes("# Türktrust\n".encode() + file.read_bytes())
    asyncio.run(started_and_ended(protocol, tls))
    assert "cert_file" not in caplog.text


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_certificate_in_a_form_of_openssl_alone_ends_the_start(tmp_path, protocol):
    tls = write(tmp_path, "P-256")
    file = tmp_path / "server.pem"
    file.write_bytes(file.read_bytes().replace(b" CERTIFICATE-", b" TRUSTED CERTIFICATE-"))
    with pytest.raises(
        StartError, match=r"tls::cert_file: .*server.pem is unusable: it holds no certificate"
    ):
        asyncio.run(started_and_ended(protocol, tls))
