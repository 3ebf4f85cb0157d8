"""A backend that misbehaves below HTTP's manners: raw sockets, told by the test what to do next."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from tests.ports import free_port

_DRIP_SECONDS = 0.05  # between two bytes of a slow answer; a whole one takes several seconds
_ENDLESS_PIECE = b"x" * 65_536
_CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_GZIP = 31  # zlib.h: 15 bits of window, plus 16 for the gzip format


@dataclass(frozen=True)
class Fault:
    """A way of being ill.

    Attributes:
        name: For people.
        answer: Called with the connection once a request has been read. The connection is closed afterwards.
        retry_after: Seconds that the answer asks to wait.
        hangs: Whether the client gets no whole answer, and so waits until its timeout.
        refuses: Nobody listens.
    """

    name: str
    answer: Callable[[socket.socket], None] = lambda _: None
    retry_after: float = 0
    hangs: bool = False
    refuses: bool = False

    def __str__(self) -> str:
        return self.name


class FaultyBackend:
    """Listens on a free loopback port and answers 201, or as its fault wants it.

    Args:
        certificate: Speak TLS, with this.

    Attributes:
        attempts: When events came since the fault began (`time.monotonic`); with TLS, when connections did.
            The sampling rates are asked for beside them, at times of their own.
        taken: How often each transaction id came in a request that was answered with 201.
    """

    def __init__(self, certificate: ssl.SSLContext | None = None) -> None:
        self.attempts: list[float] = []
        self.taken: Counter[str] = Counter()
        self._certificate = certificate
        self._fault: Fault | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = free_port()
        self._listener = self._bound(self.port)

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @contextlib.contextmanager
    def ill(self, fault: Fault) -> Iterator[None]:
        """Misbehave until the context ends; connections from before are not spared."""
        self._become(fault)
        self.attempts.clear()
        try:
            yield
        finally:
            self._become(None)

    def _become(self, fault: Fault | None) -> None:
        self._fault = fault
        self._close()
        self._listener = self._bound(self.port)
        if not (fault and fault.refuses):
            self._listen()

    # -- sockets --------------------------------------------------------------------------------------

    def _bound(self, port: int) -> socket.socket:
        """Bound, and refusing until it listens: nobody else gets the port meanwhile."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        return listener

    def _listen(self) -> None:
        self._listener.listen(128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close(self) -> None:
        """End the listener, its thread and all connections."""
        with self._lock:
            sockets = [self._listener, *self._open]
            self._open.clear()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        # A client that goes away, or a test that ends, is no news here.
        with contextlib.suppress(OSError, ssl.SSLError), connection:
            stream = self._secured(connection)
            while self._request(stream):
                pass
        with self._lock:
            self._open.discard(connection)

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._certificate is None:
            return connection
        self.attempts.append(time.monotonic())
        return self._certificate.wrap_socket(connection, server_side=True)

    # -- HTTP -----------------------------------------------------------------------------------------

    def _request(self, stream: socket.socket) -> bool:
        """Read and answer one request; whether another one may follow."""
        received = b""
        while b"\r\n\r\n" not in received:
            if not (more := stream.recv(65_536)):
                return False
            received += more
        if self._certificate is None and not received.startswith(b"GET "):
            self.attempts.append(time.monotonic())
        fault = self._fault
        head, _, begin = received.partition(b"\r\n\r\n")
        body = bytearray(begin)
        while len(body) < _length(head):
            if not (more := stream.recv(1 << 20)):
                return False
            body += more
        if fault is None and head.startswith(b"GET "):  # the sampling rates, of which it knows none
            stream.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        if fault is None:
            ids = [event["transaction_id"] for event in json.loads(zlib.decompress(body, _GZIP))]
            with self._lock:
                self.taken.update(ids)
            stream.sendall(_CREATED)
            return True
        fault.answer(stream)
        return False


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _wait_for_the_end(stream: socket.socket) -> None:
    while stream.recv(65_536):
        pass


def _status(status: int, retry_after: float = 0) -> Callable[[socket.socket], None]:
    wait = f"Retry-After: {retry_after:g}\r\n" if retry_after else ""
    text = f"HTTP/1.1 {status} Ill\r\n{wait}Connection: close\r\nContent-Length: 3\r\n\r\nill"
    return lambda stream: stream.sendall(text.encode())


def _drip(stream: socket.socket) -> None:
    answer = b"HTTP/1.1 201 Created\r\nX-Patience: " + b"z" * 100 + b"\r\nContent-Length: 0\r\n\r\n"
    for byte in answer:
        stream.sendall(bytes([byte]))
        time.sleep(_DRIP_SECONDS)


def _drip_body(stream: socket.socket) -> None:
    stream.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 200\r\n\r\n")
    for _ in range(200):
        stream.sendall(b".")
        time.sleep(_DRIP_SECONDS)


def _half_of_the_headers(stream: socket.socket) -> None:
    stream.sendall(b"HTTP/1.1 201 Created\r\nContent-Le")


def _half_of_the_body(stream: socket.socket) -> None:
    stream.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n" + b"." * 50)


def _endless(stream: socket.socket) -> None:
    stream.sendall(b"HTTP/1.1 500 Ill\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        stream.sendall(_ENDLESS_PIECE)


FAULTS = [
    Fault("refuses connections", refuses=True),
    Fault("never answers", _wait_for_the_end, hangs=True),
    Fault("answers 500", _status(500)),
    Fault("answers 503, Retry-After", _status(503, 1), retry_after=1),
    Fault("answers 429, Retry-After", _status(429, 1), retry_after=1),
    Fault("drips its headers", _drip, hangs=True),
    Fault("drips its body", _drip_body, hangs=True),
    Fault("closes after half of the headers", _half_of_the_headers),
    Fault("closes after half of the body", _half_of_the_body),
    Fault("answers without end", _endless),
]
