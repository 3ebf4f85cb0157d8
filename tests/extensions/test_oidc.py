"""oidc: tokens of a real issuer on the loopback address; what is wrong with one, and what keys do."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import sys
import time

import jwt
import pytest
from pydantic import ValidationError

from otel_moesif import (
    Authenticator,
    Checkable,
    ConfigError,
    Refused,
    Subject,
    Unauthenticated,
)
from otel_moesif.extensions.oidc import OidcSettings
from tests.extensions.issuer import AUDIENCE, NO, RSA_KEYS, Issuer, Started, judged, made, new_key, public

KEY, OTHER_KEY, THIRD_KEY = RSA_KEYS


def test_it_is_an_authenticator_and_can_be_checked():
    own = made("https://issuer.example")
    assert isinstance(own, Authenticator)
    assert isinstance(own, Checkable)


def in_seconds(seconds: int):
    """A time counted from when the test runs, not from when it was collected."""
    return lambda: int(time.time()) + seconds


@pytest.mark.parametrize(
    ("claims", "verdict"),
    [
        ({}, "gateway-1"),
        ({"aud": ["other", AUDIENCE]}, "gateway-1"),
        ({"aud": "other"}, NO),
        ({"aud": None}, NO),
        ({"iss": "https://elsewhere.example"}, NO),
        ({"iss": None}, NO),
        ({"exp": None}, NO),
        ({"exp": in_seconds(-60)}, "no: the token has expired"),
        ({"exp": in_seconds(-10)}, "gateway-1"),  # within clock_skew
        ({"exp": "soon"}, NO),
        ({"exp": float("inf")}, NO),
        ({"exp": 10**400}, "gateway-1"),
        ({"iat": in_seconds(60)}, NO),
        ({"nbf": in_seconds(60)}, NO),
        ({"nbf": in_seconds(10)}, "gateway-1"),
        ({"sub": None}, "no: a token that names its sender is required"),
        ({"sub": "kong \ud800"}, "kong ?"),  # half a character: no column holds it
        ({"sub": ""}, "no: a token that names its sender is required"),
    ],
)
def test_claims_are_checked(claims, verdict):
    async def run():
        with Issuer(public(KEY)) as issuer:
            async with Started(made(issuer.url)) as own:
                now = {name: value() if callable(value) else value for name, value in claims.items()}
                assert await judged(own, issuer.token(KEY, **now)) == verdict

    asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("RSA", "RS256"),
        ("RSA", "RS512"),
        ("RSA", "PS256"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("", "EdDSA"),
    ],
)
def test_every_kind_of_public_key_verifies(kind, algorithm):
    async def run():
        key = KEY if kind == "RSA" else new_key(kind)
        with Issuer(public(key)) as issuer:
            async with Started(made(issuer.url)) as own:
                assert await judged(own, issuer.token(key, algorithm)) == "gateway-1"
            others = [x for x in ("RS384", "ES512") if x != algorithm]
            async with Started(made(issuer.url, algorithms=others)) as own:
                with pytest.raises((Unauthenticated, Refused)):  # no key, or none for it
                    await own.authenticate({"authorization": f"Bearer {issuer.token(key, algorithm)}"})

    asyncio.run(run())


def text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unsigned(claims: dict, algorithm: str = "none", key_id: str = "k1") -> str:
    return ".".join(text(json.dumps(x).encode()) for x in ({"alg": algorithm, "kid": key_id}, claims)) + "."


def by_secret(secret: bytes, key_id: str, claims: dict) -> str:
    """Signed by hand: PyJWT does not lend itself to it."""
    token = unsigned(claims, "HS256", key_id)
    return token + text(hmac.digest(secret, token[:-1].encode(), "sha256"))


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_who_signs_otherwise_is_not_let_in():
    async def run():
        weak = new_key("weak")
        document = public(KEY)
        with Issuer(document, public(weak, "weak"), public(OTHER_KEY, "enc", use="enc")) as issuer:
            issuer.keys.append({"kty": "oct", "kid": "secret", "k": base64.b64encode(b"x" * 32).decode()})
            issuer.keys.append(public(THIRD_KEY, "only512", alg="RS512"))
            async with Started(made(issuer.url)) as own:
                good = issuer.token(KEY)
                claims = jwt.decode(good, options={"verify_signature": False})
                head, body, signature = good.split(".")
                tokens = {
                    "unsigned": unsigned(claims),
                    "no signature": f"{head}.{body}.",
                    "another key": issuer.token(OTHER_KEY),
                    "another body": f"{head}.{issuer.token(KEY, sub='root').split('.')[1]}.{signature}",
                    "the public key as secret": by_secret(json.dumps(document).encode(), "k1", claims),
                    "a secret of the key set": by_secret(b"x" * 32, "secret", claims),
                    "a key for encryption": issuer.token(OTHER_KEY, key_id="enc"),
                    "a key of another algorithm": issuer.token(THIRD_KEY, key_id="only512"),
                    "a weak key": issuer.token(weak, key_id="weak"),
                    "no id, several keys": issuer.token(KEY, key_id=None),
                    "too long": issuer.token(KEY, more="x" * 20_000),
                    "nonsense": "s3cret",
                    "dots": "..",
                    "a rule that we do not know": jwt.encode(
                        claims, KEY, "RS256", {"kid": "k1", "crit": ["x"]}
                    ),
                    "surrogates": "\ud800.\ud800.\ud800",
                    "nested": base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.e30",
                }
                for what, token in tokens.items():
                    assert await judged(own, token) == NO, what
                assert await judged(own, good) == "gateway-1"
                assert await judged(own, issuer.token(THIRD_KEY, "RS512", "only512")) == "gateway-1"
                for value in ("", "Bearer", good, f"Basic {good}"):
                    assert await judged(own, good, authorization=value) == NO

    asyncio.run(run())


def test_a_subject_has_the_claims_that_were_asked_for_and_no_others():
    async def run():
        with Issuer(public(KEY)) as issuer:
            options = {"username_claim": "azp", "groups_claim": "roles", "claims": ["org", "tier", "absent"]}
            async with Started(made(issuer.url, **options)) as own:
                token = issuer.token(KEY, azp="kong", roles=["a", "b"], org="acme", tier=3, secret="no")
                assert await own.authenticate({"authorization": f"bearer {token}"}) == Subject(
                    "kong", {"groups": '["a", "b"]', "org": "acme", "tier": "3", "absent": ""}
                )

    asyncio.run(run())


def test_the_token_may_stand_in_another_header():
    async def run():
        with Issuer(public(KEY)) as issuer:
            async with Started(made(issuer.url, attribute="X-Forwarded-Token")) as own:
                token = issuer.token(KEY)
                assert await judged(own, token, **{"x-forwarded-token": f"Bearer {token}"}) == "gateway-1"
                assert await judged(own, token) == NO

    asyncio.run(run())


def test_a_token_without_key_id_is_of_the_only_key():
    async def run():
        with Issuer(public(KEY, None)) as issuer:
            async with Started(made(issuer.url)) as own:
                assert await judged(own, issuer.token(KEY, key_id=None)) == "gateway-1"

    asyncio.run(run())


def test_a_verified_token_is_remembered_until_it_ends(monkeypatch):
    decoded = []
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *x, **y: decoded.append(1) or decode(*x, **y))

    async def run():
        with Issuer(public(KEY)) as issuer:
            async with Started(made(issuer.url, clock_skew="0s")) as own:
                now = [0.0]
                own._good._clock = lambda: now[0]
                short = issuer.token(KEY, exp=int(time.time()) + 100)
                long = issuer.token(KEY, exp=int(time.time()) + 10_000)
                seen = []
                for now[0] in (0, 50, 110, 290, 310):  # a long one is looked at again after 5 minutes
                    assert await judged(own, long) == "gateway-1"
                    seen.append(len(decoded))
                assert seen == [1, 1, 1, 1, 2]
                for now[0] in (400, 450, 510):
                    assert await judged(own, short) == "gateway-1"
                    seen.append(len(decoded))
                assert seen[5:] == [3, 3, 4]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"issuer_url": "http://issuer.example"}, "must be an https URL"),
        ({"issuer_url": "issuer.example"}, "must be an https URL"),
        ({"issuer_url": "https://user:s3cret@issuer.example"}, "must be an https URL"),
        ({"audience": ""}, "audience"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"claims": ["subject"]}, "none of subject, groups"),
        ({"clock_skew": "1h"}, "clock_skew"),
    ],
)
def test_options_are_checked(options, problem):
    with pytest.raises(ValidationError, match=problem):
        OidcSettings.model_validate({"issuer_url": "https://a.example", "audience": "a", **options})


def test_without_cryptography_the_configuration_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r'install "otel-moesif\[auth\]"'):
        made("https://issuer.example")


def test_tokens_are_in_no_representation():
    async def run():
        with Issuer(public(KEY)) as issuer:
            async with Started(made(issuer.url)) as own:
                token = issuer.token(KEY)
                await judged(own, token)
                for thing in (own, vars(own), vars(own._good)):
                    assert token[-20:] not in repr(thing)

    asyncio.run(run())
