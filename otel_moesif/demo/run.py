"""The demo from start to end: collector, traffic, events shown and accounted for, everything stopped."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from otel_moesif.config import load, validate
from otel_moesif.demo.arrivals import Arrivals
from otel_moesif.demo.collector import Collector, is_listening, run_command
from otel_moesif.demo.traffic import Traffic
from otel_moesif.demo.view import Snapshot, View
from otel_moesif.errors import OtelMoesifError
from otel_moesif.plugins import Registry

START_SECONDS = 60
"""How long the collector may take to be ready: imports on a slow, cold machine."""

ARRIVE_SECONDS = 15
"""How long the last calls may take to arrive after the last one was sent."""

_TICK = 0.25


@dataclass(frozen=True)
class Addresses:
    """Where the collector listens; the defaults are those of the worked example, ``collector.yaml``.

    Attributes:
        otlp: OTLP/gRPC, ``host:port``.
        sandbox: Base URL of the sandbox.
    """

    otlp: str = "localhost:4317"
    sandbox: str = "http://localhost:9500"

    def all(self) -> tuple[str, str]:
        """Both as ``host:port``."""
        return self.otlp, urlsplit(self.sandbox).netloc

    @classmethod
    def of(cls, config: Path) -> Addresses:
        """Those of a configuration; the defaults where it is wrong, which the collector will say."""
        try:
            found = validate(load([config]), Registry.load())
        except OtelMoesifError:
            return cls()
        doors = (x.settings.protocols.grpc for id_, x in found.receivers.items() if id_.type == "otlp")
        otlp = next((door.endpoint for door in doors if door), cls.otlp)
        sandboxes = (
            x.settings.endpoint for id_, x in found.extensions.items() if id_.type == "moesif_sandbox"
        )
        sandbox = next((f"http://{endpoint}" for endpoint in sandboxes), cls.sandbox)
        return cls(otlp, sandbox)


@dataclass(frozen=True)
class Plan:
    """What to show.

    Attributes:
        seconds: When to end; None: at Ctrl-C.
        rate: Calls per second.
        console: Where to show it.
    """

    seconds: float | None
    rate: float
    console: Console = field(default_factory=Console)
    addresses: Addresses = Addresses()


def run_demo(config: Path, seconds: float | None, rate: float) -> int:
    """Show the main job.

    Args:
        config: The collector's configuration; listens for OTLP/gRPC and runs the sandbox.
        seconds: When to end; None: at Ctrl-C.
        rate: Calls per second, above 0.

    Returns:
        0 when every call sent has arrived as an event, else 1.
    """
    plan = Plan(seconds, rate, addresses=Addresses.of(config))
    return watch(lambda journal: run_command(config, journal), plan)


def watch(command: Callable[[Path], Sequence[str]], plan: Plan) -> int:
    """Run a collector, send it sample traffic and show what arrives.

    Args:
        command: Makes the collector's command line from the directory for its journal.
        plan: What to show.

    Returns:
        0 when every call sent has arrived as an event, else 1.
    """
    taken = [address for address in plan.addresses.all() if is_listening(address)]
    if taken:
        _say(plan, f"{' and '.join(taken)}: in use; stop what listens there (another collector or demo?)")
        return 1
    with _interrupts() as interrupted:
        directory = Path(tempfile.mkdtemp(prefix="otel-moesif-demo-"))
        collector = Collector(command(directory / "journal"), directory / "collector.log")
        arrivals = Arrivals(plan.addresses.sandbox)
        try:
            problem = _wait_until_ready(collector, arrivals, plan, interrupted)
            if not problem:
                _say(plan, f"Sending {plan.rate:g} sample calls per second to {plan.addresses.otlp}")
                problem = _show(collector, arrivals, plan, interrupted)
        finally:
            arrivals.close()
            code = collector.stop()
        if not problem and code != 0:
            problem = f"the collector stopped with exit code {code}"
        if not problem:
            shutil.rmtree(directory, ignore_errors=True)
            return 0
        _say(plan, f"Failed: {problem}. The end of the collector's log, {collector.log}:")
        for line in collector.last_lines():
            _say(plan, f"  {line}")
        return 1


def _wait_until_ready(
    collector: Collector, arrivals: Arrivals, plan: Plan, interrupted: Callable[[], int]
) -> str:
    """Wait for the collector; what is wrong, or an empty text."""
    deadline = time.monotonic() + START_SECONDS
    while collector.running:
        if arrivals.ready() and is_listening(plan.addresses.otlp):
            return ""
        if interrupted():
            return "interrupted before the collector was ready"
        if time.monotonic() > deadline:
            wanted = f"OTLP/gRPC on {plan.addresses.otlp} and the sandbox on {plan.addresses.sandbox}"
            return f"the collector was not ready within {START_SECONDS} s: the demo needs {wanted}"
        time.sleep(_TICK)
    return "the collector did not start"


def _show(collector: Collector, arrivals: Arrivals, plan: Plan, interrupted: Callable[[], int]) -> str:
    """Send and show until it is time to end, then until all has arrived; what is wrong, or an empty text."""
    traffic = Traffic(plan.addresses.otlp)
    enough = threading.Event()
    sender = threading.Thread(target=traffic.run, args=(plan.rate, enough), name="demo-traffic", daemon=True)
    begin = time.monotonic()
    with View(plan.console) as view:

        def look() -> Snapshot:
            arrivals.poll(traffic.sent)
            snapshot = _snapshot(arrivals, time.monotonic() - begin)
            view.update(snapshot)
            return snapshot

        sender.start()
        while collector.running and not interrupted():
            if plan.seconds is not None and time.monotonic() - begin >= plan.seconds:
                break
            time.sleep(_TICK)
            look()
        enough.set()
        deadline = time.monotonic() + ARRIVE_SECONDS
        last = look()
        # A second Ctrl-C: do not wait any longer.
        while (sender.is_alive() or arrivals.missing) and collector.running and interrupted() < 2:
            if time.monotonic() > deadline:
                break
            time.sleep(_TICK)
            last = look()
        traffic.close()
        died = not collector.running
        view.finish(last)
    missing = arrivals.missing
    arrived = f"{arrivals.arrived} arrived as events ({missing} missing), {arrivals.repeated} repeated"
    _say(plan, f"{arrivals.sent} calls sent, {arrived}", style="bold red" if missing else "bold green")
    if died:
        return "the collector stopped by itself"
    refused = (
        f" ({traffic.failed_spans} spans were not taken by the collector)" if traffic.failed_spans else ""
    )
    return f"not every call arrived{refused}" if missing else ""


def _say(plan: Plan, line: str, style: str = "") -> None:
    # Neither wrapped nor coloured word by word, so that it can be searched for.
    plan.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _snapshot(arrivals: Arrivals, seconds: float) -> Snapshot:
    return Snapshot(
        seconds=seconds,
        sent=arrivals.sent,
        arrived=arrivals.arrived,
        repeated=arrivals.repeated,
        by_api=arrivals.stats.get("by_api", {}),
        by_type=arrivals.stats.get("by_event_type", {}),
        sample=arrivals.sample,
    )


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], int]]:
    """Count SIGINT and SIGTERM instead of dying of them: the collector must be stopped, and the verdict said.

    Yields:
        Tells how many there were.
    """
    count = 0

    def note(_signal: int, _frame: object) -> None:
        nonlocal count
        count += 1

    previous = {}
    if threading.current_thread() is threading.main_thread():  # signals can be set from nowhere else
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: count
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
