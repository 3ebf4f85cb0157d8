"""TLS of OTLP/gRPC: certificates that follow their files, and sessions that nobody resumes."""

from __future__ import annotations

import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import grpc

from otel_moesif.server_tls import Certificates, Credentials

_PROBE_SECONDS = 10.0


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Follows the files: gRPC asks at each handshake, on a thread of its own.

    Where clients have to show certificates, each handshake gets a configuration of its own, and with it keys
    of its own for session tickets: who resumes a session shows no certificate again, and grpcio cannot be
    told to give no tickets.

    Raises:
        StartError: A file is missing or unusable.
    """
    used = certificates.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        current = certificates.current()
        if current is used and current.authorities is None:
            return None
        used = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used), fetch, require_client_authentication=used.authorities is not None
    )


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credentials.key, credentials.certificate)], root_certificates=credentials.authorities
    )


def speaks_only_tls13(credentials: Credentials) -> bool:
    """Whether this process's gRPC refuses TLS 1.2 and speaks 1.3, found out by being its client; blocks.

    Args:
        credentials: What the server would show. That of the probe asks for no certificate: a client that
            has none would be refused for that.
    """
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        own = grpc.ssl_server_credentials([(credentials.key, credentials.certificate)])
        try:
            port = server.add_secure_port("localhost:0", own)
        except RuntimeError:  # it knows no such suite
            return False
        server.start()
        try:
            return _shake(port, ssl.TLSVersion.TLSv1_3) and not _shake(port, ssl.TLSVersion.TLSv1_2)
        finally:
            server.stop(None).wait()


def _shake(port: int, version: ssl.TLSVersion) -> bool:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE  # it is ourselves
    client.minimum_version = client.maximum_version = version
    client.set_alpn_protocols(["h2"])
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("localhost", port), timeout=_PROBE_SECONDS) as plain,
        client.wrap_socket(plain),
    ):
        return True
    return False
