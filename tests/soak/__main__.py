"""``python -m tests.soak``: minutes of traffic to a Moesif that misbehaves at random: each call arrives."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.run import Plan, soak


def main() -> int:
    """Run it; 0 when every acknowledged call arrived, under one transaction id."""
    any_seed = random.SystemRandom().randrange(10**6)
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="of traffic (10)")
    parser.add_argument("--share", type=float, default=0.3, help="of requests that go wrong, 0 to 1 (0.3)")
    parser.add_argument("--seed", type=int, default=any_seed, help="default: any; it is shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="otel-moesif-soak-") as directory:
        report = soak(Plan(options.seed, options.minutes * 60, options.share), Path(directory))
    print(report.text())  # noqa: T201 - this is a command
    return 0 if report.held else 1


if __name__ == "__main__":
    sys.exit(main())
