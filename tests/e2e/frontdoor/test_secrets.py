"""Secrets are planted wherever they can be, and then looked for in everything that the collector says.

That is whatever it prints, in runs that go well and in runs that do not. The journal, exports of dead letters
and what is delivered are data, and not looked at.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import bcrypt
import grpc
import httpx
import pytest

from tests.e2e.collector import Collector, sandbox
from tests.e2e.frontdoor.answers import JSON, GrpcDoor, HttpDoor
from tests.e2e.frontdoor.payloads import calls, delimited, span_with
from tests.e2e.frontdoor.planted import Planted
from tests.extensions.issuer import AUDIENCE, RSA_KEYS, Issuer, public
from tests.ports import free_port
from tests.processes import until

PLUGIN = '''
from otel_moesif import Events, ProcessorFactory, Settings, hookimpl


class Careless:
    """Fails, and says with what, as careless ones do."""

    def __init__(self, settings, context):
        pass

    def process(self, events):
        for row in map(str, events.to_dicts()):
            if "/crash-" in row:
                raise ValueError(f"careless: cannot understand {row[row.index('/crash-'):]}")
        return events


@hookimpl
def otel_moesif_components():
    return [ProcessorFactory("careless", Settings, Careless, {Events: Events}, "Fails")]
'''


# Runs one command line after the other, as `otel-moesif` does: name, arguments, environment of each.
ALL_COMMANDS = """
import contextlib, json, os, sys
from otel_moesif.cli import main
for name, arguments, env in json.loads(sys.argv[1]):
    os.environ.update(env)
    sys.argv = ["otel-moesif", *arguments]
    with contextlib.suppress(SystemExit):
        main()
    print(f"END OF {name}", flush=True)
