"""TLS of servers, in the OpenTelemetry Collector's names (configtls ``ServerConfig``), without restarts.

The files are looked at again when a client connects and ``reload_interval`` has passed: no timer, and a
server that nobody talks to reads nothing. Connections that are open keep what they were opened with.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from logging import Logger
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field

from otel_moesif.errors import StartError
from otel_moesif.settings import Duration, Settings
from otel_moesif.tls_probe import doubt, reason

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# Elsewhere than on Linux tickets are off at least.
_HAS_FILES_IN_MEMORY = hasattr(os, "memfd_create") and Path("/proc/self/fd").exists()

_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class ServerTls(Settings):
    """What a server shows to its clients, and what it wants to be shown."""

    cert_file: Path = Field(description="PEM file of the server's certificate and its chain")
    key_file: Path = Field(description="PEM file of its private key, not encrypted")
    client_ca_file: Path | None = Field(
        None, description="PEM file of authorities, of one of whom clients must show a certificate (mTLS)"
    )
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="Oldest TLS version that is spoken")
    # The Collector's default is never: a certificate that runs out unnoticed is the commoner accident.
    reload_interval: Duration = Field(
        timedelta(minutes=1),
        ge=timedelta(0),
        description="Files that changed are read again for connections opened so long after the last look",
    )


class _Unusable(Exception):  # noqa: N818 - never leaves this module
    """Says which option is wrong, and how; the option is the first word."""


@dataclass(frozen=True)
class Credentials:
    """One reading of the files.

    Attributes:
        certificate: PEM of certificate and chain.
        key: PEM of the private key.
        authorities: PEM of those whose clients are let in; None: nobody needs a certificate.
        context: The same for Python's ``ssl``.
        min_version: Oldest TLS version that is spoken.
        doubts: Why clients will not like the certificate.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes | None
    context: ssl.SSLContext = field(repr=False)
    min_version: ssl.TLSVersion
    doubts: Sequence[str] = ()

    def context_of_connection(self) -> ssl.SSLContext:
        """``context``, or one like it for one connection alone, where clients show certificates.

        Who resumes a session shows no certificate again: one that has run out since would do for hours.
        Tickets can be switched off; sessions that TLS 1.2 resumes by their id cannot, in Python. A context
        finds only those that were opened with it. Costs a millisecond.
        """
        if self.authorities is None or not _HAS_FILES_IN_MEMORY:
            return self.context
        with _in_memory(self.certificate) as certificate, _in_memory(self.key) as key:
            context = _bare_context(self.min_version)
            context.load_cert_chain(certificate, key, lambda: "")
        _ask_for_certificates(context, self.authorities)
        return context


