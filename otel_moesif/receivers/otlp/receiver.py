"""The ``otlp`` receiver: traces and log records over gRPC and over HTTP."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from otel_moesif.component import Context, Intake, ReceiverFactory
from otel_moesif.endpoint import parse_endpoint
from otel_moesif.errors import ConfigError, Problem
from otel_moesif.receivers.otlp import tls13_only
from otel_moesif.receivers.otlp.access import Access, AccessSettings
from otel_moesif.receivers.otlp.grpc_settings import GrpcSettings
from otel_moesif.receivers.otlp.http_server import HttpServer
from otel_moesif.receivers.otlp.settings import OtlpSettings

if TYPE_CHECKING:
    from otel_moesif.receivers.otlp.grpc_server import GrpcServer


class _Server(Protocol):
    @property
    def port(self) -> int: ...

    async def start(self, intake: Intake) -> None: ...

    async def shutdown(self) -> None: ...


class OtlpReceiver:
    """Listens for OTLP in every protocol that is configured.

    Args:
        settings: Validated options.
        context: Identity, logger, and the extensions among which the authenticators are.

    Raises:
        ConfigError: An authenticator is not there, or is none, or gRPC cannot be kept to TLS 1.3; of all
            protocols.
    """

    def __init__(self, settings: OtlpSettings, context: Context) -> None:
        self._context = context
        self._warnings: list[str] = []
        self._grpc_wanted: tuple[GrpcSettings, Access] | None = None
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None
        problems: list[Problem] = []
        protocols = settings.protocols
        if protocols.grpc and (access := self._access(protocols.grpc, "grpc", problems)):
            self._grpc_wanted = protocols.grpc, access
            self._warnings += _doubts(protocols.grpc.endpoint, "grpc", access)
        if protocols.grpc and protocols.grpc.tls and protocols.grpc.tls.min_version == "1.3":
            problems += tls13_only.demand("protocols::grpc::tls::min_version")
        if protocols.http and (access := self._access(protocols.http, "http", problems)):
            self._http = HttpServer(protocols.http, access, context)
            self._warnings += _doubts(protocols.http.endpoint, "http", access)
        if problems:
            raise ConfigError(problems)

    @property
    def port(self) -> int:
        """Where gRPC is listened for; 0: nowhere."""
        return self._grpc.port if self._grpc else 0

    @property
    def http_port(self) -> int:
        """Where HTTP is listened for; 0: nowhere."""
        return self._http.port if self._http else 0

    async def start(self, intake: Intake) -> None:
        """Listen, for all protocols or for none.

        Raises:
            StartError: A port is in use, or a certificate is unusable.
        """
        for warning in self._warnings:
            self._context.logger.warning("%s", warning)
        if self._grpc_wanted:
            # Not sooner: gRPC's library reads the environment when it is loaded (`tls13_only`).
            from otel_moesif.receivers.otlp.grpc_server import GrpcServer  # noqa: PLC0415

            self._grpc = GrpcServer(*self._grpc_wanted, self._context)
        try:
            for server in self._servers():
                await server.start(intake)
        except BaseException:
            await self.shutdown()
            raise

    async def shutdown(self) -> None:
        """Answer what came in, and take nothing any more; safe unstarted and twice."""
        await asyncio.gather(*(server.shutdown() for server in self._servers()))

    def _servers(self) -> list[_Server]:
        return [server for server in (self._grpc, self._http) if server]

    def _access(self, settings: AccessSettings, protocol: str, problems: list[Problem]) -> Access | None:
        try:
            return Access.of(settings, self._context, f"protocols::{protocol}")
        except ConfigError as error:
            problems += error.problems
            return None


def _doubts(endpoint: str, protocol: str, access: Access) -> Iterator[str]:
    """A line about a door that others than this machine can reach, and that stands open."""
    host, _ = parse_endpoint(endpoint)
    lacking = {
        "tls": "what is sent can be read and changed on the way" if access.certificates is None else "",
        "auth": "" if access.authenticates else "whoever reaches it may send",
    }
    if _loopback(host) or not any(lacking.values()):
        return
    path = f"protocols::{protocol}::"
    what = " and ".join(text for text in lacking.values() if text)
    options = " and ".join(f"{path}{option}" for option, text in lacking.items() if text)
    remedy = f"set {options}, or listen on localhost"
    yield f"{path}endpoint {endpoint} is open to other machines: {what} ({remedy})"


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


FACTORY = ReceiverFactory(
    "otlp", OtlpSettings, OtlpReceiver, description="OTLP over gRPC and HTTP: traces and logs of any gateway"
)
