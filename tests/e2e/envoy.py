"""A real Envoy in front of a small real backend, reporting spans and access logs over OTLP/gRPC."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import grpc
import httpx

from tests.processes import Process

BINARY = Path(sys.executable).with_name("envoy")
TEMPLATE = Path(__file__).with_name("envoy.yaml")


class Backend(BaseHTTPRequestHandler):
    """Answers by path: ``…/status/404`` with that status, ``…/delay/50`` after 50 ms, else 200.

    ``…/flaky/1`` fails once. Whoever wants to speak websocket is let, and has nothing to talk to.
    """

    protocol_version = "HTTP/1.1"
    # Without it Nagle and delayed acknowledgements add 40 ms, which the latency tests would see.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        words = self.path.partition("?")[0].split("/")
        options = dict(itertools.pairwise(words))
        time.sleep(int(options.get("delay", 0)) / 1000)
        if "websocket" in self.headers.get("Upgrade", ""):
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.end_headers()
            self.wfile.flush()
            self.rfile.read()  # until the caller hangs up
            self.close_connection = True
            return
        if "flaky" in options and self.path not in self.server.failed:
            self.server.failed.add(self.path)
            options["status"] = "503"
        body = b'{"from":"backend"}'
        with contextlib.suppress(ConnectionError):  # the gateway may have lost its patience
            self.send_response(int(options.get("status", 200)))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output to the test."""


@contextlib.contextmanager
def backend() -> Iterator[int]:
    """Serve `Backend`; yields its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    server.daemon_threads = True
    server.failed = set()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Shop(grpc.GenericRpcHandler):
    """Any method answers; one whose name is that of a status fails with it."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        name = details.method.rpartition("/")[2]

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            if hasattr(grpc.StatusCode, name):
                context.abort(grpc.StatusCode[name], "as asked")
            return b"x"

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def grpc_backend() -> Iterator[int]:
    """Serve gRPC; yields its port."""
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((_Shop(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can get meanwhile: bound, never listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def envoy(
    otlp_port: int,
    directory: Path,
    *,
    spawn_upstream_span: bool = True,
    direction: str = "UNSPECIFIED",
    min_flush_spans: int = 1,
    flush_interval_ms: int = 200,
) -> Iterator[httpx.Client]:
    """Run Envoy with `TEMPLATE` until the context ends; yields a client whose base URL is its listener.

    Args:
        otlp_port: Where spans and access logs go.
        directory: Takes configuration and log.
        spawn_upstream_span: Whether each try at the backend becomes a CLIENT span of its own.
        direction: ``OUTBOUND`` makes the calls egress, and so CLIENT spans where no attempt has its own.
        min_flush_spans: Envoy sends that many spans together. 1 puts the CLIENT and the SERVER span of a
            call into different requests, a large number leaves it to the interval and so puts them into one.
        flush_interval_ms: How long a span waits for others at most; Envoy's own default is 5000.
    """
    with backend() as backend_port, grpc_backend() as grpc_port, closed_port() as dead_port:
        config = directory / "envoy.yaml"
        config.write_text(
            Template(TEMPLATE.read_text()).substitute(
                otlp_port=otlp_port,
                backend_port=backend_port,
                grpc_port=grpc_port,
                dead_port=dead_port,
                spawn_upstream_span=str(spawn_upstream_span).lower(),
                direction=direction,
                min_flush_spans=min_flush_spans,
                flush_interval_ms=flush_interval_ms,
                log_flush_interval=f"{flush_interval_ms / 1000}s",
            )
        )
        admin_file = directory / "envoy-admin"
        command = [str(BINARY), "--config-path", str(config), "--admin-address-path", str(admin_file)]
        command += ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
        with Process(command, directory / "envoy.log") as process:
            admin = process.until(lambda: admin_file.exists() and admin_file.read_text(), "its admin port")
            port = process.until(lambda: _listener_port(f"http://{admin}"), "its listener")
            # A connection per call: the client must not meet one that Envoy just closed.
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                limits=httpx.Limits(max_keepalive_connections=0),
                headers={"User-Agent": "e2e-client/1.0"},
                trust_env=False,
            ) as client:
                yield client


def call_grpc(port: int, method: str) -> str:
    """Call a method with nothing to say; gives the name of the status that came back."""
    options = [("grpc.primary_user_agent", "e2e-client/1.0"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=10)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def open_websocket(port: int, path: str) -> int:
    """Ask for a websocket, hang up when it is open (or refused); gives the status."""
    request = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: e2e-client/1.0\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1])


def _listener_port(admin: str) -> int:
    with contextlib.suppress(httpx.TransportError, KeyError, IndexError):
        ready = httpx.get(f"{admin}/ready", trust_env=False).status_code == httpx.codes.OK
        listeners = httpx.get(f"{admin}/listeners", params={"format": "json"}, trust_env=False).json()
        address = listeners["listener_statuses"][0]["local_address"]["socket_address"]
        return int(address["port_value"]) if ready else 0
    return 0
