"""TLS of clients, in the OpenTelemetry Collector's names (configtls ``ClientConfig``)."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import certifi
from pydantic import Field, model_validator

from otel_moesif.errors import StartError
from otel_moesif.settings import Settings

logger = logging.getLogger(__name__)

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_FILES_ONLY = "is not an option here: name a file"
_BY_SCHEME = "is not an option here: https:// or http:// in the endpoint decides"


class ClientTls(Settings):
    """How a server is trusted, and what it is shown."""

    # opentelemetry-collector config/configtls/configtls.go
    elsewhere: ClassVar[Mapping[str, str]] = {
        "ca_pem": f"{_FILES_ONLY} in ca_file",
        "cert_pem": f"{_FILES_ONLY} in cert_file",
        "key_pem": f"{_FILES_ONLY} in key_file",
        "insecure": _BY_SCHEME,
        "include_system_ca_certs_pool": "is not an option here: ca_file alone counts where it is given",
        "server_name_override": "is not an option here: the server is known by the name in the endpoint",
    }

    ca_file: Path | None = Field(None, description="PEM file of the authorities that are trusted instead")
    cert_file: Path | None = Field(None, description="PEM file of the client certificate")
    key_file: Path | None = Field(None, description="PEM file of its key, without a passphrase")
    insecure_skip_verify: bool = Field(
        default=False, description="Talk to whoever answers, unverified; for experiments only"
    )
    min_version: Literal["1.2", "1.3"] = Field("1.2", description="Oldest version of TLS that is spoken")

    @model_validator(mode="after")
    def _together(self) -> ClientTls:
        if (self.cert_file is None) != (self.key_file is None):
            there, missing = ("cert_file", "key_file") if self.cert_file else ("key_file", "cert_file")
            raise ValueError(f"{there} needs {missing} beside it")
        return self

    def ssl_context(self) -> ssl.SSLContext:
        """What these options mean to an HTTP client; reads the files.

        Trusted are the authorities of ``ca_file``; without it those of ``SSL_CERT_FILE`` and
        ``SSL_CERT_DIR`` (OpenSSL's own variables); without these the operating system's and certifi's.

        Raises:
            StartError: A file cannot be used; names the option and the reason, nothing of the file's content.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = _VERSIONS[self.min_version]
        if self.insecure_skip_verify:
            logger.warning(
                "tls::insecure_skip_verify is on: whoever answers is believed, and sees all that is sent"
            )
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.ca_file:
            _trust(context, "tls::ca_file", self.ca_file)
        else:
            _trust_the_usual(context)
        if self.cert_file and self.key_file:
            _show(context, self.cert_file, self.key_file)
        return context


def _trust_the_usual(context: ssl.SSLContext) -> None:
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        _trust(context, "SSL_CERT_FILE", Path(file))
    if directory:
        context.load_verify_locations(capath=directory)  # read only when a server is verified
    if not file and not directory:
        context.load_default_certs()
        context.load_verify_locations(certifi.where())


def _trust(context: ssl.SSLContext, option: str, file: Path) -> None:
    _readable(option, file)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise StartError(f"{option}: {file} holds no certificate in PEM form") from None


def _show(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "tls::cert_file", cert_file)  # is it a certificate at all
    _readable("tls::key_file", key_file)

    def no_passphrase() -> str:  # else OpenSSL asks at the terminal
        raise StartError(f"tls::key_file: {key_file} has a passphrase; a key without one is needed")

    try:
        context.load_cert_chain(cert_file, key_file, no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise StartError(f"tls::key_file: {key_file} is not the key of {cert_file}") from None
        raise StartError(f"tls::key_file: {key_file} holds no private key in PEM form") from None


def _readable(option: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise StartError(f"{option}: cannot read {file}: {error.strerror or error}") from None