class Certificates:
    """Reads the files, and reads them again when they changed; may be asked from any thread.

    Args:
        settings: Which files.
        path: Where the options stand, for messages: ``receivers::otlp::protocols::grpc::tls``.
        logger: Told when new files are taken, and once when they are unusable.
        clock: Seconds, as ``time.monotonic``.
        look: A further look at each reading, for servers that do not speak TLS by Python's ``ssl``: says why
            their clients will not like the certificate, and raises ValueError if it cannot be shown at all.
    """

    def __init__(
        self,
        settings: ServerTls,
        path: str,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
        look: Callable[[ssl.SSLContext], str] | None = None,
    ) -> None:
        self._settings = settings
        self._path = path
        self._logger = logger
        self._clock = clock
        self._look_further = look
        self._lock = threading.Lock()
        self._looked = 0.0
        self._stamp: _Stamp = ()
        self._credentials: Credentials | None = None

    def current(self) -> Credentials:
        """What a connection that is opened now shall use.

        Raises:
            StartError: Only for the first reading: an option's file is missing or unusable.
        """
        with self._lock:
            interval = self._settings.reload_interval.total_seconds()
            if self._credentials is None:
                self._credentials = self._first()
            elif self._clock() - self._looked >= interval:
                self._looked = self._clock()
                self._credentials = self._newer(self._credentials)
            return self._credentials

    def ssl_context(self, protocols: Sequence[str] = ()) -> ssl.SSLContext:
        """A context for asyncio's servers, of which every new connection uses the current files.

        Args:
            protocols: For ALPN.

        Raises:
            StartError: An option's file is missing or unusable.
        """
        self.current()
        return _Current.of(self, protocols)

    def _first(self) -> Credentials:
        try:
            stamp = self._look()
            credentials = self._read()
        except _Unusable as problem:
            raise StartError(f"{self._path}::{problem}") from None
        self._looked, self._stamp = self._clock(), stamp
        self._warn(credentials)
        return credentials

    def _newer(self, old: Credentials) -> Credentials:
        """What the files hold now; ``old`` if that is the same, or cannot be used."""
        try:
            stamp = self._look()
        except _Unusable as problem:
            stamp, unusable = (), problem
        else:
            if stamp == self._stamp:
                return old
            try:
                new = self._read()
                if self._look() == stamp:  # else they are just being replaced: the next look takes them
                    self._stamp = stamp
                    self._logger.info("%s: new certificate files are in use", self._path)
                    self._warn(new)
                    return new
            except _Unusable as problem:
                unusable = problem
            else:
                return old
        if stamp != self._stamp:
            self._stamp = stamp  # said once, until the files change again
            self._logger.error("%s::%s: the certificate read before stays in use", self._path, unusable)
        return old

    def _look(self) -> _Stamp:
        """Changes whenever one of the files is written, or replaced behind a symbolic link (Kubernetes)."""
        stamps = []
        for option, file in self._files().items():
            try:
                stat = file.stat()
            except OSError as error:
                raise _Unusable(f"{option}: cannot read {file}: {error.strerror}") from None
            stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(stamps)

    def _files(self) -> dict[str, Path]:
        files = {"cert_file": self._settings.cert_file, "key_file": self._settings.key_file}
        if self._settings.client_ca_file:
            files["client_ca_file"] = self._settings.client_ca_file
        return files

    def _read(self) -> Credentials:
        texts: dict[str, bytes] = {}
        for option, file in self._files().items():
            try:
                texts[option] = file.read_bytes()
            except OSError as error:
                raise _Unusable(f"{option}: cannot read {file}: {error.strerror}") from None
        _check_pem("cert_file", self._settings.cert_file, texts["cert_file"], b"CERTIFICATE-----")
        _check_pem("key_file", self._settings.key_file, texts["key_file"], b"PRIVATE KEY-----")
        context = _bare_context(version := _VERSIONS[self._settings.min_version])
        _load_chain(context, self._settings)
        doubts = self._doubts(context, texts["cert_file"])
        if authorities := texts.get("client_ca_file"):
            file = self._files()["client_ca_file"]
            _check_pem("client_ca_file", file, authorities, b"CERTIFICATE-----")
            try:
                _ask_for_certificates(context, authorities)
            except ssl.SSLError as error:
                raise _Unusable(f"client_ca_file: {file} is unusable: {reason(error)}") from None
        return Credentials(texts["cert_file"], texts["key_file"], authorities, context, version, doubts)

    def _doubts(self, context: ssl.SSLContext, certificate: bytes) -> Sequence[str]:
        try:
            found = [doubt(context, certificate), self._look_further(context) if self._look_further else ""]
        except ValueError as problem:
            raise _Unusable(f"cert_file: {self._settings.cert_file} is unusable: {problem}") from None
        return [one for one in found if one]

    def _warn(self, credentials: Credentials) -> None:
        file = self._settings.cert_file
        for one in credentials.doubts:
            self._logger.warning("%s::cert_file: the certificate in %s %s", self._path, file, one)


class _Current(ssl.SSLContext):
    """Hands every connection to the context that is current when it opens.

    asyncio asks its context for nothing but ``wrap_bio``. Going through a new context, instead of loading the
    new chain into the old one, also forgets authorities that are gone and sessions that they had let in.
    """

    _certificates: Certificates
    _protocols: Sequence[str]

    @classmethod
    def of(cls, certificates: Certificates, protocols: Sequence[str]) -> _Current:
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._certificates, context._protocols = certificates, protocols
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        current = self._certificates.current().context_of_connection()
        if self._protocols:
            current.set_alpn_protocols(list(self._protocols))
        return current.wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._certificates.current().context_of_connection().wrap_socket(*args, **kwargs)


def _bare_context(oldest: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = oldest
    return context


def _ask_for_certificates(context: ssl.SSLContext, authorities: bytes) -> None:
    context.load_verify_locations(cadata=authorities.decode("ascii", "ignore"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET  # TLS 1.2
    context.num_tickets = 0  # TLS 1.3


@contextmanager
def _in_memory(text: bytes) -> Iterator[str]:
    """A path for OpenSSL, which Python lets read certificates and keys from files only."""
    with os.fdopen(os.memfd_create("pem"), "wb") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _check_pem(option: str, file: Path, text: bytes, label: bytes) -> None:
    if b"-----BEGIN " not in text or label not in text:
        kind = label.removesuffix(b"-----").decode().lower()
        raise _Unusable(f"{option}: {file} holds no {kind} in PEM form (-----BEGIN …-----)")


def _load_chain(context: ssl.SSLContext, settings: ServerTls) -> None:
    asked = False

    def password() -> str:  # without it OpenSSL would ask on the terminal
        nonlocal asked
        asked = True
        return ""

    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password)
    except ssl.SSLError as error:
        if asked:
            raise _Unusable(f"key_file: {settings.key_file} is encrypted; it must not be") from None
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _Unusable(
                f"key_file: {settings.key_file} is not the key of the certificate in {settings.cert_file}"
            ) from None
        raise _Unusable(
            f"cert_file: {settings.cert_file} and {settings.key_file} are unusable: {reason(error)}"
        ) from None
    except OSError as error:
        raise _Unusable(f"cert_file: cannot read {error.filename}: {error.strerror}") from None
