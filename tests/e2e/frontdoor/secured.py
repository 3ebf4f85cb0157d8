"""One collector with several OTLP receivers, each secured in another way, and what clients need for each."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt

from tests.e2e.collector import Collector, Sandbox, sandbox
from tests.extensions.issuer import AUDIENCE, RSA_KEYS, Issuer, public
from tests.ports import free_port
from tests.processes import Process, listening
from tests.receivers.doors import Authority

KEY = RSA_KEYS[0]


@dataclass(frozen=True)
class Entrance:
    """A receiver, and how to be let in.

    Attributes:
        grpc_port: For OTLP/gRPC.
        http_port: For OTLP/HTTP.
        headers: With good credentials.
        wrong: Headers with bad ones; empty: there is nothing to get wrong.
        authority: PEM file of the authority that signed its certificate; empty: no TLS.
        certificate: PEM file of a certificate for the client; empty: it needs none.
        key: That of its private key.
    """

    grpc_port: int
    http_port: int
    headers: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    authority: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.http_port}"


@dataclass(frozen=True)
class Secured:
    """A running collector with many entrances."""

    collector: Collector
    process: Process
    moesif: Sandbox
    entrances: Mapping[str, Entrance]
    issuer: Issuer


@contextlib.contextmanager
def secured(directory: Path) -> Iterator[Secured]:
    """Run it: ``plain``, ``tls``, ``mtls``, ``bearer``, ``bearer file``, ``basic``, ``oidc`` and ``all``."""
    tokens = directory / "tokens"
    tokens.write_text("first-token gateway-1\nsecond-token gateway-2\n")
    htpasswd = directory / "htpasswd"
    htpasswd.write_text(f"ali:{bcrypt.hashpw(b'sesame', bcrypt.gensalt(4)).decode()}\n")
    tls, mtls, client = _certificates(directory)
    with Issuer(public(KEY)) as issuer, sandbox(directory) as moesif:
        extensions: dict[str, Any] = {
            "bearertokenauth": {"tokens": ["one", "good-token"]},
            "bearertokenauth/file": {"filename": str(tokens)},
            "basicauth": {"htpasswd": {"file": str(htpasswd)}},
            "oidc": {"issuer_url": issuer.url, "audience": AUDIENCE},
        }
        password = base64.b64encode(b"ali:sesame").decode()
        bearer, badly = _bearer("good-token"), _bearer("bad-token")
        oidc = _bearer(issuer.token(KEY))
        authority = {"authority": tls["authority"]}
        kinds: dict[str, tuple[dict[str, Any], Entrance]] = {
            "plain": ({}, _entrance()),
            "tls": ({"tls": tls["server"]}, _entrance(**authority)),
            "mtls": ({"tls": mtls}, _entrance(**authority, **client)),
            "bearer": (_auth("bearertokenauth"), _entrance(headers=bearer, wrong=badly)),
            "bearer file": (
                _auth("bearertokenauth/file"),
                _entrance(headers=_bearer("second-token"), wrong=badly),
            ),
            "basic": (
                _auth("basicauth"),
                _entrance(
                    headers={"authorization": f"Basic {password}"}, wrong={"authorization": "Basic YQ=="}
                ),
            ),
            "oidc": (_auth("oidc"), _entrance(headers=oidc, wrong=_bearer(issuer.token(KEY, aud="other")))),
            "all": (
                {"tls": mtls, **_auth("oidc")},
                _entrance(headers=oidc, wrong=badly, **authority, **client),
            ),
        }
        collector = Collector(directory, {"moesif": moesif.url}, http={}, extensions=extensions)
        receivers = collector.config["receivers"]
        for number, (options, entrance) in enumerate(kinds.values()):
            receivers[f"otlp/{number}"] = {
                "protocols": {
                    "grpc": {"endpoint": entrance.target, **options},
                    "http": {"endpoint": f"127.0.0.1:{entrance.http_port}", **options},
                }
            }
        for pipeline in collector.config["service"]["pipelines"].values():
            pipeline["receivers"] = list(receivers)
        with collector.run() as process:
            last = list(kinds.values())[-1][1].http_port
            process.until(lambda: listening(last), "the last port", timeout=20)
            entrances = {name: entrance for name, (_, entrance) in kinds.items()}
            yield Secured(collector, process, moesif, entrances, issuer)


def _entrance(**options: Any) -> Entrance:
    return Entrance(free_port(), free_port(), **options)


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _auth(extension: str) -> dict[str, Any]:
    return {"auth": {"authenticator": extension}}


def _certificates(directory: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
    """Options of a server with TLS and of one with mTLS, and the files of a client that is let in."""
    of_servers, of_clients = Authority(directory), Authority(directory)
    server = of_servers.write("127.0.0.1")
    files = {"certificate": directory / "client.pem", "key": directory / "client.key"}
    for file, text in zip(files.values(), of_clients.pair("gateway"), strict=True):
        file.write_bytes(text)
    tls = {"server": server, "authority": str(of_servers.file("authority.pem"))}
    mtls = {**server, "client_ca_file": str(of_clients.file("clients.pem"))}
    return tls, mtls, {name: str(file) for name, file in files.items()}
