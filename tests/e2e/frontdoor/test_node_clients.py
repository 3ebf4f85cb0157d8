"""OpenTelemetry's own exporters for JavaScript (gRPC, HTTP with JSON, HTTP with protobuf)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.collector import transaction_id
from tests.e2e.frontdoor.secured import Entrance, secured
from tests.processes import until

NODE = Path(__file__).with_name("node")
# Outside of what is kept in the repository, and gone when the environment is made anew.
INSTALLED = Path(sys.prefix) / "frontdoor-node"
INSTALL_SECONDS = 300
CALLS = 3

# Installing is the fixture's work and has a limit of its own.
pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def modules():
    """Folder with what package.json asks for."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        pytest.skip("needs node and npm")
    files = [NODE / name for name in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = INSTALLED / "installed"
    if not (stamp.exists() and stamp.read_text() == digest):
        INSTALLED.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, INSTALLED)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--engine-strict"]
        try:
            subprocess.run(
                command, cwd=INSTALLED, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm did not install the exporters within {INSTALL_SECONDS} s")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"npm cannot install the exporters: {error.stderr.strip().splitlines()[:1]}")
        stamp.write_text(digest)
    return INSTALLED / "node_modules"


@pytest.fixture(scope="module")
def running(tmp_path_factory, modules):
    with secured(tmp_path_factory.mktemp("node-clients")) as opened:
        yield opened


EXPORTERS = pytest.mark.parametrize("exporter", ["grpc", "http", "proto"])


@EXPORTERS
@pytest.mark.parametrize(
    ("entrance", "compression"),
    [
        ("plain", "none"),
        ("all", "gzip"),
        pytest.param("plain", "gzip", marks=pytest.mark.slow),
        pytest.param("all", "none", marks=pytest.mark.slow),
    ],
)
def test_the_exporters_of_javascript_are_let_in(running, modules, exporter, entrance, compression):
    _arrives(running, _send(modules, exporter, running.entrances[entrance], compression))


@EXPORTERS
@pytest.mark.parametrize("entrance", ["tls", "mtls", "bearer", "basic"])
@pytest.mark.slow  # each for itself; "all" above has TLS, mTLS and oidc at once
def test_every_kind_of_security_is_spoken(running, modules, exporter, entrance):
    _arrives(running, _send(modules, exporter, running.entrances[entrance], "gzip"))


@EXPORTERS
def test_wrong_credentials_are_told_and_not_tried_again(running, modules, exporter):
    given = running.entrances["bearer"]
    told = _send(modules, exporter, Entrance(**{**vars(given), "headers": given.wrong}), "none")
    assert not told["ok"]
    assert told["error"].startswith("16 " if exporter == "grpc" else "401 ")
    assert next(iter(given.wrong.values())).split()[1] not in told["error"]


def _arrives(running: Any, told: dict[str, Any]) -> None:
    assert told["ok"], told["error"]
    ids = {transaction_id(int(span["traceId"], 16), int(span["spanId"], 16)) for span in told["spans"]}
    assert len(ids) == CALLS
    until(lambda: ids <= set(running.moesif.arrived()), "the calls", timeout=20)
    events = {event["transaction_id"]: event for event in running.moesif.events()}
    found = [events[id_] for id_ in ids]
    assert {event["request"]["uri"] for event in found} == {
        f"https://api.example.org/orders/{number}" for number in range(CALLS)
    }
    assert {event["request"]["headers"]["User-Agent"] for event in found} == {"node-test/1.0 größer"}


def _send(modules: Path, exporter: str, entrance: Entrance, compression: str) -> dict[str, Any]:
    scheme = "https" if entrance.authority else "http"
    options = {
        "exporter": exporter,
        "endpoint": f"{scheme}://{entrance.target}" if exporter == "grpc" else f"{entrance.url}/v1/traces",
        "compression": compression,
        "headers": dict(entrance.headers),
        "authority": entrance.authority,
        "certificate": entrance.certificate,
        "key": entrance.key,
        "calls": CALLS,
    }
    done = subprocess.run(
        ["node", str(NODE / "send.js"), json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "NODE_PATH": str(modules)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
