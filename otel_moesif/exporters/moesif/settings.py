"""Options of the ``moesif`` exporter."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, Field, SecretStr

from otel_moesif import ByteSize, Duration, ExporterConfig, Settings
from otel_moesif.client_tls import ClientTls

# apidocs _overview.md: the base URL, whose /v1 we add ourselves.
MOESIF = "https://api.moesif.net"
# apidocs _errors.md: bodies are truncated at 450 KB, one event may have 1 MB.
BODY_BYTES, EVENT_BYTES = 450_000, 1_000_000


def _base_url(text: str) -> str:
    url = text.strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname and httpx.URL(url).host) and (parts.port is None or parts.port > 0)
    except (ValueError, httpx.InvalidURL):  # of which the errors of idna are some
        usable = False
    # a user could be half of a secret, and what ? and # begin would end up in the middle of a path
    if not usable or parts.scheme not in {"http", "https"} or any(mark in url for mark in "@?#\\ "):
        raise ValueError("must be the base URL of a collector API, for example https://api.moesif.net")
    return parts.scheme + url[len(parts.scheme) :]  # in lower case, as is asked for elsewhere


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if not text:
        raise ValueError(
            "must not be empty: it is the Collector Application Id that Moesif's settings page shows"
        )
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII, as it is sent as a header")
    return SecretStr(text)


ApplicationId = Annotated[SecretStr, AfterValidator(_header_value)]


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than zero")
    return value


class IdentitySettings(Settings):
    """Whose call it was: for each of Moesif's ids, event columns in order; the first known value counts.

    A column is an event field or ``property.<name>``.
    """

    user_id: tuple[str, ...] = Field(("userName",), description="Who called")
    company_id: tuple[str, ...] = Field(("companyId",), description="For which company")
    subscription_id: tuple[str, ...] = Field(
        (), description="Under which subscription, where a company holds several"
    )
    session_token: tuple[str, ...] = Field(
        ("sessionToken",), description="With which session or API key; shipped as it is"
    )


class SamplingSettings(Settings):
    """Moesif's dynamic sampling: the rates that are set in Moesif's user interface."""

    enabled: bool = Field(default=True, description="false: every call is shipped, whatever the rates are")
    precedence: Literal["docs_min", "first_match"] = Field(
        "docs_min",
        description=(
            "Where several rates fit: docs_min is the least of the user's (else the company's) and of the"
            " first regex that matches, as Moesif documents; first_match is regex, user, company, as its"
            " Python SDK does"
        ),
    )
    refresh_interval: Annotated[Duration, AfterValidator(_positive)] = Field(
        timedelta(seconds=60), description="How often the rates are asked for"
    )


class RoutingSettings(Settings):
    """Which application (environment, tenant) of Moesif an event belongs to."""

    from_column: str = Field(
        alias="from", description="The event field or property.<name> whose value decides"
    )
    table: dict[str, ApplicationId] = Field(
        min_length=1, description="Value of that column → Collector Application Id"
    )
    unknown: Literal["default", "dead_letter"] = Field(
        "default", description="Where any other value goes: to application_id, or to the dead letters"
    )


class ProfileSettings(Settings):
    """Profiles of users or companies, kept up to date from the calls that are seen."""

    enabled: bool = Field(default=False, description="Whether profiles are sent")
    metadata: dict[str, str] = Field(
        default_factory=dict, description="Name in the profile's metadata → event field or property.<name>"
    )
    interval: Annotated[Duration, AfterValidator(_positive)] = Field(
        timedelta(days=1), description="An id is sent at most once in so long"
    )


class ActionSettings(Settings):
    """An action (something that a user did) for each event that meets a condition."""

    name: str = Field(min_length=1, description="The action's name")
    where: str = Field(description="SQL condition over event fields")
    metadata: dict[str, str] = Field(
        default_factory=dict, description="Name in the action's metadata → event field or property.<name>"
    )


class MoesifSettings(ExporterConfig):
    """Where to ship to, as whom, and how."""

    endpoint: Annotated[str, AfterValidator(_base_url)] = Field(
        MOESIF, description="Base URL of the collector API; a /v1 at its end makes no difference"
    )
    application_id: ApplicationId | None = Field(
        None,
        description="Collector Application Id of the Moesif environment; needed unless routing names all",
    )
    compatibility: Literal["none", "wso2"] = Field(
        "none",
        description="wso2: events in exactly the shape of WSO2's own reporter, for existing dashboards",
    )
    identity: IdentitySettings = Field(IdentitySettings(), description="Which columns say whose call it was")
    sampling: SamplingSettings = Field(SamplingSettings(), description="Moesif's dynamic sampling")
    routing: RoutingSettings | None = Field(None, description="One application id per tenant")
    users: ProfileSettings = Field(ProfileSettings(), description="Profiles of the users that call")
    companies: ProfileSettings = Field(ProfileSettings(), description="Profiles of their companies")
    actions: tuple[ActionSettings, ...] = Field((), description="Events that are actions of a user besides")
    max_body_size: ByteSize = Field(
        BODY_BYTES, ge=0, le=BODY_BYTES, description="Longer bodies are cut, and marked; 0: no bodies"
    )
    timeout: Annotated[Duration, AfterValidator(_positive)] = Field(
        timedelta(seconds=10), description="Longest that one request may take, answer included"
    )
    connect_timeout: Annotated[Duration, AfterValidator(_positive)] = Field(
        timedelta(seconds=5), description="Longest that opening a connection may take"
    )
    idle_conn_timeout: Annotated[Duration, AfterValidator(_positive)] = Field(
        timedelta(seconds=90), description="After so long without use a connection is closed"
    )
    compression: Literal["gzip", "none"] = Field("gzip", description="How the request body is compressed")
    http2: bool = Field(default=True, description="Speak HTTP/2 where the server offers it")
    proxy_url: SecretStr | None = Field(
        None, description="HTTP or SOCKS proxy; without it HTTPS_PROXY, HTTP_PROXY and NO_PROXY count"
    )
    tls: ClientTls = Field(ClientTls(), description="Trusted authorities and client certificate")
