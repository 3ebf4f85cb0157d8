"""HTTP servers and proxies on the loopback address that answer as told, also wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import trustme

CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


def answered(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def make_authority(directory) -> trustme.CA:
    """An authority of its own, with its certificate in ``file``."""
    authority = trustme.CA()
    authority.file = directory / "ca.pem"
    authority.cert_pem.write_to_path(authority.file)
    return authority


def server_context(authority: trustme.CA, *names: str, **options) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1", "localhost")), **options).configure_cert(context)
    return context


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


async def read_request(reader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
    return Request(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))


class Listener:
    """A server for the time of an ``async with``; ends what it serves at the end.

    Args:
        tls: None for plain TCP.
    """

    def __init__(self, tls: ssl.SSLContext | None = None):
        self._tls = tls
        self._talks: set[asyncio.Task] = set()
        self.connections = 0
        self.requests: list[Request] = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    @property
    def open(self) -> int:
        """Connections that are served now."""
        return sum(not talk.done() for talk in self._talks)

    async def __aexit__(self, *_):
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._talks.add(asyncio.current_task())
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            await self.talk(reader, writer)
        writer.close()

    async def talk(self, reader, writer):
        raise NotImplementedError


class Http1(Listener):
    """Answers with bytes as they are, the last of them for ever; or lets a coroutine write."""

    def __init__(self, *answers, tls: ssl.SSLContext | None = None):
        super().__init__(tls)
        self.answers = list(answers) or [CREATED]

    async def talk(self, reader, writer):
        while True:
            self.requests.append(await read_request(reader))
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            if not isinstance(answer, bytes):
                await answer(writer)
                return
            writer.write(answer)
            await writer.drain()


class NoTls(Listener):
    """A web server that is spoken to in TLS and says, as they do, that it does not understand."""

    async def talk(self, reader, writer):
        await reader.read(1 << 16)
        writer.write(answered(400))
        await writer.drain()


@contextlib.contextmanager
def handshake(tls: ssl.SSLContext):
    """One TLS handshake, with an alert if it fails: asyncio's servers close the connection without one."""

    def serve():
        raw, _ = listening.accept()
        with tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as connection:
            with contextlib.suppress(ssl.SSLError):
                connection.do_handshake()
            # below TLS: what is closed unread is reset, and the alert with it
            socket.socket.shutdown(connection, socket.SHUT_WR)
            while socket.socket.recv(connection, 1 << 16):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


class Http2(Listener):
    """Speaks HTTP/2 only.

    Attributes:
        silent: Connections, by number from 1, on which requests are read and not answered.
        unanswered: Application ids of requests that wait for `answer_late`.
        status: What it answers.
        body: With this; sent as far as the client's window goes.
    """

    def __init__(self, tls: ssl.SSLContext):
        tls.set_alpn_protocols(["h2"])
        super().__init__(tls)
        self.silent: set[int] = set()
        self.unanswered: set[str] = set()
        self.status, self.body = 201, b""
        self._late: list[tuple[asyncio.StreamWriter, h2.connection.H2Connection, int]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def talk(self, reader, writer):
        number = self.connections
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        self._writers.append(writer)
        whose: dict[int, str] = {}
        left: dict[int, bytes] = {}
        while data := await reader.read(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                    self.requests.append(Request(headers[":path"], headers, b""))
                    whose[event.stream_id] = headers.get("x-moesif-application-id", "")
                elif isinstance(event, h2.events.DataReceived):
                    self.requests[-1].body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif not isinstance(event, h2.events.StreamEnded) or number in self.silent:
                    continue
                elif whose[event.stream_id] in self.unanswered:
                    self._late.append((writer, connection, event.stream_id))
                else:
                    connection.send_headers(event.stream_id, [(":status", str(self.status))])
                    left[event.stream_id] = self.body
            for stream in list(left):
                self._send(connection, stream, left)
            writer.write(connection.data_to_send())
            await writer.drain()

    async def answer_late(self):
        """Answer what is unanswered and was not given up."""
        late, self._late = self._late, []
        for writer, connection, stream in late:
            if not writer.is_closing():
                connection.send_headers(stream, [(":status", str(self.status))], end_stream=True)
                writer.write(connection.data_to_send())
                await writer.drain()

    def hang_up(self):
        """Close all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def _send(self, connection, stream, left):
        while left[stream]:
            size = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
            if size <= 0:
                return
            connection.send_data(stream, left[stream][:size])
            left[stream] = left[stream][size:]
        connection.end_stream(stream)
        del left[stream]


class Proxy(Listener):
    """An HTTP proxy for which every name is this machine; ``status`` other than 200 refuses."""

    status = 200
    wants = ""

    async def talk(self, reader, writer):
        request = await read_request(reader)
        self.requests.append(request)
        method, target, _ = request.line.split(" ")
        if self.wants and request.headers.get("proxy-authorization") != self.wants:
            writer.write(answered(407))
        elif self.status != 200:
            writer.write(answered(self.status))
        elif method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await _join(reader, writer, int(target.rpartition(":")[2]))
        else:
            url = urlsplit(target)
            headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
            first = f"{method} {url.path} HTTP/1.1\r\n{headers}\r\n".encode() + request.body
            await _join(reader, writer, url.port, first)
        await writer.drain()


class Socks(Listener):
    """A SOCKS5 proxy (RFC 1928), without authentication, for which every name is this machine."""

    async def talk(self, reader, writer):
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        _, _, _, kind = await reader.readexactly(4)
        size = 4 if kind == 1 else (await reader.readexactly(1))[0]
        host = await reader.readexactly(size)
        port = int.from_bytes(await reader.readexactly(2))
        self.requests.append(Request(f"{host.decode(errors='replace')}:{port}", {}, b""))
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        await _join(reader, writer, port)


class Reset(Listener):
    """Resets each connection once something came: while TLS is agreed upon, or instead of an answer."""

    async def talk(self, reader, writer):
        await reader.read(1 << 16)
        # socket(7): with this, closing sends RST
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()


async def _join(reader, writer, port: int, first: bytes = b"") -> None:
    back, on = await asyncio.open_connection("127.0.0.1", port)
    on.write(first)

    async def copy(source, target):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.write_eof() if target.can_write_eof() else None

    try:
        await asyncio.gather(copy(reader, on), copy(back, writer), return_exceptions=True)
    finally:
        on.close()
