"""gRPC by hand, frame by frame: what no library's client would send."""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import time
from collections.abc import Sequence
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.e2e.traffic import TRACES

Headers = Sequence[tuple[str, str]]


class RawGrpc:
    """One HTTP/2 connection to a gRPC server.

    Args:
        port: Where it listens, on the loopback address.
        timeout: Seconds to wait for anything.
    """

    def __init__(self, port: int, timeout: float = 15) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, header_encoding="utf-8"
        )
        self._h2 = h2.connection.H2Connection(config)
        # Huffman's code takes minutes for megabytes, in Python.
        self._h2.encoder.encode = functools.partial(self._h2.encoder.encode, huffman=False)
        self._h2.initiate_connection()
        self._said: list[h2.events.Event] = []
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self, headers: Headers = (), path: str = TRACES) -> int:
        """Open a call without any message; gives its stream."""
        stream = self._h2.get_next_available_stream_id()
        usual = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        usual += [("te", "trailers"), ("content-type", "application/grpc"), *headers]
        self._h2.send_headers(stream, usual)
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Bytes of messages, as fast as the server lets us."""
        view = memoryview(data)
        while view:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if not room:
                if not self._receive() or self._over(stream):
                    return
                continue
            self._h2.send_data(stream, bytes(view[:room]))
            view = view[room:]
            self._flush()
        if end:
            self._h2.end_stream(stream)
            self._flush()

    def _over(self, stream: int) -> bool:
        """Whether the server has said its last about a call, although we have not."""
        ends = (h2.events.StreamReset, h2.events.StreamEnded)
        return any(isinstance(event, ends) and event.stream_id == stream for event in self._said)

    def status(self, stream: int) -> int:
        """The ``grpc-status`` of a call; -1 if stream or connection ended without one."""
        while True:
            for event in self._said:
                if getattr(event, "stream_id", None) == stream:
                    if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                        found = dict(event.headers).get("grpc-status")
                        if found is not None:
                            return int(found)
                    if isinstance(event, h2.events.StreamReset | h2.events.StreamEnded):
                        return -1
                if isinstance(event, h2.events.ConnectionTerminated):
                    return -1
            self._said.clear()
            if not self._receive():
                return -1

    def call(self, message: bytes, headers: Headers = (), *, compressed: bool = False) -> int:
        """A whole call with one message that is compressed already, or not; gives its status."""
        encoding = [("grpc-encoding", "gzip")] if compressed else []
        stream = self.begin([*headers, *encoding])
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError):
            self.send(stream, framed(message, compressed=compressed), end=True)
        return self.status(stream)

    def ended(self, within: float) -> bool:
        """Whether the server ends the connection within so many seconds."""
        end = time.monotonic() + within
        self.socket.settimeout(0.1)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                if not self._receive():
                    return True
        return False

    def _receive(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            raise
        except OSError:
            return False
        if not data:
            return False
        try:
            self._said += self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            return False
        with contextlib.suppress(OSError):
            self._flush()
        return True

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self.socket.sendall(data)


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    """A message with gRPC's prefix."""
    return struct.pack(">BI", compressed, len(message)) + message
