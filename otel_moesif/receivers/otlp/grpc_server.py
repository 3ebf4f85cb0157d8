"""OTLP over gRPC: the listening port, its bounds and its certificates.

This is grpcio's server of threads. That of asyncio would cost a little less per call, but the one of 1.85
ends, with all its connections, at the first call whose path is not UTF-8: one packet of anybody (measured:
1.85.1, 1.85.3; not 1.80). ``tests/receivers/test_grpc_bounds.py`` has the packet.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from otel_moesif.component import Context, Intake
from otel_moesif.endpoint import format_endpoint, parse_endpoint
from otel_moesif.errors import StartError
from otel_moesif.receivers.otlp.access import Access
from otel_moesif.receivers.otlp.grpc_calls import Calls
from otel_moesif.receivers.otlp.grpc_credentials import server_credentials, speaks_only_tls13
from otel_moesif.receivers.otlp.grpc_memory import give_back
from otel_moesif.receivers.otlp.grpc_settings import GrpcSettings
from otel_moesif.receivers.otlp.tls13_only import VARIABLE

if TYPE_CHECKING:
    from datetime import timedelta

    from otel_moesif.server_tls import Certificates

# The machine does not have this family of addresses: another one of the same name does.
_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
# What a stop leaves to requests that are just being answered.
_GRACE_SECONDS = 5.0
# Threads beyond one for each request in flight: for those that are refused.
_SPARE_THREADS = 16
# gRPC's word for "never" in milliseconds (INT_MAX).
_NEVER = 2**31 - 1


class GrpcServer:
    """Listens for OTLP/gRPC.

    Args:
        settings: Validated options.
        access: Judges who may send.
        context: The receiver's identity and logger.
    """

    def __init__(self, settings: GrpcSettings, access: Access, context: Context) -> None:
        self._settings = settings
        self._access = access
        self._context = context
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._calls: Calls | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self, intake: Intake) -> None:
        """Listen.

        Raises:
            StartError: The port is in use, or a certificate is unusable.
        """
        certificates = self._access.certificates
        credentials = await self._credentials(certificates) if certificates else None
        host, port = parse_endpoint(self._settings.endpoint)
        taken = await _cannot_bind(host, port)
        if taken and taken.errno == errno.EADDRINUSE:  # gRPC would listen on what else its name stands for
            raise StartError(self._why_not(taken))
        self._calls = Calls(self._settings, self._access, self._context, intake, asyncio.get_running_loop())
        threads = ThreadPoolExecutor(self._settings.max_requests_in_flight + _SPARE_THREADS, "otlp-grpc")
        server = grpc.server(threads, handlers=[self._calls], options=_options(self._settings))
        try:
            address = format_endpoint(host, port)
            self.port = (
                server.add_secure_port(address, credentials)
                if credentials
                else server.add_insecure_port(address)
            )
        except RuntimeError:
            raise StartError(self._why_not(await _cannot_bind(host, port))) from None
        server.start()
        self._server, self._threads = server, threads
        self._sweeping = asyncio.create_task(self._sweep(self._calls), name="otlp-grpc-late")
        what = "OTLP/gRPC with TLS" if credentials else "OTLP/gRPC"
        self._context.logger.info("listening for %s on %s", what, format_endpoint(host, self.port))

    async def shutdown(self) -> None:
        """Answer what came in, and take nothing any more; safe unstarted and twice."""
        server, self._server = self._server, None
        if server is None:
            return
        try:
            await asyncio.to_thread(server.stop(_GRACE_SECONDS).wait)
        finally:
            if self._calls:
                self._calls.release()
            if self._threads:
                self._threads.shutdown(wait=False, cancel_futures=True)
            if self._sweeping:
                self._sweeping.cancel()

    async def _credentials(self, certificates: Certificates) -> grpc.ServerCredentials:
        tls = self._settings.tls
        credentials = server_credentials(certificates)
        if (
            tls
            and tls.min_version == "1.3"
            and not await asyncio.to_thread(speaks_only_tls13, certificates.current())
        ):
            raise StartError(
                f"receivers::{self._context.id}::protocols::grpc::tls::min_version: the installed gRPC "
                f'library speaks TLS 1.2 all the same, although {VARIABLE} is set; leave it at "1.2"'
            )
        return credentials

    def _why_not(self, error: OSError | None) -> str:
        """Why gRPC's library cannot listen, which it does not say itself.

        Args:
            error: What it is without that library; None: then it can be done.
        """
        where = f"receivers::{self._context.id}::protocols::grpc"
        if error is None and self._settings.tls:
            return f"{where}::tls::cert_file: {self._settings.tls.cert_file} is unusable for gRPC's library"
        if error is None or error.errno == errno.EADDRINUSE:  # None: it was taken just now
            why = "is the port in use?"
        else:
            why = f"{error.strerror};"
        return f"{self._context.id}: cannot listen on {self._settings.endpoint} ({why} set {where}::endpoint)"

    async def _sweep(self, calls: Calls) -> None:
        pause = min(self._settings.read_timeout.total_seconds() / 4, 1.0)
        while True:
            await asyncio.sleep(pause)
            calls.end_late()
            if calls.leavings.due():
                await asyncio.to_thread(give_back)


async def _cannot_bind(host: str, port: int) -> OSError | None:
    """What speaks against listening there; of several addresses of a name rather that one is taken."""
    errors: list[OSError] = []
    bound = False
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except UnicodeError:  # a label of none or too many characters
        return OSError(errno.EINVAL, "Name or service not known")
    except OSError as error:
        return error
    for family, address in {(one[0], one[4]) for one in found}:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
            bound = True
        except OSError as error:
            errors.append(error)
    if bound:
        errors = [one for one in errors if one.errno not in _ABSENT]
    return next((one for one in errors if one.errno == errno.EADDRINUSE), next(iter(errors), None))


def _options(settings: GrpcSettings) -> list[tuple[str, int]]:
    """Options of gRPC's library (grpc/impl/channel_arg_names.h)."""
    life, pings = settings.keepalive.server_parameters, settings.keepalive.enforcement_policy
    shortest = _milliseconds(pings.min_time) if pings.min_time else 0
    return [
        ("grpc.so_reuseport", 0),  # a port in use shall be an error, not a silent share
        ("grpc.max_receive_message_length", settings.max_recv_msg_size_mib << 20),
        ("grpc.per_message_decompression", 0),  # see `grpc_body`
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.handshake_timeout)),
        ("grpc.max_connection_idle_ms", _milliseconds(life.max_connection_idle)),
        ("grpc.max_connection_age_ms", _milliseconds(life.max_connection_age)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(life.max_connection_age_grace)),
        ("grpc.keepalive_time_ms", _milliseconds(life.time)),
        ("grpc.keepalive_timeout_ms", _milliseconds(life.timeout)),
        ("grpc.http2.ping_timeout_ms", _milliseconds(life.timeout)),  # the one that has an effect (measured)
        ("grpc.keepalive_permit_without_calls", 1),  # else a dead connection is noticed only when used
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", shortest if pings.permit_without_stream else _NEVER),
        # Pings that come sooner are strikes; 0: any number of them.
        ("grpc.http2.max_ping_strikes", 2 if pings.min_time else 0),
    ]


def _milliseconds(time: timedelta) -> int:
    return min(int(time.total_seconds() * 1000), _NEVER) or _NEVER
