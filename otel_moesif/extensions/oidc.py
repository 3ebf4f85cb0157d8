"""The ``oidc`` extension: tokens of an OpenID Connect issuer, verified by its public keys.

Names: opentelemetry-collector-contrib, extension/oidcauthextension. What is checked: RFC 8725 (signature by
an algorithm of the list and a key made for it, issuer, audience, times).
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import jwt
from pydantic import AfterValidator, Field

from otel_moesif import (
    Checked,
    ConfigError,
    Context,
    Duration,
    ExtensionFactory,
    Problem,
    Settings,
    Subject,
    Unauthenticated,
)
from otel_moesif.extensions.issuer_keys import IssuerKeys, IssuerUnreachable, may_be_asked
from otel_moesif.extensions.verdicts import Verdicts

# Signatures by a public key only: with HS* the issuer's public key would serve as a secret that all know.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
# Real tokens have one or two kilobytes; headers of more than 8 to 16 are refused by most servers anyway.
_MOST_CHARACTERS = 16 << 10
_REMEMBER = 4096
# A verified token is believed so long without another look, so that an issuer can take back a key.
_REMEMBER_SECONDS = 300.0
_NAMES = ("subject", "groups")


def _trusted(url: str) -> str:
    if not may_be_asked(url):
        raise ValueError(
            "must be an https URL (http only for localhost) without a password, "
            "exactly as tokens have it in iss"
        )
    return url


def _free(name: str) -> str:
    if not name or name in _NAMES:
        raise ValueError(f"must be the name of a claim, and none of {', '.join(_NAMES)}")
    return name


class OidcSettings(Settings):
    """Whose tokens are good."""

    issuer_url: Annotated[str, AfterValidator(_trusted)] = Field(
        description="Who issues them: as in their iss, and where /.well-known/openid-configuration is"
    )
    audience: str = Field(min_length=1, description="For whom they must be: as in their aud")
    issuer_ca_path: Path | None = Field(
        None, description="PEM file of authorities that are trusted for the issuer instead of the system's"
    )
    username_claim: str = Field("sub", min_length=1, description="Claim that names the sender")
    groups_claim: str = Field("", description='Claim that names the sender\'s groups; "": none')
    claims: tuple[Annotated[str, AfterValidator(_free)], ...] = Field(
        (), description="Further claims that are attached where the receiver has include_metadata"
    )
    attribute: str = Field("Authorization", min_length=1, description="Header that holds the token")
    clock_skew: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="How far the issuer's clock and ours may differ",
    )
    algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"),
        min_length=1,
        description="How tokens may be signed",
    )


class Oidc:
    """Judges requests by the token that they bear.

    The `Subject` is the value of ``username_claim``; its attributes are ``groups`` and the further claims:
    text as it is, anything else as JSON, empty where a token has none.

    Args:
        settings: Whose tokens are good.
        context: Identity and logger.

    Raises:
        ConfigError: The package cryptography is not installed.
    """

    def __init__(self, settings: OidcSettings, context: Context) -> None:
        if importlib.util.find_spec("cryptography") is None:
            raise ConfigError([Problem("", 'needs the package cryptography: install "otel-moesif[auth]"')])
        self._settings = settings
        self._keys = IssuerKeys(
            settings.issuer_url,
            settings.issuer_ca_path,
            settings.algorithms,
            f"extensions::{context.id}",
            context.logger,
        )
        self._good = Verdicts[Subject](_REMEMBER)

    async def start(self) -> None:
        """Begin to read the issuer's keys; until they are there, senders are told to retry.

        Raises:
            StartError: ``issuer_ca_path`` is unusable.
        """
        self._keys.start()

    async def shutdown(self) -> None:
        """Read no keys any more; safe unstarted and twice."""
        await self._keys.shutdown()

    async def check(self) -> Sequence[Checked]:
        """See `otel_moesif.Checkable`."""
        subject = f"keys of {self._settings.issuer_url}"
        try:
            count = await self._keys.read()
        except IssuerUnreachable as problem:
            return [Checked(ok=False, subject=subject, verdict=str(problem), remedy="check issuer_url")]
        return [Checked(ok=True, subject=subject, verdict=f"{count} can verify tokens")]

    async def authenticate(self, headers: Mapping[str, str]) -> Subject:
        """See `otel_moesif.Authenticator`.

        Raises:
            Refused: The issuer's keys are not known.
        """
        scheme, _, token = headers.get(self._settings.attribute.lower(), "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _MOST_CHARACTERS:
            raise Unauthenticated("a valid token is required")
        digest = self._good.digest(token)
        if subject := self._good.get(digest):
            return subject
        claims = await self._verified(token)
        subject = self._subject(claims)
        skew, now = self._settings.clock_skew.total_seconds(), time.time()
        # exp is compared before anything is added to it: it may be larger than any float.
        end = min(int(claims["exp"]), now + _REMEMBER_SECONDS - skew)
        self._good.put(digest, subject, end + skew - now)
        return subject

    async def _verified(self, token: str) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            if algorithm not in self._settings.algorithms:
                raise jwt.InvalidAlgorithmError
            key = await self._keys.find(key_id, algorithm)
            try:
                return self._decoded(token, key, algorithm)
            except jwt.InvalidSignatureError:
                return self._decoded(token, await self._keys.find(key_id, algorithm, key), algorithm)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired", 'Bearer error="invalid_token"') from None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            raise Unauthenticated("a valid token is required", 'Bearer error="invalid_token"') from None

    def _decoded(self, token: str, key: jwt.PyJWK | None, algorithm: str) -> Mapping[str, Any]:
        if key is None:
            raise jwt.InvalidKeyError
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self._settings.audience,
            issuer=self._settings.issuer_url,
            leeway=self._settings.clock_skew,
            options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
        )
        return claims

    def _subject(self, claims: Mapping[str, Any]) -> Subject:
        name = _text(claims.get(self._settings.username_claim))
        if not name:
            raise Unauthenticated("a token that names its sender is required", 'Bearer error="invalid_token"')
        attributes = {claim: _text(claims.get(claim)) for claim in self._settings.claims}
        if self._settings.groups_claim:
            attributes["groups"] = _text(claims.get(self._settings.groups_claim))
        return Subject(name, attributes)


def _text(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # JSON can spell half a character (\ud800), which no column holds.
    return text.encode(errors="replace").decode()


FACTORY = ExtensionFactory(
    type="oidc",
    config=OidcSettings,
    build=Oidc,
    description="Lets in who has a token of an OpenID Connect issuer",
)
