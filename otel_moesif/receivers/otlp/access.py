"""Who may come in, on both protocols: TLS, an authenticator, and what is noted about the client."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pydantic import Field

from otel_moesif.component import Authenticator, ComponentId, Context, Subject
from otel_moesif.errors import ConfigError, Problem, Refused, Unauthenticated
from otel_moesif.receivers.otlp import grpc_keys
from otel_moesif.reserved import RESERVED
from otel_moesif.server_tls import Certificates, ServerTls
from otel_moesif.settings import Settings

if TYPE_CHECKING:
    import ssl

CLIENT_ADDRESS = f"{RESERVED}client.address"
"""Resource attribute: the address that the connection came from (of a proxy, if there is one)."""

AUTH_SUBJECT = f"{RESERVED}auth.subject"
"""Resource attribute: who it was, as the authenticator says; empty without one."""

AUTH_PREFIX = f"{RESERVED}auth."
"""Before the names of whatever else the authenticator says."""

# What goes on for long is said again after so long.
_SAY_SECONDS = 60.0


class AuthSettings(Settings):
    """opentelemetry-collector configauth."""

    authenticator: str = Field(description="Id of the extension that judges requests, as oidc/gateways")


class AccessSettings(Settings):
    """What both protocols ask of their clients."""

    tls: ServerTls | None = Field(None, description="Speak TLS; without it everything is readable on the way")
    auth: AuthSettings | None = Field(None, description="Ask for credentials; without it everybody may send")
    include_metadata: bool = Field(
        default=False,
        description=f"Attach {CLIENT_ADDRESS}, {AUTH_SUBJECT} and claims as resource attributes",
    )


class Access:
    """Decides about each request before its body is read.

    Args:
        settings: What is asked of clients.
        context: The receiver's.
        transport: ``grpc`` or ``http``, for counters and messages.
        authenticator: The extension that judges; None: everybody may send.
    """

    def __init__(
        self, settings: AccessSettings, context: Context, transport: str, authenticator: Authenticator | None
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._logger = context.logger
        self._say_broken = 0.0
        self._attributes = {"receiver": str(context.id), "transport": transport}
        self._denied = context.meter.create_counter(
            "otelcol_receiver_denied_requests",
            description="Turned away by the receiver itself: credentials, bounds, protocol",
        )
        path = f"receivers::{context.id}::protocols::{transport}::tls"
        look = grpc_keys.doubt if transport == "grpc" else None
        self._certificates = (
            Certificates(settings.tls, path, context.logger, look=look) if settings.tls else None
        )

    @classmethod
    def of(cls, settings: AccessSettings, context: Context, path: str) -> Access:
        """Find the authenticator among the service's extensions.

        Args:
            settings: What is asked of clients.
            context: The receiver's.
            path: Where ``settings`` stand in the receiver's options: ``protocols::grpc``.

        Raises:
            ConfigError: There is no such extension in service, or it does not judge requests.
        """
        transport = path.rpartition("::")[2]
        if settings.auth is None:
            return cls(settings, context, transport, None)
        where = f"{path}::auth::authenticator"
        try:
            id_ = str(ComponentId.parse(settings.auth.authenticator))
        except ConfigError as error:
            raise ConfigError([Problem(where, error.problems[0].message)]) from None
        able = (name for name, x in context.extensions.items() if isinstance(x, Authenticator))
        choice = ", ".join(able) or "none"
        if id_ not in context.extensions:
            raise ConfigError(
                [
                    Problem(
                        where,
                        f'extension "{id_}" is not in service::extensions (authenticators there: {choice})',
                    )
                ]
            )
        extension = context.extensions[id_]
        # None stands for an extension whose own options are wrong: that is said already.
        if extension is not None and not isinstance(extension, Authenticator):
            raise ConfigError(
                [Problem(where, f'extension "{id_}" does not authenticate (authenticators there: {choice})')]
            )
        return cls(settings, context, transport, extension)

    @property
    def asks(self) -> bool:
        """Whether there is an authenticator."""
        return self._settings.auth is not None

    @property
    def authenticates(self) -> bool:
        """Whether credentials are asked for: by an authenticator, or as a client certificate."""
        by_certificate = self._settings.tls is not None and self._settings.tls.client_ca_file is not None
        return self._settings.auth is not None or by_certificate

    @property
    def certificates(self) -> Certificates | None:
        """For servers that do not take an `ssl.SSLContext`."""
        return self._certificates

    def ssl_context(self) -> ssl.SSLContext | None:
        """For asyncio's servers; follows the files by itself. None: no TLS.

        Raises:
            StartError: An option's file is missing or unusable.
        """
        return self._certificates.ssl_context(["http/1.1"]) if self._certificates else None

    async def admit(self, headers: Mapping[str, str], peer: str) -> Mapping[str, str]:
        """Judge a request before its body is read; counts those that are not let in.

        Args:
            headers: Names in lower case; of several values of one name the first.
            peer: Where it comes from: ``ipv4:192.0.2.1:50000`` (gRPC), ``192.0.2.1:50000``, ``192.0.2.1``.

        Returns:
            For ``Intake.accept(metadata=)``: empty unless ``include_metadata`` is on. The names are always
            the same for one configuration, so that no client can fill in one that is missing.

        Raises:
            Unauthenticated: The credentials do not suffice.
            Refused: They cannot be judged now, for example since an issuer's keys cannot be read.
        """
        subject = await self.judge(headers) if self.asks else None
        return self.noted(subject, peer)

    def noted(self, subject: Subject | None, peer: str) -> Mapping[str, str]:
        """What `admit` returns, about somebody who is let in; may be called from any thread."""
        if not self._settings.include_metadata:
            return {}
        more = subject.attributes if subject else {}
        attributes = {f"{AUTH_PREFIX}{key}": value for key, value in more.items()}
        return {
            **attributes,
            AUTH_SUBJECT: subject.name if subject else "",
            CLIENT_ADDRESS: client_address(peer),
        }

    async def judge(self, headers: Mapping[str, str]) -> Subject:
        """Ask the authenticator; arguments and errors as of `admit`."""
        try:
            if self._authenticator is None:  # never in service: the configuration was refused
                raise RuntimeError("no authenticator")  # noqa: TRY301 - one way for all that goes wrong
            return await self._authenticator.authenticate(headers)
        except Unauthenticated:
            self.deny("unauthenticated")
            raise
        except Refused:
            self.deny("authenticator")
            raise
        except Exception as error:  # noqa: BLE001 - counted, and nobody is let in
            # Only its type: the text may hold what was sent.
            self.deny("authenticator")
            if time.monotonic() >= self._say_broken:
                self._say_broken = time.monotonic() + _SAY_SECONDS
                self._logger.error(  # noqa: TRY400 - a traceback would show the text
                    "auth::authenticator failed with %s: senders are told to retry", type(error).__name__
                )
            raise Refused("credentials cannot be judged now; try again", reason="authenticator") from None

    def deny(self, reason: str) -> None:
        """Count a request that the receiver turns away by itself.

        Args:
            reason: One of few fixed texts, never anything from the request.
        """
        self._denied.add(1, {**self._attributes, "reason": reason})


def client_address(peer: str) -> str:
    """The address alone: no scheme, port or brackets; IPv4 as such also on a socket of both families."""
    scheme, _, rest = peer.partition(":")
    if scheme in {"ipv4", "ipv6"}:
        peer = unquote(rest)
    elif scheme == "unix":
        return "unix"
    if peer.startswith("["):
        host = peer[1:].partition("]")[0]
    else:
        host = peer.rpartition(":")[0] if peer.count(":") == 1 else peer
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
