"""Options of ``redact``."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SecretStr, model_validator

from otel_moesif.settings import Settings

MaskType: TypeAlias = Literal["IPV4", "IPV6", "EMAIL", "STRING"]
"""Those of WSO2's ``[apim.analytics.mask]``."""
Known: TypeAlias = Literal["email", "card_number", "token"]

# Parameters of OAuth (RFC 6749, 6750, 7521, 7636, 8628, 8693), OpenID Connect and SAML's bindings; sessions
# of Java and PHP; signatures of cloud URLs as in the OpenTelemetry semantic conventions for url.full; what
# Google calls its API keys.
QUERY = (
    "access_token",
    "access-token",
    "accesstoken",
    "id_token",
    "id_token_hint",
    "refresh_token",
    "subject_token",
    "actor_token",
    "auth_token",
    "oauth_token",
    "private_token",
    "session_token",
    "client_secret",
    "clientsecret",
    "client_assertion",
    "assertion",
    "code",
    "code_verifier",
    "device_code",
    "samlrequest",
    "samlresponse",
    "samlart",
    "jsessionid",
    "phpsessid",
    "sessionid",
    "auth",
    "authorization",
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "jwt",
    "key",
    "x-api-key",
    "apikey",
    "api_key",
    "api-key",
    "subscription-key",
    "sig",
    "signature",
    "awsaccesskeyid",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-signature",
)


class PatternSettings(Settings):
    """One thing to be looked for in texts."""

    type: Known | None = Field(
        None, description="email, card_number (with its check digit) or token (bearer, JWT)"
    )
    regex: str | None = Field(
        None, description="Or an expression of your own, in the syntax of Rust's regex (no look-around)"
    )
    columns: list[str] | None = Field(
        None,
        description="Where: text columns, property.<name>, requestHeaders, responseHeaders, requestBody, "
        "responseBody, customProperties; by default wherever a caller's text can stand",
    )

    @model_validator(mode="after")
    def _one(self) -> PatternSettings:
        if (self.type is None) == (self.regex is None):
            raise ValueError("needs either type or regex")
        return self


class HashSettings(Settings):
    """Values that have to stay distinguishable without being known."""

    columns: list[str] = Field(min_length=1, description="Text columns, or property.<name>")
    key: Annotated[SecretStr, Field(min_length=16)] = Field(
        description="Secret of at least 16 characters; the same key gives the same hashes (HMAC-SHA256, hex)"
    )


class RedactSettings(Settings):
    """What is redacted; without any option the credentials in headers and queries are."""

    default_headers: bool = Field(
        default=True, description="Mask the headers that are known to carry credentials"
    )
    headers: list[str] = Field(
        default_factory=list, description="Further headers to mask; * stands for any characters"
    )
    default_query: bool = Field(
        default=True, description="Mask the query parameters that are known to carry credentials"
    )
    query: list[str] = Field(
        default_factory=list, description="Further query parameters to mask; * stands for any characters"
    )
    json_paths: list[str] = Field(
        default_factory=list,
        description="Values to mask in JSON bodies: $.a.b, $.list[*].a, $..a, $['a b']; "
        "a body that is no JSON is masked as a whole",
    )
    patterns: list[Known | PatternSettings] = Field(
        default_factory=list, description="What to look for in texts: a type alone, or with its columns"
    )
    hash: HashSettings | None = Field(None, description="Values to replace by a keyed hash")
    truncate_ip: list[str] = Field(
        default_factory=list, description="Columns with an address to cut: IPv4 to /24, IPv6 to /48"
    )
    mask: dict[str, MaskType] = Field(
        default_factory=dict,
        description="Column → IPV4, IPV6, EMAIL or STRING, as in WSO2's [apim.analytics.mask]",
    )
