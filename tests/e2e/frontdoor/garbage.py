"""Garbage on both ports of a collector, for as long as one likes; ``python -m tests.e2e.frontdoor.garbage``.

Everything is chosen by the seed, so that what goes wrong can be repeated; only the clock differs.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.collector import Collector, sandbox
from tests.e2e.frontdoor.payloads import as_json, calls
from tests.e2e.frontdoor.watch import Honest, Memory, warm_up

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# A TLS 1.3 ClientHello's record header and the beginning of its body.
CLIENT_HELLO = bytes.fromhex("16030100f8010000f40303") + bytes(range(32)) + b"\x20" + bytes(100)
THREADS = 4
# Answers that may be given to garbage; 503 is the only 5xx.
STATUSES = {200, 204, 400, 401, 404, 405, 408, 413, 415, 431, 503}
METHODS = [b"POST", b"GET", b"PUT", b"OPTIONS", b"HEAD", b"CONNECT", b"TRACE", b"PRI", b"post", b"P\0ST", b""]
PATHS = [
    b"/v1/traces",
    b"/v1/logs",
    b"/v1/metrics",
    b"/",
    b"*",
    b"//",
    b"/%00",
    b"http://x/v1/traces",
    b"\xff",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.1 ", b"", b"ICY"]
LINES = [
    b"host: x",
    b"content-type: application/x-protobuf",
    b"content-type: application/json",
    b"content-type:",
    b"content-encoding: gzip",
    b"content-encoding: zstd",
    b"content-encoding: deflate",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: chunked, chunked",
    b"content-length: 0",
    b"content-length: 5",
    b"content-length: 99999999999999999999",
    b"content-length: -1",
    b"content-length: 1, 2",
    b"expect: 100-continue",
    b"connection: upgrade",
    b"upgrade: h2c",
    b"upgrade: websocket",
    b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA",
    b"connection: close",
    b"origin: https://example.org",
    b"authorization: Bearer x",
    b": no name",
    b"no colon",
    b" folded",
    b"x:\0",
    b"\xff\xfe: \xff",
]
CHUNKS = [
    b"5\r\nabcde\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;a=b\r\nabcde\r\n",
    b"-1\r\n",
    b"5\r\nab",
    b"zz\r\n",
]


@dataclass
class Outcome:
    """What became of a soak.

    Attributes:
        sent: Connections, by kind of garbage.
        statuses: Answers of HTTP.
        hung: Kinds of garbage after which the collector neither answered nor closed.
        growth_mib: Of the collector's memory, from after the first part of the soak to its end.
        honest: How honest clients fared meanwhile.
    """

    sent: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    hung: Counter[str] = field(default_factory=Counter)
    growth_mib: float = 0.0
    honest: Honest | None = None

    def bad(self) -> dict[int, int]:
        """Statuses that nobody may get."""
        return {status: count for status, count in self.statuses.items() if status not in STATUSES}


class Garbage:
    """Makes what no client means.

    Args:
        choose: Of every choice.
    """

    def __init__(self, choose: random.Random) -> None:
        self._choose = choose
        request = calls(1)
        self._bodies = [
            request.body,
            gzip.compress(request.body),
            repr(as_json(request)).encode(),
            b"",
            b"{}",
        ]
        self.kinds: dict[str, Callable[[], bytes]] = {
            "noise": self.noise,
            "zeros": lambda: bytes(choose.randrange(1, 5000)),
            "a TLS hello": lambda: CLIENT_HELLO[: choose.randrange(1, len(CLIENT_HELLO) + 1)],
            "HTTP/1.1": self.http,
            "part of HTTP/1.1": lambda: self._cut(self.http()),
            "mutated HTTP/1.1": lambda: self._mutated(self._good_http()),
            "pipelined": lambda: b"".join(self.http() for _ in range(choose.randrange(2, 60))),
            "HTTP/2": self.http2,
            "part of HTTP/2": lambda: self._cut(self.http2()),
            "mutated HTTP/2": lambda: self._mutated(self.http2()),
            "HTTP/2 frames without a preface": lambda: self.http2()[len(PREFACE) :],
            "lines": lambda: b"\r\n" * choose.randrange(1, 20_000),
            "one long line": lambda: b"a" * choose.randrange(1, 200_000),
        }

    def noise(self) -> bytes:
        return self._choose.randbytes(self._choose.randrange(1, 4000))

    def http(self) -> bytes:
        """A request of parts that do not belong together."""
        choose = self._choose
        lines = choose.sample(LINES[:7] if choose.random() < 0.6 else LINES, choose.randrange(1, 7))
        line = b" ".join(
            (
                choose.choice(METHODS[:3] * 3 + METHODS),
                choose.choice(PATHS),
                choose.choice(VERSIONS[:2] * 5 + VERSIONS),
            )
        )
        body = choose.choice([*self._bodies, self.noise(), b"".join(choose.choices(CHUNKS, k=3))])
        if choose.random() < 0.5:
            lines.append(b"content-length: %d" % (len(body) + choose.choice([0, 0, 0, -1, 1, 1000])))
        return (
            b"\r\n".join([line, *lines]) + choose.choice([b"\r\n\r\n"] * 5 + [b"\n\n", b"\r\n", b""]) + body
        )

    def http2(self) -> bytes:
        """Frames of any kind, in any order."""
        choose = self._choose
        frames = [self._frame(4, 0, 0, b"")]
        for _ in range(choose.randrange(1, 30)):
            size = choose.choice([0, 1, 4, 5, 8, 9, 100, 16384, 16385])
            payload = choose.choice([bytes(size), choose.randbytes(size), b"\x83\x86\x04\x02/x\x01\x01a"])
            stream = choose.choice([0, 1, 1, 3, 2, 2**31 - 1, 2**32 - 1])
            frames.append(
                self._frame(choose.randrange(12), choose.choice([0, 1, 4, 5, 8, 255]), stream, payload)
            )
        return PREFACE + b"".join(frames)

    def _good_http(self) -> bytes:
        body = self._bodies[0]
        lines = [b"POST /v1/traces HTTP/1.1", *LINES[:2], b"content-length: %d" % len(body)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        length = len(payload) + self._choose.choice([0] * 20 + [1, -1, 100])
        return max(0, length).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def _cut(self, data: bytes) -> bytes:
        return data[: self._choose.randrange(1, len(data) + 1)]

    def _mutated(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self._choose.randrange(1, 8)):
            place = self._choose.randrange(len(changed))
            match self._choose.randrange(3):
                case 0:
                    changed[place] = self._choose.randrange(256)
                case 1:
                    del changed[place : place + self._choose.randrange(1, 20)]
                case _:
                    changed[place:place] = self._choose.randbytes(self._choose.randrange(1, 20))
            changed = changed or bytearray(1)
        return bytes(changed)


def soak(collector: Collector, pid: int, seconds: float, seed: int) -> Outcome:
    """Throw garbage at both ports for so long.

    Args:
        collector: A running one, whose timeouts for headers and bodies are a second.
        pid: Of its process.
        seconds: How long.
        seed: Of all choices.
    """
    outcome, lock = Outcome(), threading.Lock()
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        choose = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
        garbage = Garbage(choose)
        while time.monotonic() < end:
            kind = choose.choice(list(garbage.kinds))
            port = choose.choice([collector.http_port, collector.grpc_port])
            statuses, ended = _throw(port, garbage.kinds[kind](), wait=choose.random() < 0.1)
            with lock:
                outcome.sent[kind] += 1
                if port == collector.http_port:
                    outcome.statuses.update(statuses)
                if not ended:
                    outcome.hung[kind] += 1

    with Honest(collector) as outcome.honest:
        threads = [threading.Thread(target=work, args=[number]) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        # Caches fill first; what grows after that, grows for ever.
        time.sleep(seconds * 0.3)
        memory = Memory(pid)
        for thread in threads:
            thread.join()
        outcome.growth_mib = memory.left_mib()
    return outcome


def _throw(port: int, data: bytes, *, wait: bool) -> tuple[list[int], bool]:
    """Send it; the HTTP statuses that come, and whether there was an end to it (or nobody waited for one)."""
    said = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
        if not wait:
            client.shutdown(socket.SHUT_WR)
        # An unfinished request and an idle connection have a second each, HTTP/2 a few for its goodbye.
        deadline = time.monotonic() + (8 if wait else 5)
        while time.monotonic() < deadline:
            client.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                part = client.recv(65536)
            except TimeoutError:
                return _statuses(said), False
            if not part:
                break
            said += part
            if len(said) > 1 << 20:
                break
    return _statuses(said), True


def _statuses(said: bytes) -> list[int]:
    found = []
    for part in said.split(b"HTTP/1.1 ")[1:]:
        with contextlib.suppress(ValueError):
            found.append(int(part[:3]))
    return [status for status in found if status != 100]


def collector_for_garbage(directory: Path, moesif: str) -> Collector:
    """One that does not wait long for what never comes."""
    soon = "1s"
    life = {"max_connection_idle": soon, "max_connection_age": "3s", "max_connection_age_grace": soon}
    grpc = {"handshake_timeout": soon, "read_timeout": soon, "keepalive": {"server_parameters": life}}
    http = {"read_header_timeout": soon, "read_timeout": soon, "write_timeout": soon, "idle_timeout": soon}
    return Collector(directory, {"moesif": moesif}, grpc=grpc, http=http)


def main() -> int:
    """A soak as long as one likes."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.frontdoor.garbage", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311 - no secret
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="otel-moesif-garbage-") as name, sandbox(Path(name)) as moesif:
        collector = collector_for_garbage(Path(name), moesif.url)
        with collector.run() as process:
            warm_up(collector)
            outcome = soak(collector, process.pid, options.minutes * 60, options.seed)
            alive, output = process.exit_code is None, process.output()
    honest = outcome.honest
    print(f"seed {options.seed}: {sum(outcome.sent.values())} connections {dict(outcome.sent)}")  # noqa: T201
    statuses, hung = dict(outcome.statuses), dict(outcome.hung)
    print(f"statuses {statuses}, hung {hung}, growth {outcome.growth_mib:.1f} MiB")  # noqa: T201
    print(honest.summary() if honest else "")  # noqa: T201
    good = (
        alive
        and not outcome.bad()
        and not outcome.hung
        and outcome.growth_mib < 50
        and "Traceback" not in output
    )
    print("ok" if good else f"NOT ok: alive {alive}, statuses {outcome.bad()}, {output[-2000:]}")  # noqa: T201
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
