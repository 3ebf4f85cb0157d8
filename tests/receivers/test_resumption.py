"""Where clients have to show certificates, each connection does so: no TLS session is resumed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from otel_moesif import server_tls
from tests.receivers.doors import Authority, Door, Recorder
from tests.receivers.http_doors import HttpDoor

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
# What makes a server say something: in TLS 1.3 tickets come with or before it. gRPC's speaks first.
ASKING = {"http/1.1": b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", "h2": b""}


@contextlib.contextmanager
def listening(protocol: str, tls: dict):
    """A receiver of that protocol, told to take changed files at once; gives its port."""
    tls = {**tls, "reload_interval": "0s"}
    if protocol == "http/1.1":
        with HttpDoor(tls=tls) as door:
            yield door.server.port
        return
    loop = asyncio.new_event_loop()
    door = Door(Recorder(), tls=tls)
    loop.run_until_complete(door.__aenter__())
    try:
        yield door.server.port
    finally:
        loop.run_until_complete(door.__aexit__())
        loop.close()


class Client:
    """One that resumes its session whenever it is let.

    Args:
        authority: It trusts this one, and shows a certificate of it.
        protocol: For ALPN.
        version: Of TLS, the only one that it speaks.
    """

    def __init__(self, authority: Authority, protocol: str, version: ssl.TLSVersion) -> None:
        file = authority.directory / "client.pem"
        file.write_bytes(b"".join(authority.pair("gateway")))
        self._asking = ASKING[protocol]
        self._context = ssl.create_default_context(cadata=authority.pem.decode())
        self._context.minimum_version = self._context.maximum_version = version
        self._context.set_alpn_protocols([protocol])
        self._context.load_cert_chain(file)
        self._session: ssl.SSLSession | None = None

    def resumes(self, port: int) -> bool:
        """Open a connection, exchange something, close it; whether it went on with the session of before."""
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            self._context.wrap_socket(plain, server_hostname="localhost", session=self._session) as one,
        ):
            one.sendall(self._asking)
            assert one.recv(1)
            self._session = one.session
            return bool(one.session_reused)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", ASKING)
def test_no_session_outlives_a_connection_that_needed_a_certificate(tmp_path, protocol, version):
    authority = Authority(tmp_path)
    server, client = authority.write(), Client(authority, protocol, version)
    with listening(protocol, server) as port:
        assert [client.resumes(port) for _ in range(2)] == [False, True]  # the test sees resumption
    client = Client(authority, protocol, version)
    with listening(protocol, {**server, "client_ca_file": str(authority.file("clients.pem"))}) as port:
        assert [client.resumes(port) for _ in range(3)] == [False] * 3


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", ASKING)
def test_a_session_lets_nobody_in_whose_authority_was_replaced(tmp_path, protocol, version):
    (tmp_path / "other").mkdir()
    authority, next_one = Authority(tmp_path), Authority(tmp_path / "other")
    clients, client = authority.file("clients.pem"), Client(authority, protocol, version)
    with listening(protocol, {**authority.write(), "client_ca_file": str(clients)}) as port:
        client.resumes(port)
        clients.write_bytes(next_one.pem)
        with pytest.raises((OSError, AssertionError)):
            client.resumes(port)


def test_without_files_in_memory_there_are_no_tickets_at_least(tmp_path, monkeypatch):
    monkeypatch.setattr(server_tls, "_HAS_FILES_IN_MEMORY", False)
    authority = Authority(tmp_path)
    client = Client(authority, "http/1.1", ssl.TLSVersion.TLSv1_3)
    with listening("http/1.1", {**authority.write(), "client_ca_file": str(authority.file("c.pem"))}) as port:
        assert [client.resumes(port) for _ in range(2)] == [False, False]
