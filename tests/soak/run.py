"""The soak: traffic, a sandbox that misbehaves, and the account at the end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.collector import Collector, sandbox
from tests.e2e.traffic import Traffic
from tests.processes import Process

# What a collector may need after the last call: its backoff, and the answers that come late.
SETTLE_SECONDS = 120
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        seed: Of the misbehaviour.
        seconds: How long traffic comes.
        share: Of the requests that go wrong, 0 to 1.
    """

    seed: int
    seconds: float
    share: float


@dataclass
class Report:
    """What came of it.

    Attributes:
        acknowledged: Calls that the collector took.
        missing: Of these, how many never arrived.
        strange: Transaction ids that arrived and nobody sent.
        repeated: Arrivals beyond the first: what was stored and not acknowledged; Moesif knows the id.
        dead: Dead letters, counted in events.
        happened: What went wrong, by kind.
        growth: MiB that the collector's memory grew by after the first tenth of the time.
    """

    plan: Plan
    acknowledged: int = 0
    missing: int = 0
    strange: int = 0
    repeated: int = 0
    dead: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    growth: float = 0

    @property
    def held(self) -> bool:
        """Whether each call arrived as one event, and enough went wrong to prove something."""
        return bool(self.acknowledged and self.happened) and not (self.missing or self.strange or self.dead)

    def text(self) -> str:
        """For people."""
        kinds = ", ".join(f"{name}: {count}" for name, count in sorted(self.happened.items()))
        return (
            f"seed {self.plan.seed}: {self.acknowledged} calls acknowledged in {self.plan.seconds:.0f} s, "
            f"{self.missing} missing, {self.strange} that nobody sent, {self.dead} dead letters, "
            f"{self.repeated} arrivals repeated under the same id; memory grew by {self.growth:.0f} MiB\n"
            f"what went wrong: {kinds}\n" + ("held" if self.held else "NOT HELD")
        )


def soak(plan: Plan, directory: Path) -> Report:
    """Run it.

    Args:
        plan: What to do.
        directory: Takes the journal and the logs.
    """
    report = Report(plan)
    retry = {"initial_interval": "100ms", "max_interval": "1s"}
    options = {"timeout": "2s", "retry_on_failure": retry, "sampling": {"refresh_interval": "1s"}}
    with sandbox(directory, max_events=300_000) as moesif:
        collector = Collector(directory, {"moesif": moesif.url}, exporter_options=options)
        chaos = {"seed": plan.seed, "share": plan.share, "max_delay": 3}
        moesif.behave(chaos=chaos)
        with (
            collector.run() as process,
            Traffic(collector.target, calls=10, threads=2, pause=0.02) as traffic,
        ):
            begin, before = time.monotonic(), 0
            while (passed := time.monotonic() - begin) < plan.seconds:
                if not before and passed > plan.seconds / 10:
                    before = _resident(process)
                moesif.arrived()  # read before it leaves the sandbox
                time.sleep(_LOOK_SECONDS)
            report.growth = (_resident(process) - before) / (1 << 20)
            traffic.stop()
            report.happened = Counter(moesif.stats()["chaos"])
            moesif.behave()
            with contextlib.suppress(AssertionError):  # the report says what is missing
                process.until(
                    lambda: traffic.acknowledged <= moesif.arrived().keys(), "all calls", SETTLE_SECONDS
                )
        arrived = moesif.transactions()
    report.acknowledged = len(traffic.acknowledged)
    report.missing = len(traffic.acknowledged - arrived.keys())
    report.strange = len(arrived.keys() - traffic.acknowledged - traffic.unanswered)
    report.repeated = arrived.total() - len(arrived)
    report.dead = collector.dead_letters()
    return report


def _resident(process: Process) -> int:
    """Bytes of memory of the collector."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
