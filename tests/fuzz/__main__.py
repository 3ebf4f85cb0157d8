# ruff: noqa: S311, T201, PTH123 - chance, not secrets; a command; read often
"""``python -m tests.fuzz --payloads 200000 --seed 1``: the long form; prints what it found.

`tests.fuzz.guided` does the same with atheris, guided by coverage.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time

from tests.fuzz.oracle import Oracle
from tests.fuzz.payloads import Payloads, corpus

# What the first payloads need (libraries, arenas) is no growth.
WARM = 5_000
MOST_GROWTH = 50 << 20
EVERY = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--payloads", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return run(options.payloads, options.seed)


def run(count: int, seed: int) -> int:
    """Examine so many payloads.

    Raises:
        AssertionError: One of them is treated wrongly; shows it.
    """
    oracle, payloads = Oracle(), Payloads(random.Random(seed), corpus())
    started, before, size = time.monotonic(), 0, 0
    for number in range(count):
        if number == min(WARM, count // 2):
            before = resident()
        payload = payloads.next()
        size += len(payload)
        oracle.examine(payload)
        if number % EVERY == EVERY - 1:
            print(f"{number + 1:,} payloads, {resident() >> 20} MiB", flush=True)
    oracle.finish()
    growth = resident() - before
    print(
        f"{count:,} payloads (seed {seed}, {size / count:.0f} bytes on average) "
        f"in {time.monotonic() - started:.0f} s: slowest check {oracle.slowest * 1000:.0f} ms, "
        f"memory {growth / (1 << 20):+.1f} MiB"
    )
    for outcome, times in sorted(oracle.outcomes.items()):
        print(f"  {times:9,} {outcome}")
    return int(growth > MOST_GROWTH)


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
