"""TLS of the Moesif exporter's client, against real servers on the loopback address."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from otel_moesif import StartError
from otel_moesif.client_tls import ClientTls
from otel_moesif.exporters.moesif.client import make_client
from tests.exporters.sending import send, settings_for, unreachable
from tests.exporters.servers import (
    Http1,
    NoTls,
    handshake,
    server_context,
)


def test_row_k_a_certificate_of_an_unknown_authority_is_not_accepted(authority):
    """Moesif's Lua client switches verification off."""

    async def life():
        async with Http1(tls=server_context(authority)) as server:
            error = await unreachable(server.url)
            assert server.requests == []
            return error

    error = asyncio.run(life())
    assert "its certificate is not trusted: " in error.what
    assert error.remedy == "set tls::ca_file to the authority that issued it"


def test_an_authority_from_a_file(authority):
    async def life():
        async with Http1(tls=server_context(authority)) as server:
            return await send(server.url, tls={"ca_file": authority.file})

    assert asyncio.run(life())[0].status == 201


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_an_authority_from_the_environment_also_for_this_machine(authority, monkeypatch, tmp_path, variable):
    # the name that OpenSSL looks a certificate up by: openssl-rehash(1)
    names = {
        "SSL_CERT_FILE": tmp_path / "any.pem",
        "SSL_CERT_DIR": tmp_path / f"{_subject_hash(authority)}.0",
    }
    authority.cert_pem.write_to_path(names[variable])
    monkeypatch.setenv(variable, str(names[variable] if variable == "SSL_CERT_FILE" else tmp_path))

    async def life():
        async with Http1(tls=server_context(authority)) as server:
            return await send(server.url)

    assert asyncio.run(life())[0].status == 201


def _subject_hash(authority):
    """OpenSSL's X509_NAME_hash: of the subject's canonical encoding, so better asked of OpenSSL itself."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is missing")
    command = ["openssl", "x509", "-in", str(authority.file), "-noout", "-subject_hash"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def test_an_authority_from_a_file_is_trusted_instead_of_others(authority, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))

    async def life():
        async with Http1(tls=server_context(authority)) as server:
            return await unreachable(server.url, tls={"ca_file": other})

    assert "not trusted" in str(asyncio.run(life()))


def test_a_certificate_for_another_name(authority):
    async def life():
        async with Http1(tls=server_context(authority, "api.example.com")) as server:
            return await unreachable(server.url, tls={"ca_file": authority.file})

    error = asyncio.run(life())
    assert error.what.endswith("its certificate is not for 127.0.0.1")
    assert error.remedy == "check endpoint"


def test_a_certificate_that_has_expired(authority):
    async def life():
        yesterday = datetime.now(UTC) - timedelta(days=1)
        async with Http1(tls=server_context(authority, not_after=yesterday)) as server:
            return await unreachable(server.url, tls={"ca_file": authority.file})

    assert "its certificate has expired" in asyncio.run(life()).what


def test_verification_can_be_switched_off_and_is_said(authority, caplog):
    async def life():
        async with Http1(tls=server_context(authority, "api.example.com")) as server:
            return await send(server.url, tls={"insecure_skip_verify": True})

    assert asyncio.run(life())[0].status == 201
    assert [record.levelname for record in caplog.records if "insecure_skip_verify" in record.message] == [
        "WARNING"
    ]


@pytest.mark.parametrize("version_", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate(authority, tmp_path, version_):
    context = server_context(authority)
    context.verify_mode, context.minimum_version, context.maximum_version = (
        ssl.CERT_REQUIRED,
        version_,
        version_,
    )
    context.load_verify_locations(authority.file)
    certificate = authority.issue_cert("client")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ours = {"cert_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}

    async def life():
        async with Http1(tls=context) as server:
            [answer] = await send(server.url, tls={"ca_file": authority.file, **ours})
            return answer

    assert asyncio.run(life()).status == 201
    with handshake(context) as url:
        error = asyncio.run(unreachable(url, tls={"ca_file": authority.file}))
    if version_ is ssl.TLSVersion.TLSv1_3:
        assert error.what.endswith("127.0.0.1 wants a client certificate")
        assert error.remedy == "set tls::cert_file and tls::key_file"
    else:
        assert error.remedy.endswith("does it want a client certificate?")


def test_an_old_version_of_tls(authority):
    context = server_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    with handshake(context) as url:
        error = asyncio.run(unreachable(url, tls={"ca_file": authority.file, "min_version": "1.3"}))
    assert error.what.endswith("127.0.0.1 speaks another version of TLS")
    assert error.remedy == "check tls::min_version"


def test_tls_to_a_port_without_it():
    async def life():
        async with NoTls() as server:
            return await unreachable(server.url.replace("http:", "https:"))

    error = asyncio.run(life())
    assert error.what.endswith("127.0.0.1 does not speak TLS")
    assert error.remedy.startswith("check endpoint")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ca_file": "absent.pem"}, "tls::ca_file: cannot read absent.pem: No such file or directory"),
        ({"ca_file": "."}, "tls::ca_file: cannot read .: Is a directory"),
        ({"ca_file": "text"}, "tls::ca_file: text holds no certificate in PEM form"),
        ({"ca_file": "empty"}, "tls::ca_file: empty holds no certificate in PEM form"),
        (
            {"cert_file": "text", "key_file": "key.pem"},
            "tls::cert_file: text holds no certificate in PEM form",
        ),
        (
            {"cert_file": "cert.pem", "key_file": "absent.pem"},
            "tls::key_file: cannot read absent.pem: No such file or directory",
        ),
        (
            {"cert_file": "cert.pem", "key_file": "text"},
            "tls::key_file: text holds no private key in PEM form",
        ),
        (
            {"cert_file": "cert.pem", "key_file": "other_key.pem"},
            "tls::key_file: other_key.pem is not the key of cert.pem",
        ),
        (
            {"cert_file": "cert.pem", "key_file": "encrypted.pem"},
            "tls::key_file: encrypted.pem has a passphrase; a key without one is needed",
        ),
    ],
)
def test_files_that_cannot_be_used(authority, monkeypatch, tmp_path, options, said):
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("SECRET CONTENT")
    (tmp_path / "empty").touch()
    one, other = authority.issue_cert("one"), authority.issue_cert("other")
    one.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    one.private_key_pem.write_to_path(tmp_path / "key.pem")
    other.private_key_pem.write_to_path(tmp_path / "other_key.pem")
    key = serialization.load_pem_private_key(one.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    (tmp_path / "encrypted.pem").write_bytes(encrypted)
    with pytest.raises(StartError) as caught:
        make_client(settings_for("https://api.moesif.net", tls=options))
    assert str(caught.value) == said
    assert "SECRET" not in str(caught.value)


def test_a_file_of_the_environment_that_is_not_there(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(StartError, match=r"SSL_CERT_FILE: cannot read /nowhere/ca.pem"):
        make_client(settings_for("https://localhost"))


def test_without_anything_said_the_usual_authorities_are_trusted():
    assert len(ClientTls().ssl_context().get_ca_certs()) > 50


@pytest.mark.parametrize("options", [{"cert_file": "cert.pem"}, {"key_file": "key.pem"}])
def test_a_client_certificate_needs_its_key(options):
    with pytest.raises(ValueError, match=r"(cert|key)_file needs (key|cert)_file beside it"):
        ClientTls(**options)
