"""A small OpenID Connect issuer on the loopback address: documents, keys that change, signed tokens."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from otel_moesif import ComponentId, Context, Unauthenticated
from otel_moesif.extensions.oidc import FACTORY, Oidc, OidcSettings

AUDIENCE = "otel-moesif"
NO = "no: a valid token is required"


def new_key(kind: str = "RSA"):
    match kind:
        case "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "weak":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
        case "P-256":
            return ec.generate_private_key(ec.SECP256R1())
        case "P-384":
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


# Making one takes a tenth of a second; the tests need some that differ.
RSA_KEYS = [new_key() for _ in range(3)]


def public(key, key_id: str | None = "k1", **more: Any) -> dict[str, Any]:
    """The key as it stands in a key set."""
    algorithm = {"RSA": "RS256", "Ed2": "EdDSA"}.get(type(key).__name__.lstrip("_")[:3], "ES256")
    document = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**document, **({"kid": key_id} if key_id else {}), **more}


class Issuer:
    """Serves what its attributes hold, while its context lasts.

    Attributes:
        keys: The key set.
        asked: Paths that were asked for.
        answers: By path, what to answer instead: a status, or bytes.
    """

    def __init__(self, *keys: dict[str, Any], tls: tuple[str, str] | None = None) -> None:
        self.keys = list(keys)
        self.asked: list[str] = []
        self.answers: dict[str, int | bytes] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                answer = issuer.answers.get(self.path, issuer.document(self.path))
                body = answer if isinstance(answer, bytes) else b""
                self.send_response(answer if isinstance(answer, int) else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None: ...

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            # Hands are shaken in the thread of each client: one that does not trust us holds up nobody.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'https' if tls else 'http'}://localhost:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def document(self, path: str) -> bytes | int:
        match path:
            case "/.well-known/openid-configuration":
                return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
            case "/keys":
                return json.dumps({"keys": self.keys}).encode()
        return 404

    def token(self, key, algorithm: str = "RS256", key_id: str | None = "k1", **claims: Any) -> str:
        """A signed token; claims of None are left out."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": AUDIENCE, "sub": "gateway-1", "exp": now + 600, "iat": now}
        content = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(content, key, algorithm, headers={"kid": key_id} if key_id else {})


def made(issuer: str, **options) -> Oidc:
    settings = OidcSettings.model_validate({"issuer_url": issuer, "audience": AUDIENCE, **options})
    return FACTORY.build(
        settings, Context(ComponentId("oidc"), logging.getLogger("otel_moesif.extensions"), None)
    )


class Started:
    """Runs an extension; its keys grow old by ``now``, if that is given."""

    def __init__(self, extension: Oidc, now: list[float] | None = None) -> None:
        self.extension = extension
        if now:
            extension._keys._clock = lambda: now[0]

    async def __aenter__(self) -> Oidc:
        await self.extension.start()
        return self.extension

    async def __aexit__(self, *_: object) -> None:
        await self.extension.shutdown()
        await self.extension.shutdown()


async def judged(extension: Oidc, token: str, **headers: str) -> str:
    """The subject's name, or why it is not let in."""
    try:
        return (await extension.authenticate(headers or {"authorization": f"Bearer {token}"})).name
    except Unauthenticated as error:
        return f"no: {error}"
