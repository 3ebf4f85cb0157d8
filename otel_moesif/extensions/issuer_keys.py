"""The keys of an OpenID Connect issuer: found by discovery, cached, and read again when they change.

OpenID Connect Discovery 1.0 section 4 (``/.well-known/openid-configuration``), RFC 7517 (key sets).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from logging import Logger
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx
import jwt

from otel_moesif import Refused, StartError

# A key set or a discovery document is a few kilobytes.
_MOST_BYTES = 1 << 20
_MOST_KEYS = 100
_TIMEOUT_SECONDS = 10.0
# Not compressed: the bound counts what is received.
_HEADERS = {"accept": "application/json", "accept-encoding": "identity"}
# A key that an issuer takes away is forgotten after so long.
_FRESH_SECONDS = 3600.0
# Unknown key ids, which anybody can make up, and failures lead to no reading until so long after the last.
_PAUSE_SECONDS = 10.0
# Requests that may wait for a reading: of an issuer that hangs it lasts long, and over gRPC each is a thread.
_WAITING = 16
_RETRY_AFTER = 1.0

# By type and curve; a list, since what a document has there may not be hashable.
_ALGORITHMS: Collection[tuple[tuple[object, object], Collection[str]]] = (
    (("RSA", None), ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    (("EC", "P-256"), ("ES256",)),
    (("EC", "P-384"), ("ES384",)),
    (("EC", "P-521"), ("ES512",)),
    (("OKP", "Ed25519"), ("EdDSA",)),
)
_KeyId: TypeAlias = tuple[str | None, str]


class IssuerUnreachable(Exception):  # noqa: N818 - says what is the case
    """The issuer's documents cannot be read; says which, and why."""


def may_be_asked(url: str) -> bool:
    """Whether what comes from a URL can be believed, and may be named in a log.

    That is ``https``, or this machine itself, and no password in it.
    """
    try:
        parts = urlsplit(url)
        local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        safe = parts.scheme == "https" or (parts.scheme == "http" and local)
        return bool(parts.hostname) and safe and "@" not in parts.netloc
    except ValueError:
        return False


