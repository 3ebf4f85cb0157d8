# ruff: noqa: T201 - the child reports
"""Requests that are made to cost: little memory, and no long silence of the event loop."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData
from otel_moesif.otlp.check import check
from tests.fuzz.payloads import TIME, of_bytes, of_fixed64

SIZE = 32 << 20  # of each; what the default of the HTTP receiver lets through, and more
IDS = of_bytes(1, b"t" * 16) + of_bytes(2, b"s" * 8) + of_fixed64(7, TIME)
MOST_GROWTH = 100 << 20
MOST_SECONDS = 5.0  # 0.6 on an idle machine


def scope(content: bytes) -> bytes:
    return of_bytes(1, of_bytes(2, content))


def span(content: bytes) -> bytes:
    return scope(of_bytes(2, IDS + content))


def value(content: bytes) -> bytes:
    return of_bytes(9, of_bytes(1, b"k") + of_bytes(2, content))


BOMBS = {
    "empty spans": lambda: scope(b"\x12\x00" * (SIZE // 2)),
    "a hundred thousand empty spans": lambda: scope(b"\x12\x00" * 99_000),
    "a hundred thousand spans that are cut off": lambda: scope(of_bytes(2, IDS[1:]) * 99_000),
    "a million attributes": lambda: span(b"\x4a\x00" * (1 << 20)),
    "many spans of many attributes": lambda: scope(
        of_bytes(2, IDS + b"\x4a\x00" * 60_000) * (SIZE // 130_000)
    ),
    "events": lambda: span(b"\x5a\x00" * (SIZE // 2)),
    "many spans of many links": lambda: scope(of_bytes(2, IDS + b"\x6a\x00" * 60_000) * (SIZE // 130_000)),
    "an array of nothings": lambda: span(value(of_bytes(5, b"\x0a\x00" * 1_000_000))),
    "one text": lambda: span(value(of_bytes(1, b"x" * SIZE))),
    "one name": lambda: span(of_bytes(5, b"x" * SIZE)),
    "resources": lambda: b"\x0a\x00" * (SIZE // 2),
    "scopes": lambda: of_bytes(1, b"\x12\x00" * (SIZE // 2)),
    "attributes of a resource": lambda: of_bytes(
        1, of_bytes(1, b"\x0a\x00" * (SIZE // 2)) + of_bytes(2, b"")
    ),
    "unknown fields": lambda: scope(b"\x28\x00" * (SIZE // 2)),
    "groups within each other": lambda: scope(b"\x2b" * (SIZE // 2) + b"\x2c" * (SIZE // 2)),
    "one group": lambda: scope(b"\x2b" + b"\x28\x00" * (SIZE // 2) + b"\x2c"),
}


@pytest.fixture(scope="module")
def costs():
    """What each costs, in a process of its own: its peak of memory is nobody else's."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a child's peak of memory begins anew only on Linux")
    done = subprocess.run(
        [sys.executable, "-m", "tests.otlp.test_bombs"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(map(json.loads, done.stdout.splitlines()))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little(name, costs):
    cost = costs[name]
    assert cost["bytes"] < MOST_GROWTH, cost
    assert cost["seconds"] < MOST_SECONDS, cost


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def explode(name: str) -> None:
    body = BOMBS[name]()
    before, started = peak(), time.perf_counter()
    try:
        outcome = f"{check(Signal.TRACES, body).count} taken"
    except InvalidData as error:
        outcome = str(error)
    cost = {"bytes": peak() - before, "seconds": time.perf_counter() - started, "outcome": outcome}
    print(json.dumps((name, cost)), flush=True)


def main() -> None:
    check(Signal.TRACES, span(b""))
    for name in BOMBS:
        child = os.fork()
        if not child:
            explode(name)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
