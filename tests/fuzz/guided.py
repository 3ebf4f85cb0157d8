# ruff: noqa: S311, PLC0415 - chance, not secrets; atheris has to come before what it looks into
"""``python -m tests.fuzz.guided --payloads 50000 --seed 1``: fuzzing guided by coverage, with atheris.

libFuzzer changes payloads so that they reach more of the code that judges requests. It ends the process.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.payloads import Payloads

MADE = 200  # payloads to begin with


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided")
    parser.add_argument("--payloads", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed here; `python -m tests.fuzz` needs nothing")
    with atheris.instrument_imports(include=["otel_moesif.otlp"]):
        from tests.fuzz.oracle import Oracle
    oracle = Oracle()
    with tempfile.TemporaryDirectory() as seeds:
        payloads = Payloads(random.Random(options.seed))
        for number in range(MADE):
            Path(seeds, str(number)).write_bytes(payloads.next())
        limits = [f"-runs={options.payloads}", f"-seed={options.seed}", "-max_len=2048", "-rss_limit_mb=1024"]
        # What it finds, the error shows.
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={seeds}/", seeds], oracle.examine)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
