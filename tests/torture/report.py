"""What a run has shown, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN = 20  # missing ids that are named


@dataclass
class Report:
    """The counts of one run, and what is wrong with them.

    Attributes:
        kills_in_start: Those of the kills that came before the collector took requests.
        sent: Calls of which at least one request left.
        unanswered: Those of them that were never acknowledged; the collector may have them or not.
        requests: Requests by what became of them: status codes, and ``repeated`` on purpose.
        delivered: Exporter → different calls that arrived.
        repeated: Exporter → arrivals beyond the first one of a call, always under the same id.
        missing: Exporter → calls that were acknowledged and did not arrive.
        strangers: Exporter → arrivals that nobody sent.
        slowest_ack: Seconds.
        longest_shutdown: Seconds from SIGTERM to the end of the process.
        problems: What must not be; empty when the guarantee held.
        directory: Journal, configuration and logs, when they were kept.
    """

    seed: int
    kills: int = 0
    kills_in_start: int = 0
    terms: int = 0
    sent: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    strangers: dict[str, list[str]] = field(default_factory=dict)
    dead_letters: int = 0
    slowest_ack: float = 0
    longest_shutdown: float = 0
    duration: float = 0
    problems: list[str] = field(default_factory=list)
    directory: str = ""

    @property
    def held(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def compare(
        self,
        exporter: str,
        arrived: Mapping[str, int],
        acknowledged: AbstractSet[str],
        sent: AbstractSet[str],
    ) -> None:
        """Judge what arrived at one exporter's backend.

        Args:
            exporter: Its id.
            arrived: Transaction id → how often.
            acknowledged: Transaction ids that must be there.
            sent: Transaction ids that may be there.
        """
        self.delivered[exporter] = len(arrived)
        self.repeated[exporter] = sum(arrived.values()) - len(arrived)
        self.missing[exporter] = sorted(acknowledged - arrived.keys())
        self.strangers[exporter] = sorted(arrived.keys() - sent)
        if self.missing[exporter]:
            self.problems.append(f"{exporter}: {len(self.missing[exporter])} acknowledged calls are missing")
        if self.strangers[exporter]:
            self.problems.append(f"{exporter}: {len(self.strangers[exporter])} arrived that nobody sent")

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {"verdict": self._verdict(), **asdict(self)}

    def table(self) -> str:
        """Two columns of plain text, then what is wrong."""
        rows = [
            ("seed", str(self.seed)),
            ("kill -9", f"{self.kills} ({self.kills_in_start} while starting)"),
            ("SIGTERM", str(self.terms)),
            ("requests", ", ".join(f"{count:,} {name}" for name, count in self.requests.items())),
            ("calls sent", f"{self.sent:,}"),
            ("calls acknowledged", f"{self.acknowledged:,}"),
            ("calls unanswered", f"{self.unanswered:,}"),
            *((f"delivered to {name}", f"{count:,}") for name, count in self.delivered.items()),
            *((f"repeated to {name}", f"{count:,}") for name, count in self.repeated.items()),
            *((f"missing at {name}", f"{len(ids):,}") for name, ids in self.missing.items()),
            *((f"never sent, at {name}", f"{len(ids):,}") for name, ids in self.strangers.items()),
            ("dead letters", str(self.dead_letters)),
            ("slowest acknowledgement", f"{self.slowest_ack:.2f} s"),
            ("longest shutdown", f"{self.longest_shutdown:.2f} s"),
            ("duration", f"{self.duration:.0f} s"),
            ("verdict", self._verdict()),
        ]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        lines += [f"! {problem}" for problem in self.problems]
        for title, found in (("missing", self.missing), ("never sent", self.strangers)):
            for exporter, ids in found.items():
                lines += [f"  {title} at {exporter}: {id_}" for id_ in ids[:SHOWN]]
        if self.directory:
            lines.append(f"journal, configuration and logs: {self.directory}")
        return "\n".join(lines)

    def _verdict(self) -> str:
        return "nothing acknowledged was lost" if self.held else "BROKEN"
