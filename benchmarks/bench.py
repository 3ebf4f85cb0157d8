"""What the collector costs per call, at a fixed rate, with everything on: see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from tree import Tree

HERE = Path(__file__).parent
WARM_UP = 2.0
"""Seconds of load before the measured ones: imports, first polars plans, connections."""


@dataclass(frozen=True)
class Scenario:
    """One load: ``rate`` requests per second with ``calls`` SERVER spans each."""

    calls: int
    rate: float

    @property
    def name(self) -> str:
        return f"{self.rate:g} req/s x {self.calls}"


SCENARIOS = (Scenario(1, 400), Scenario(5, 400), Scenario(100, 100), Scenario(500, 20))


@dataclass
class Row:
    """One line of the table; times of acknowledgements in milliseconds."""

    scenario: str
    calls_per_second: float
    cpu_us_per_call: float
    floor_us_per_call: float
    cpu_percent: float
    floor_percent: float
    ack_p50_ms: float
    ack_p99_ms: float
    floor_p99_ms: float
    client_late_p99_ms: float
    peak_rss_mib: float
    sent: int
    delivered: int
    repeated: int
    refused: dict[str, int]
    request_bytes: int

    @property
    def beyond_us(self) -> float:
        return self.cpu_us_per_call - self.floor_us_per_call

    @property
    def beyond_percent(self) -> float:
        return self.cpu_percent - self.floor_percent


def percentile(values: list[float], percent: float) -> float:
    """The smallest value that ``percent`` of the values do not exceed; NaN of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def load(target: str, scenario: Scenario, seconds: float) -> dict[str, Any]:
    """Run the client (`load.py`) and return what it saw."""
    command = [sys.executable, str(HERE / "load.py"), target, str(scenario.rate), str(scenario.calls)]
    done = subprocess.run([*command, str(seconds)], stdout=subprocess.PIPE, check=True, timeout=seconds + 60)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def wait_for(condition: Callable[[], bool], what: str, process: Tree, timeout: float) -> None:
    """Poll until it is true.

    Raises:
        SystemExit: It was not in time, or the process ended; shows the process's log.
    """
    end = time.monotonic() + timeout
    while not condition():
        if not process.alive or time.monotonic() > end:
            sys.exit(f"bench: no {what}; the log says:\n{process.log.read_text()[-4000:]}")
        time.sleep(0.05)


def listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_ports() -> tuple[int, int]:
    """Two ports that nobody has."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def configuration(port: int, metrics_port: int, sink: str, journal: Path) -> dict[str, Any]:
    """As a user writes it: nothing tuned, every option that is not named at its default."""
    pipeline = {"receivers": ["otlp"], "processors": ["apim_event"], "exporters": ["moesif"]}
    return {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{port}"}}}},
        "processors": {"apim_event": {}},
        "exporters": {"moesif": {"endpoint": sink, "application_id": "bench-application-id"}},
        "service": {
            "journal": {"directory": str(journal)},
            "telemetry": {"metrics": {"address": f"127.0.0.1:{metrics_port}"}},
            "pipelines": {"traces": pipeline},
        },
    }


def measure_floor(scenario: Scenario, seconds: float, logs: Path) -> tuple[float, dict[str, Any]]:
    """CPU seconds of a bare gRPC server under the same load, and what the client saw."""
    with Tree([sys.executable, str(HERE / "floor.py")], logs / "floor.log", pipe=True) as server:
        target = f"127.0.0.1:{server.first_line()}"
        load(target, scenario, WARM_UP / 2)
        before = server.cpu()
        seen = load(target, scenario, seconds)
        return server.cpu() - before, seen


def measure(scenario: Scenario, seconds: float, directory: Path) -> Row:
    """Run one scenario against the floor and against the collector."""
    directory.mkdir()
    floor_cpu, floor = measure_floor(scenario, seconds, directory)
    with Tree([sys.executable, str(HERE / "sink.py")], directory / "sink.log", pipe=True) as sink_process:
        sink = f"http://127.0.0.1:{sink_process.first_line()}"
        port, metrics_port = free_ports()
        config = directory / "config.yaml"
        config.write_text(json.dumps(configuration(port, metrics_port, sink, directory / "journal")))
        command = [sys.executable, "-m", "otel_moesif", "run", "--config", str(config)]
        with Tree(command, directory / "collector.log") as collector, httpx.Client(trust_env=False) as client:

            def delivered() -> dict[str, int]:
                counts: dict[str, int] = client.get(f"{sink}/count", timeout=60).json()
                return counts

            wait_for(lambda: listening(port), "collector on its port", collector, 30)
            warm = load(f"127.0.0.1:{port}", scenario, WARM_UP)
            wait_for(lambda: delivered()["unique"] >= warm["calls"], "delivery of the warm-up", collector, 60)
            client.delete(f"{sink}/count")
            before = collector.cpu()
            seen = load(f"127.0.0.1:{port}", scenario, seconds)
            wait_for(lambda: delivered()["unique"] >= seen["calls"], "complete delivery", collector, 60)
            cpu = collector.cpu() - before
            counts = delivered()
            peak = collector.peak_rss
    return Row(
        scenario=scenario.name,
        calls_per_second=seen["calls"] / seen["seconds"],
        cpu_us_per_call=cpu / max(1, seen["calls"]) * 1e6,
        floor_us_per_call=floor_cpu / max(1, floor["calls"]) * 1e6,
        cpu_percent=cpu / seen["seconds"] * 100,
        floor_percent=floor_cpu / floor["seconds"] * 100,
        ack_p50_ms=percentile(seen["ack_ms"], 50),
        ack_p99_ms=percentile(seen["ack_ms"], 99),
        floor_p99_ms=percentile(floor["ack_ms"], 99),
        client_late_p99_ms=percentile(seen["late_ms"], 99),
        peak_rss_mib=peak / (1 << 20),
        sent=seen["calls"],
        delivered=counts["unique"],
        repeated=counts["events"] - counts["unique"],
        refused=seen["refused"],
        request_bytes=seen["request_bytes"],
    )


_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("load", lambda row: row.scenario),
    ("calls/s", lambda row: f"{row.calls_per_second:,.0f}"),
    ("CPU us/call", lambda row: f"{row.cpu_us_per_call:.1f}"),
    ("gRPC floor", lambda row: f"{row.floor_us_per_call:.1f}"),
    ("beyond", lambda row: f"{row.beyond_us:.1f}"),
    ("core %", lambda row: f"{row.cpu_percent:.1f}"),
    ("beyond %", lambda row: f"{row.beyond_percent:.1f}"),
    ("ack p50 ms", lambda row: f"{row.ack_p50_ms:.1f}"),
    ("p99 ms", lambda row: f"{row.ack_p99_ms:.1f}"),
    ("floor p99", lambda row: f"{row.floor_p99_ms:.1f}"),
    ("late p99", lambda row: f"{row.client_late_p99_ms:.1f}"),
    ("RSS MiB", lambda row: f"{row.peak_rss_mib:.0f}"),
    ("sent", lambda row: f"{row.sent:,}"),
    ("delivered", lambda row: f"{row.delivered:,}"),
)


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    lines = [[title for title, _ in _COLUMNS]] + [[cell(row) for _, cell in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def problems(row: Row) -> list[str]:
    """What no run may show, however slow the machine."""
    found = []
    if row.refused:
        found.append(f"{row.scenario}: refused {row.refused}")
    if row.delivered != row.sent:
        found.append(f"{row.scenario}: {row.sent} acknowledged, {row.delivered} delivered")
    if not row.ack_p99_ms < 1000:
        found.append(f"{row.scenario}: acknowledged only after {row.ack_p99_ms:.0f} ms (p99)")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="measured seconds per load (default 10)")
    parser.add_argument("--short", action="store_true", help="2 s and two loads: does it hold at all? (CI)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--journal", type=Path, help="where to put journals (default: a temporary directory)")
    options = parser.parse_args()
    # As an exception it unwinds through the contexts, which end the processes and remove the journals.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: stopped by SIGTERM"))
    scenarios = [SCENARIOS[1], SCENARIOS[2]] if options.short else list(SCENARIOS)
    seconds = 2.0 if options.short else options.seconds
    rows = []
    with tempfile.TemporaryDirectory(prefix="otel-moesif-bench-", dir=options.journal) as directory:
        for number, scenario in enumerate(scenarios):
            print(f"{scenario.name} calls, {seconds:g} s …", file=sys.stderr, flush=True)
            rows.append(measure(scenario, seconds, Path(directory) / str(number)))
    machine = f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}"
    report = {"machine": machine, "seconds": seconds, "rows": [asdict(row) for row in rows]}
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        print(f"{machine}; {seconds:g} s per load, 20 attributes per span, journal on\n\n{table(rows)}")
    sys.exit("\n".join(problem for row in rows for problem in problems(row)) or 0)


if __name__ == "__main__":
    main()
