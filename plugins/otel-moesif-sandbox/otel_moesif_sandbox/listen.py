"""Opening the sockets to listen on, with errors that say what to do."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from otel_moesif import StartError
from otel_moesif.endpoint import parse_endpoint

# A free port on one address may be taken on the other one of the same name; then another one is tried.
_ATTEMPTS = 10

# This machine has no such address (IPv6 switched off): not an error while the name has another one.
_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}


def listen(endpoint: str, what: str) -> list[socket.socket]:
    """Open listening sockets on every address of an endpoint, all with the same port.

    Args:
        endpoint: ``host:port``; ``localhost`` is both 127.0.0.1 and ::1, port 0 any free one.
        what: Who wants to listen, for the message.

    Raises:
        StartError: That is not possible.
    """
    host, port = parse_endpoint(endpoint)
    for attempt in range(_ATTEMPTS):
        try:
            return _open(host, port)
        except OSError as error:
            again = port == 0 and error.errno == errno.EADDRINUSE and attempt < _ATTEMPTS - 1
            if not again:
                raise StartError(f"{what} cannot listen on {endpoint}: {_explain(error)}") from error
    raise AssertionError("unreachable")


def _open(host: str, port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    absent: OSError | None = None
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as undo:
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            try:
                sock = socket.socket(family, kind, protocol)
                undo.callback(sock.close)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                chosen = opened[0].getsockname()[1] if opened else port
                sock.bind((address[0], chosen, *address[2:]))
                sock.listen(2048)
                sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
            else:
                opened.append(sock)
        if not opened:
            raise absent or OSError(errno.EADDRNOTAVAIL, "the name has no address")
        undo.pop_all()
    return opened


def _explain(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use (stop what listens there, or set another port in `endpoint`)"
    if error.errno == errno.EACCES:
        return "not permitted (ports below 1024 need privileges: set another port in `endpoint`)"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address (set another host in `endpoint`, for example localhost)"
    return error.strerror or str(error)
