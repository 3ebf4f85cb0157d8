"""The benchmark in its short form: no figures of this machine, but everything arrives and nothing stalls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"


@pytest.mark.slow
def test_the_short_benchmark_holds():
    command = [sys.executable, str(BENCH), "--short", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["rows"]:
        assert row["delivered"] == row["sent"] > 0
        assert 0 < row["floor_us_per_call"] < row["cpu_us_per_call"]