"""
Command: TypeAlias = tuple[str, list[str], dict[str, str]]


@pytest.fixture(scope="module")
def planted():
    return Planted()


@pytest.fixture(scope="module")
def said(tmp_path_factory, planted):
    """What was printed, by what printed it; the whole story is told once."""
    directory = tmp_path_factory.mktemp("secrets")
    # Takes no metrics, and says so at once: a collector tries for 10 s to deliver its last ones.
    metrics = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{metrics.add_insecure_port('127.0.0.1:0')}"
    metrics.start()
    with sandbox(directory) as moesif, Issuer(public(RSA_KEYS[0])) as issuer:
        collector = _collector(directory, moesif.url, issuer, address, planted)
        texts: dict[str, str] = {}
        with collector.run() as process:
            texts["answers"] = _traffic(collector, issuer, planted)
            until(lambda: "careless" in process.output(), "the plugin's failure", timeout=30)
            texts["/metrics"] = collector.metrics()
            commands = ["journal status", "dead-letters list", "dead-letters list --json", "check"]
            texts |= _run(collector, *(_command(collector, name) for name in commands))
            process.terminate()
            process.wait(20)
        texts["its log"] = process.output()
        texts |= _run(collector, *(_command(collector, name) for name in ("print-config", "validate")))
        texts["sandbox"] = "".join(file.read_text() for file in directory.glob("sandbox-*.log"))
        texts |= _mistakes(collector, planted)
        yield texts
    metrics.stop(0)


SAID = ["answers", "/metrics", "journal status", "dead-letters list", "dead-letters list --json", "check"]
SAID += ["its log", "print-config", "validate", "sandbox", "mistakes"]


@pytest.mark.parametrize("what", SAID)
def test_no_secret_is_shown(said, planted, what):
    texts = {name: text for name, text in said.items() if name.startswith(what)}
    assert all(texts.values())
    shown = {name: found for name, text in texts.items() if (found := planted.found_in(text))}
    assert shown == {}


def test_the_story_had_its_parts(said, planted):
    """Or nothing would have been looked at."""
    assert len(planted.all) > 20
    assert "careless" in said["its log"]
    assert "REDACTED" in said["print-config"]
    assert "careless" in said["dead-letters list"]
    assert 'reason="unauthenticated"' in said["/metrics"]
    mistakes = [text for name, text in said.items() if name.startswith("mistakes")]
    assert len(mistakes) > 20
    assert sum("extensions::bearertokenauth" in text for text in mistakes) > 10
    assert planted.found_in(f"x {planted.all['a password']} y") == ["a password"]


def _collector(directory: Path, moesif: str, issuer: Issuer, metrics: str, planted: Planted) -> Collector:
    site = directory / "site"
    info = site / "careless-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "careless_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: careless\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[otel_moesif]\ncareless = careless_plugin\n")
    password = planted.new("a password")
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    planted.all["a hash"] = hashed[-30:]
    tokens = directory / "tokens"
    tokens.write_text(f"{planted.new('a token in a file')} gateway\n")
    extensions = {
        "bearertokenauth": {"tokens": [planted.new("a token"), planted.new("another token")]},
        "bearertokenauth/file": {"filename": str(tokens)},
        "bearertokenauth/env": {"token": "${env:FRONTDOOR_TOKEN}"},
        "basicauth": {"htpasswd": {"inline": f"ali:{hashed}\n"}},
        "oidc": {"issuer_url": issuer.url, "audience": AUDIENCE},
    }
    environment = {
        "FRONTDOOR_TOKEN": planted.new("a token in the environment"),
        "PYTHONPATH": str(site),
        "HTTP_PROXY": f"http://user:{planted.new('the password of HTTP_PROXY')}@127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    collector = Collector(directory, {"moesif": moesif}, http={}, extensions=extensions, env=environment)
    config = collector.config
    moesif_options = config["exporters"]["moesif"]
    moesif_options["application_id"] = planted.new("an application id")
    moesif_options["routing"] = {
        "from": "apiName",
        "table": {"nobody": planted.new("the application id of a tenant")},
    }
    # Nothing listens there: what is said about connections that fail is looked at as well.
    config["exporters"]["moesif/away"] = {
        "endpoint": "http://127.0.0.1:9",
        "application_id": planted.new("the application id of what is away"),
        "proxy_url": f"http://user:{planted.new('the password of a proxy')}@127.0.0.1:9",
        "retry_on_failure": {"initial_interval": "100ms", "max_interval": "300ms"},
    }
    config["processors"]["careless"] = {}
    config["service"]["shutdown_timeout"] = "1s"
    config["service"]["telemetry"]["logs"] = {"level": "debug"}
    config["service"]["telemetry"]["metrics"]["otlp"] = {
        "endpoint": metrics,
        "insecure": True,
        "interval": "1s",
        "headers": {"api-key": planted.new("a header of the own metrics")},
    }
    for name in ("bearertokenauth", "bearertokenauth/file", "bearertokenauth/env", "basicauth", "oidc"):
        entrance = {"endpoint": f"127.0.0.1:{free_port()}", "auth": {"authenticator": name}}
        config["receivers"][f"otlp/{name.replace('/', '-')}"] = {"protocols": {"http": entrance}}
    for pipeline in config["service"]["pipelines"].values():
        pipeline["receivers"] = list(config["receivers"])
        pipeline["processors"] = ["apim_event", "careless"]
        pipeline["exporters"] = ["moesif", "moesif/away"]
    return collector


def _traffic(collector: Collector, issuer: Issuer, planted: Planted) -> str:
    """Good and bad requests with secrets in every place; gives all that the clients were told."""
    told: list[str] = []
    ports = [("grpc", collector.grpc_port), ("http", collector.http_port)]
    for name, receiver in collector.config["receivers"].items():
        if name != "otlp":
            endpoint = receiver["protocols"]["http"]["endpoint"]
            ports.append((name, int(endpoint.rpartition(":")[2])))
    for name, port in ports:
        if name == "grpc":
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                told += _requests(GrpcDoor(channel), planted, issuer)
        else:
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, trust_env=False) as client:
                for encoding in ("application/x-protobuf", JSON):
                    told += _requests(HttpDoor(client, encoding), planted, issuer)
            told += _raw(port, planted)
    with grpc.insecure_channel(collector.target) as channel:
        # Refused by the processor; and one that the exporter delivers.
        secret = planted.new("in a call that makes a plugin crash")
        GrpcDoor(channel).send(calls(1, path=f"/crash-{secret}").body)
        GrpcDoor(channel).send(calls(1, path=f"/fine/{planted.new('in a good call')}").body)
    return "\n".join(told)


def _requests(door: Any, planted: Planted, issuer: Issuer) -> Iterable[str]:
    wrong = planted.new(f"a wrong token over {door.name}")
    name = f"ali:{planted.new('a wrong password')}"
    bad = issuer.token(RSA_KEYS[1], sub=planted.new("the subject of a forged token"))
    good = issuer.token(RSA_KEYS[0], sub=planted.new("the subject of a good token"))
    planted.all["a forged token"], planted.all["a good token"] = bad[-40:], good[-40:]
    body = planted.new("in a body").encode()
    attribute = delimited(9, delimited(1, body) + delimited(2, delimited(1, b"\xff" + body)))
    for header in (
        f"Bearer {wrong}",
        f"Bearer {bad}",
        f"Bearer {good}",
        "Basic " + base64.b64encode(name.encode()).decode(),
        f"Bearer {planted.all['a token']}",
    ):
        for content in (
            body,
            b"{" + body,
            span_with(attribute),
            _json_with(body),
            b'{"resourceSpans": "%b"}' % body,
        ):
            headers = {"authorization": header, "x-api-key": planted.all["in a body"]}
            answer = door.send(content, headers=headers)
            yield f"{answer}"


def _json_with(secret: bytes) -> bytes:
    span = b'{"traceId": "%b", "spanId": "%b", "kind": "%b"}' % (secret, secret, secret)
    return b'{"resourceSpans": [{"scopeSpans": [{"spans": [%b]}]}]}' % span


def _raw(port: int, planted: Planted) -> Iterable[str]:
    """What is no HTTP, with secrets in it."""
    secret = planted.new("in a broken request")
    for text in (
        f"GET /v1/traces?key={secret} HTTP/1.1\r\nhost: x\r\n\r\n",
        f"POST /{secret} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        f"POST /v1/traces HTTP/1.1\r\nhost: x\r\n{secret}\r\n\r\n",
        f"{secret} {secret} {secret}\r\n\r\n",
        f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: {secret}\r\ncontent-encoding: {secret}\r\n"
        f"content-length: 3\r\n\r\nabc",
        f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ntransfer-encoding: {secret}\r\n\r\n",
        f"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-length: {secret}\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(text.encode())
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while part := client.recv(65536):
                answer += part
            yield answer.decode("latin-1")


def _mistakes(collector: Collector, planted: Planted) -> dict[str, str]:
    """What is said about configurations in which secrets stand where, or as what, they must not."""
    places = [
        ("exporters", "moesif", "application_id"),
        ("exporters", "moesif", "routing"),
        ("exporters", "moesif", "endpoint"),
        ("exporters", "moesif/away", "proxy_url"),
        ("extensions", "bearertokenauth", "tokens"),
        ("extensions", "bearertokenauth/env", "token"),
        ("extensions", "basicauth", "htpasswd"),
        ("service", "telemetry", "metrics", "otlp", "headers"),
    ]
    # One shape in all places at once: every mistake is told.
    shaped = {path: _shapes(planted.new(f"a mistake in {path}")) for path in places}
    commands = []
    for number in range(len(_shapes(""))):
        config = json.loads(json.dumps(collector.config))
        for path, shapes in shaped.items():
            owner = config
            for key in path[:-1]:
                owner = owner[key]
            owner[path[-1]] = shapes[number]
        file = collector.directory / f"mistake-{number}.yaml"
        file.write_text(json.dumps(config))
        commands += [_command(collector, name, file) for name in ("validate", "print-config")]
    file = collector.directory / "broken.yaml"
    file.write_text(f"extensions:\n  bearertokenauth: {{token: {planted.new('in broken YAML')}\n ]:\n")
    commands += [_command(collector, name, file) for name in ("validate", "run")]
    # An environment variable that is no YAML, and ones that are YAML of another kind.
    secret = planted.new("in the environment, as no text")
    commands += [
        _command(collector, "validate", env={"FRONTDOOR_TOKEN": value})
        for value in (f"[{secret}", f"{{a: {secret}}}", f"{secret}\n{secret}", f"\x07{secret}", "")
    ]
    return _run(collector, *((f"mistakes {number}", *rest) for number, (_, *rest) in enumerate(commands)))


def _shapes(secret: str) -> list[Any]:
    """What somebody might write; never as the name of an option, which has to be told."""
    return [
        [secret],
        {"a": secret},
        [[secret]],
        f"{secret} {secret}",
        f"{secret}\u00e9",
        f"ftp://{secret}:{secret}@[{secret}",
        {"table": {"a": [secret], "b": f"{secret} \u00e9"}, "from": "x"},
        {"inline": f"{secret}\n{secret}:{secret}", "file": [secret]},
    ]


def _command(
    collector: Collector, name: str, file: Path | None = None, env: Mapping[str, str] | None = None
) -> Command:
    return name, [*name.split(), "--config", str(file or collector.file)], dict(env or {})


def _run(collector: Collector, *commands: Command) -> dict[str, str]:
    """What each of the commands prints, by its name; all in one process, since starting takes longest."""
    done = subprocess.run(
        [sys.executable, "-c", ALL_COMMANDS, json.dumps(commands)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **collector.env, "COLUMNS": "1000", "PYTHONUNBUFFERED": "1"},
    )
    texts, rest = {}, done.stdout
    for name, *_ in commands:
        texts[name], end, rest = rest.partition(f"END OF {name}\n")
        assert end, rest
    return texts