class IssuerKeys:
    """Public keys by key id.

    Args:
        issuer: Its URL, as tokens have it in ``iss``.
        authorities: PEM file of authorities that are trusted instead of the system's.
        algorithms: The keys of others are left out.
        path: Where the extension stands, for messages: ``extensions::oidc``.
        logger: Told once when the keys cannot be read, and once when they can again.
        clock: Seconds, as ``time.monotonic``.
    """

    def __init__(
        self,
        issuer: str,
        authorities: Path | None,
        algorithms: Collection[str],
        path: str,
        logger: Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._authorities = authorities
        self._algorithms = algorithms
        self._path = path
        self._logger = logger
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._reading: asyncio.Task[None] | None = None
        self._keys: Mapping[_KeyId, jwt.PyJWK] = {}
        self._read = self._tried = float("-inf")
        self._failed = False
        self._waiting = 0

    def start(self) -> None:
        """Begin to read the keys; whether that works does not decide about the start.

        Raises:
            StartError: The file of authorities is unusable.
        """
        verify: ssl.SSLContext | bool = True
        if self._authorities:
            try:
                verify = ssl.create_default_context(cafile=str(self._authorities))
            except (OSError, ssl.SSLError) as error:
                reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
                raise StartError(
                    f"{self._path}::issuer_ca_path: cannot use {self._authorities}: {reason}"
                ) from None
        self._client = httpx.AsyncClient(verify=verify, timeout=_TIMEOUT_SECONDS, follow_redirects=False)
        self._refresh()

    async def shutdown(self) -> None:
        """Read nothing any more; safe unstarted and twice."""
        client, self._client = self._client, None
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if client:
            await client.aclose()

    async def find(
        self, key_id: str | None, algorithm: str, wrong: jwt.PyJWK | None = None
    ) -> jwt.PyJWK | None:
        """The key of that id for that algorithm; without an id the only one, if there is only one.

        Args:
            key_id: As the token says.
            algorithm: As the token says.
            wrong: What was found before, and did not make the signature: the issuer may have another key
                under the same id by now.

        Raises:
            Refused: It is not known whether there is such a key, since the issuer cannot be reached, or too
                many wait for its answer.
        """
        if self._clock() - self._read >= _FRESH_SECONDS and self._keys:
            self._refresh()  # nobody waits: the old ones do until then
        key = self._known(key_id, algorithm)
        if key is wrong and (reading := self._refresh()):
            await self._wait(reading)
            key = self._known(key_id, algorithm)
        # The issuer may have a new one: senders do not come again with what was refused for its credentials.
        if key is None and (self._failed or not self._keys):
            raise Refused(
                "tokens cannot be judged now: the issuer's keys are not known; try again",
                _PAUSE_SECONDS,
                "authenticator",
            )
        return None if key is wrong else key

    async def _wait(self, reading: asyncio.Task[None]) -> None:
        if self._waiting >= _WAITING:
            raise Refused(
                "tokens cannot be judged now: the issuer's keys are being read; try again",
                _RETRY_AFTER,
                "authenticator",
            )
        self._waiting += 1
        try:
            await asyncio.shield(reading)
        finally:
            self._waiting -= 1

    async def read(self) -> int:
        """Read them now; says how many there are.

        Raises:
            IssuerUnreachable: They cannot be read, or none is usable.
        """
        document = await self._json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != self._issuer:
            raise IssuerUnreachable(
                "the discovery document is another issuer's (issuer_url must be the same)"
            )
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not may_be_asked(url):
            raise IssuerUnreachable("the discovery document has no jwks_uri of https")
        self._keys = self._usable(await self._json(url))
        self._read = self._clock()
        return len({key_id for key_id, _ in self._keys})

    def _known(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        if key_id is None and len(ids := {id_ for id_, _ in self._keys}) == 1:
            key_id = next(iter(ids))
        return self._keys.get((key_id, algorithm))

    def _refresh(self) -> asyncio.Task[None] | None:
        """The reading that is under way, or a new one, unless the last has just ended."""
        if self._reading is None or self._reading.done():
            if self._client is None or self._clock() - self._tried < _PAUSE_SECONDS:
                return None
            self._reading = asyncio.create_task(self._try(), name="issuer-keys")
        return self._reading

    async def _try(self) -> None:
        try:
            count = await self.read()
        except IssuerUnreachable as problem:
            if not self._failed:
                self._logger.error(  # noqa: TRY400 - the reason stands in the message
                    "%s::issuer_url: cannot read the keys of %s: %s", self._path, self._issuer, problem
                )
            self._failed = True
        else:
            if self._failed:
                self._logger.info(
                    "%s: the keys of %s can be read again (%d)", self._path, self._issuer, count
                )
            self._failed = False
        finally:
            self._tried = self._clock()

    async def _json(self, url: str) -> Mapping[str, Any]:
        """A JSON object, of bounded size."""
        if self._client is None:
            raise IssuerUnreachable("the extension is not started")
        body = bytearray()
        try:
            async with (
                asyncio.timeout(_TIMEOUT_SECONDS),
                self._client.stream("GET", url, headers=_HEADERS) as response,
            ):
                if response.status_code != 200:
                    raise IssuerUnreachable(f"{url} answers {response.status_code}")
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        raise IssuerUnreachable(f"{url} answers more than {_MOST_BYTES} bytes")
            content = json.loads(body)
        except TimeoutError:
            raise IssuerUnreachable(f"{url} does not answer within {_TIMEOUT_SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise IssuerUnreachable(f"{url}: {error or type(error).__name__}") from None
        except (ValueError, RecursionError):
            raise IssuerUnreachable(f"{url} answers no JSON") from None
        if not isinstance(content, dict):
            raise IssuerUnreachable(f"{url} answers no JSON object")
        return content

    def _usable(self, document: Mapping[str, Any]) -> Mapping[_KeyId, jwt.PyJWK]:
        """Keys for signatures, once for each algorithm; others are none of our business."""
        listed = document.get("keys")
        keys: dict[_KeyId, jwt.PyJWK] = {}
        for key in listed[:_MOST_KEYS] if isinstance(listed, list) else []:
            if not isinstance(key, dict) or key.get("use", "sig") != "sig":
                continue
            for algorithm in _algorithms(key):
                if algorithm in self._algorithms:
                    with contextlib.suppress(jwt.PyJWTError, ValueError, TypeError, KeyError):
                        keys[key.get("kid"), algorithm] = jwt.PyJWK(key, algorithm)
        if not keys:
            raise IssuerUnreachable("its key set holds no usable key")
        return keys


def _algorithms(key: Mapping[str, Any]) -> Collection[str]:
    """What a key can verify: what it says, if that goes with its type (RFC 7518 sections 3 and 6).

    Never an algorithm of secrets: with a secret from a public document everybody could sign.
    """
    fitting = next((names for kind, names in _ALGORITHMS if kind == (key.get("kty"), key.get("crv"))), ())
    stated = key.get("alg")
    return fitting if stated is None else [name for name in fitting if name == stated]
