"""Options of the ``moesif`` exporter."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from otel_moesif import Duration, ExporterConfig

# apidocs _overview.md: the base URL, whose /v1 we add ourselves.
MOESIF = "https://api.moesif.net"


def _base_url(text: str) -> str:
    url = text.strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or parts.scheme not in {"http", "https"} or parts.username or parts.query or parts.fragment:
        raise ValueError("must be the base URL of a collector API, for example https://api.moesif.net")
    return url


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if not text:
        raise ValueError(
            "must not be empty: it is the Collector Application Id that Moesif's settings page shows"
        )
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII, as it is sent as a header")
    return SecretStr(text)


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than zero")
    return value


class MoesifSettings(ExporterConfig):
    """Where to ship to, as whom, and how."""

    endpoint: Annotated[str, AfterValidator(_base_url)] = Field(
        MOESIF, description="Base URL of the collector API; a /v1 at its end makes no difference"
    )
    application_id: Annotated[SecretStr, AfterValidator(_header_value)] = Field(
        description="Collector Application Id of the Moesif environment"
    )
    timeout: Annotated[Duration, AfterValidator(_positive)] = Field(
        timedelta(seconds=10), description="Longest that one request may take, answer included"
    )
    compression: Literal["gzip", "none"] = Field("gzip", description="How the request body is compressed")
