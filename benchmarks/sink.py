"""A Moesif that costs next to nothing: keeps batches as they came, and counts them only when asked.

``POST /v1/events/batch`` is answered 201 at once; ``GET /count`` unpacks what came since and answers
``{"events": …, "unique": …}`` (``unique`` by transaction id); ``DELETE /count`` forgets everything. Prints
its port and serves until it is killed.
"""

from __future__ import annotations

import gzip
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

_TRANSACTION = re.compile(rb'"transaction_id"\s*:\s*"([^"]+)"')


class Sink(ThreadingHTTPServer):
    """Holds what arrived."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.waiting: list[bytes] = []
        self.events = 0
        self.unique: set[bytes] = set()
        self.lock = Lock()

    def count(self) -> dict[str, int]:
        with self.lock:
            bodies, self.waiting = self.waiting, []
            for body in bodies:
                text = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
                found = _TRANSACTION.findall(text)
                self.events += len(found)
                self.unique.update(found)
            return {"events": self.events, "unique": len(self.unique)}

    def forget(self) -> dict[str, int]:
        with self.lock:
            self.waiting, self.events, self.unique = [], 0, set()
        return {}


class Handler(BaseHTTPRequestHandler):
    """Keeps connections open, as Moesif does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/v1/events/batch"):
            self.server.waiting.append(body)
        self._answer(201, {})

    def do_GET(self) -> None:
        self._answer(200, self.server.count() if self.path == "/count" else {})

    def do_DELETE(self) -> None:
        self._answer(200, self.server.forget())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """No line per request."""

    def _answer(self, status: int, body: dict[str, int]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    sink = Sink()
    print(sink.server_port, flush=True)
    sink.serve_forever()
