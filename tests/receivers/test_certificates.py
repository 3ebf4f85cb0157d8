"""The files of a server's TLS: followed, checked at the start, and what is said about them."""

from __future__ import annotations

import datetime as dt
import logging

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from pydantic import ValidationError

from otel_moesif import StartError
from otel_moesif.server_tls import Certificates, ServerTls
from tests.receivers.doors import Authority

logger = logging.getLogger("otel_moesif.receivers.otlp")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def certificates(tls: dict, clock=None) -> Certificates:
    settings = ServerTls.model_validate(tls)
    return Certificates(settings, "protocols::http::tls", logger, *([clock] if clock else []))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_files_are_looked_at_once_in_an_interval(authority):
    clock = Clock()
    own = certificates({**authority.write(), "reload_interval": "1m"}, clock)
    first = own.current()
    authority.write()
    clock.now += 59
    assert own.current() is first
    clock.now += 1
    second = own.current()
    assert second is not first
    clock.now += 60
    assert own.current() is second  # nothing has changed


def test_a_certificate_behind_a_symbolic_link_is_followed(authority, tmp_path):
    """Kubernetes replaces the directory that a link points to."""
    for number in (1, 2):
        (tmp_path / f"v{number}").mkdir()
        authority.directory = tmp_path / f"v{number}"
        authority.write()
    (tmp_path / "now").symlink_to("v1")
    links = {"cert_file": tmp_path / "now/server.pem", "key_file": tmp_path / "now/server.key"}
    own = certificates({**links, "reload_interval": "0s"})
    first = own.current()
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").replace(tmp_path / "now")
    assert own.current().certificate != first.certificate


@pytest.mark.parametrize("damage", ["garbage", "other key", "gone"])
def test_a_broken_file_keeps_the_old_certificate_and_is_said_once(authority, tmp_path, caplog, damage):
    own = certificates({**authority.write(), "reload_interval": "0s"})
    first = own.current()
    key = tmp_path / "server.key"
    if damage == "garbage":
        key.write_text("s3cret")
    elif damage == "other key":
        key.write_bytes(authority.pair()[1])
    else:
        key.unlink()
    for _ in range(3):
        assert own.current() is first
    errors = [x.getMessage() for x in caplog.records if x.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("protocols::http::tls::key_file: ")
    assert errors[0].endswith("the certificate read before stays in use")
    assert "s3cret" not in caplog.text
    with caplog.at_level(logging.INFO):
        authority.write()
        assert own.current() is not first
    assert "new certificate files are in use" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x / "server.pem").unlink(), "cert_file: cannot read .*server.pem: No such file"),
        (lambda x: (x / "server.key").unlink(), "key_file: cannot read .*server.key: No such file"),
        (lambda x: (x / "clients.pem").unlink(), "client_ca_file: cannot read .*clients.pem: No such file"),
        (lambda x: (x / "server.pem").write_bytes(b"\x30\x82"), "cert_file: .* no certificate in PEM form"),
        (lambda x: (x / "server.key").write_bytes(b""), "key_file: .* holds no private key in PEM form"),
        (lambda x: (x / "clients.pem").write_text("no"), "client_ca_file: .* no certificate in PEM form"),
        (lambda x: spoil(x / "server.pem"), "cert_file: .* are unusable: "),
        (lambda x: spoil(x / "clients.pem"), "client_ca_file: .*clients.pem is unusable: "),
        (
            lambda x: (x / "server.key").write_bytes(Authority(x).pair()[1]),
            "key_file: .*server.key is not the key of the certificate in .*server.pem",
        ),
        (lambda x: encrypt(x / "server.key"), "key_file: .*server.key is encrypted; it must not be"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_at_the_start(authority, tmp_path, change, message):
    tls = {**authority.write(), "client_ca_file": str(authority.file("clients.pem"))}
    change(tmp_path)
    with pytest.raises(StartError, match=rf"^protocols::http::tls::{message}"):
        certificates(tls).ssl_context()


def spoil(file) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "AAAA" * 16, *lines[2:]]))


def encrypt(file) -> None:
    key = load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, BestAvailableEncryption(b"word")
        )
    )


@pytest.mark.parametrize(
    ("ends", "warning"),
    [
        (dt.timedelta(days=-1), "will be refused by clients: certificate has expired"),
        (dt.timedelta(days=2), "ends soon: "),
        (dt.timedelta(days=30), None),
    ],
)
def test_a_certificate_that_ends_is_a_warning(authority, caplog, ends, warning):
    tls = authority.write(not_after=dt.datetime.now(dt.UTC) + ends)
    for more in ({}, {"client_ca_file": str(authority.file("clients.pem"))}):
        caplog.clear()
        certificates({**tls, **more}).current()
        assert (warning in caplog.text) if warning else caplog.text == ""


def test_keys_are_in_no_representation(authority):
    own = certificates(authority.write())
    assert "PRIVATE" not in repr(own.current())
    assert "PRIVATE" not in repr(own)


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ({"cert_file": "a"}, "key_file"),
        ({"cert_file": "a", "key_file": "b", "min_version": "1.1"}, "min_version"),
        ({"cert_file": "a", "key_file": "b", "reload_interval": "soon"}, "duration"),
    ],
)
def test_options_of_tls_are_checked(tls, problem):
    with pytest.raises(ValidationError, match=problem):
        ServerTls.model_validate(tls)
