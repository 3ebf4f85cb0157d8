"""Why there was no answer, in plain words, and what to do about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from otel_moesif import RetryableError
from otel_moesif.exporters.moesif.proxy import find_proxy, place, proxy_option
from otel_moesif.exporters.moesif.settings import MoesifSettings

# openssl/x509_vfy.h, X509_V_ERR_…
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64

_WAITING = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

# openssl/sslerr.h, SSL_R_…: what the handshake came to, and the remedy
_NO_TLS = ("does not speak TLS", "check endpoint: its port, and https:// or http://")
_OTHER_VERSION = ("speaks another version of TLS", "check tls::min_version")
_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OTHER_VERSION,
    "UNSUPPORTED_PROTOCOL": _OTHER_VERSION,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "wants a client certificate",
        "set tls::cert_file and tls::key_file",
    ),
    "TLSV1_ALERT_UNKNOWN_CA": ("does not trust our client certificate", "check tls::cert_file"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("does not accept our client certificate", "check tls::cert_file"),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        "says that our client certificate has expired",
        "renew tls::cert_file",
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "and we have no TLS in common",
        "check endpoint; does it want a client certificate?",
    ),
    "UNEXPECTED_EOF_WHILE_READING": (
        "closed the connection while TLS was agreed upon",
        "check endpoint; does it want a client certificate, or another version of TLS?",
    ),
}


class UnreachableError(RetryableError):
    """There was no whole answer; the events may have arrived all the same.

    Args:
        endpoint: Of whom.
        what: What happened.
        remedy: What to do about it; empty where waiting is all.
    """

    def __init__(self, endpoint: str, what: str, remedy: str = "") -> None:
        said = f"cannot reach {endpoint}: {what}"
        super().__init__(f"{said} ({remedy})" if remedy else said)
        self.what = what
        self.remedy = remedy


def unreachable(error: Exception, settings: MoesifSettings) -> UnreachableError:
    """Put into words what an HTTP client raised.

    Args:
        error: Whatever came from the client; nothing of its own text is shown that could hold a secret.
        settings: Of the exporter.
    """
    what, remedy = _reason(error, settings)
    return UnreachableError(settings.endpoint, what, remedy)


def _reason(error: Exception, settings: MoesifSettings) -> tuple[str, str]:
    if isinstance(error, TimeoutError | httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
        return f"no answer within {settings.timeout.total_seconds():g} s", ""
    proxy = find_proxy(settings)
    if isinstance(error, httpx.ProxyError) and proxy:
        what, remedy = _refused_by_proxy(str(error), proxy_option(settings))
        return f"the proxy {place(proxy)} {what}", remedy
    url = urlsplit(settings.endpoint)
    for cause in _causes(error):
        # how TLS says that it waits for data is no failure, but what failed meanwhile has it as its context
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _WAITING):
            return _tls(cause, url.hostname or "")
    # without TLS it failed at the first one on the way
    if proxy:
        return _network(error, f"the proxy {place(proxy)}", settings, proxy_option(settings))
    return _network(error, url.netloc, settings, "endpoint")


def _network(error: Exception, who: str, settings: MoesifSettings, option: str) -> tuple[str, str]:
    seconds = settings.connect_timeout.total_seconds()
    closed = (f"{who} closed the connection before the end of its answer", "")
    if isinstance(error, httpx.ConnectError):
        closed = (f"{who} closed the connection while it was made", f"check {option}")
    words: dict[type[BaseException], tuple[str, str]] = {
        httpx.ConnectTimeout: (
            f"no connection to {who} within {seconds:g} s",
            "is there a firewall, or does it need proxy_url?"
            if option == "endpoint"
            else f"check {option}; is there a firewall?",
        ),
        socket.gaierror: (
            f"DNS knows no address of {who}",
            f"check {option} and the name server" + ("; does it need proxy_url?" * (option == "endpoint")),
        ),
        ConnectionRefusedError: (f"nobody listens at {who}", f"check {option}"),
        ConnectionError: closed,
        httpx.RemoteProtocolError: closed,
        httpx.ReadError: closed,
        httpx.WriteError: closed,
    }
    causes = list(_causes(error))
    for cause in reversed(causes):  # the first of them says most
        for kind, said in words.items():
            if isinstance(cause, kind):
                return said
    system = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    if system:
        return f"{who}: {system[-1]}", ""
    if isinstance(error, httpx.ConnectError):
        return closed
    return f"{who}: {type(error).__name__}", ""


def _tls(error: ssl.SSLError, host: str) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in {_OTHER_NAME, _OTHER_ADDRESS}:
            return f"its certificate is not for {host}", "check endpoint"
        if code == _EXPIRED:
            return (
                "its certificate has expired",
                "whoever runs it must renew it; or this machine's clock is wrong",
            )
        if code == _NOT_YET_VALID:
            return "its certificate is not valid yet", "is this machine's clock right?"
        return (
            f"its certificate is not trusted: {error.verify_message}",
            "set tls::ca_file to the authority that issued it",
        )
    what, remedy = _HANDSHAKE.get(error.reason or "", ("", ""))
    reason = (error.reason or type(error).__name__).replace("_", " ").lower()
    return (f"{host} {what}", remedy) if what else (f"TLS failed: {reason}", "")


def _refused_by_proxy(said: str, option: str) -> tuple[str, str]:
    status = said.split(" ", 1)[0]
    if status == "407":
        return "wants a user and a password (HTTP 407)", f"set {option} to http://user:password@host:port"
    if status.isdigit():
        return f"refused (HTTP {status})", "it must let this endpoint through"
    return "refused", f"check {option}, and that it lets this endpoint through"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _causes(part)
    cause = error.__cause__ or error.__context__  # httpcore raises `from None` on the way
    if cause is not None:
        yield from _causes(cause)
