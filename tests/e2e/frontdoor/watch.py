"""What a collector and its honest clients go through while others misbehave."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import grpc
import httpx

from tests.e2e.collector import Collector
from tests.e2e.frontdoor.answers import JSON, Door, GrpcDoor, HttpDoor
from tests.e2e.frontdoor.payloads import as_json, calls
from tests.processes import until

# Of so many, one may be slow: 99 of 100 have to be served in time.
_ENOUGH = 110
# proc_pid_clear_refs(5): makes the peak of a process's memory what it uses now.
_FORGET_PEAK = "5"


class Memory:
    """How far a process's resident memory grew, in its peaks, since this was made.

    Args:
        pid: Of the process.
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        (self._status.parent / "clear_refs").write_text(_FORGET_PEAK)
        self._before = self._kib("VmRSS")

    def growth_mib(self) -> float:
        """Of the highest peak."""
        return (self._kib("VmHWM") - self._before) / 1024

    def left_mib(self) -> float:
        """Of what is used now."""
        return (self._kib("VmRSS") - self._before) / 1024

    def _kib(self, name: str) -> int:
        line = next(one for one in self._status.read_text().splitlines() if one.startswith(f"{name}:"))
        return int(line.split()[1])


class Honest:
    """Clients with good requests, one after the other on each protocol, while the context lasts.

    Args:
        collector: A running one with both protocols.
        pause: Seconds between two requests of one client.
        anew: HTTP alone: a new connection for each request.

    Attributes:
        seconds: Times to acknowledgements.
        codes: What they were answered.
        again: Requests whose connection had just been closed, since it was idle (under load this process
            pauses for longer than the tests' short timeouts): sent again once, as every OTLP client does.
        sent: Transaction ids of what was acknowledged.
    """

    def __init__(self, collector: Collector, pause: float = 0.01, *, anew: bool = False) -> None:
        self.seconds: list[float] = []
        self.codes: Counter[str] = Counter()
        self.again = 0
        self.sent: list[str] = []
        self._collector = collector
        self._pause = pause
        self._anew = anew
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._grpc, self._http)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        # Who is connected before is served; how new ones fare, tests of their own say.
        self.settle(2)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self.seconds:
            self.settle(_ENOUGH - len(self.seconds))
        self._ended.set()
        for thread in self._threads:
            thread.join(20)

    def settle(self, requests: int = _ENOUGH) -> None:
        """Wait until so many more requests were answered, at least."""
        wanted = len(self.seconds) + requests
        until(lambda: len(self.seconds) >= wanted, "honest clients", timeout=30)

    def summary(self) -> str:
        """How they fared, in a line."""
        number, slowest = sum(self.codes.values()), max(self.seconds)
        return f"{number} honest requests, {self.again} twice, slowest {slowest:.2f} s, {self.codes}"

    def check(self, slowest: float = 1.0) -> None:
        """All were taken, 99 of 100 within so many seconds."""
        assert set(self.codes) == {"OK"}, self.codes
        assert len(self.seconds) >= _ENOUGH, "too few to say anything"
        assert self.again <= 1 + len(self.seconds) // 20, self.summary()
        ordered = sorted(self.seconds)
        p99 = ordered[int((len(ordered) - 1) * 0.99)]
        assert p99 < slowest, f"{p99:.2f} s, of {len(ordered)}"

    def _grpc(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(self._collector.target, options=options) as channel:
            self._work(GrpcDoor(channel))

    def _http(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0) if self._anew else httpx.Limits()
        with httpx.Client(base_url=self._collector.url, trust_env=False, timeout=20, limits=limits) as client:
            self._work(HttpDoor(client))

    def _work(self, door: Door) -> None:
        while not self._ended.is_set():
            request = calls(2)
            begin = time.monotonic()
            code = "broken off"
            try:
                code = door.send(request.body).code
            except httpx.HTTPError:
                self.again += 1
                with contextlib.suppress(httpx.HTTPError):
                    code = door.send(request.body).code
            self.seconds.append(time.monotonic() - begin)
            self.codes[code] += 1
            if code == "OK":
                self.sent += request.good
            self._ended.wait(self._pause)


def warm_up(collector: Collector) -> None:
    """What is loaded with the first requests, and stays, shall not be taken for growth later.

    Args:
        collector: A running one that delivers to somebody.
    """
    with (
        Honest(collector, pause=0) as honest,
        httpx.Client(base_url=collector.url, trust_env=False) as client,
    ):
        HttpDoor(client, JSON).send(json.dumps(as_json(calls(100))).encode())
        HttpDoor(client).send(calls(2000).body)
        honest.settle(50)
    # Most of it is what converts and delivers, a little later.
    sent = 2100 + len(honest.sent)
    until(lambda: collector.count("otelcol_exporter_sent_events") >= sent, "all of it", timeout=20)
