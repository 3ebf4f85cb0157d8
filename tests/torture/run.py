"""One run: a collector that is ended again and again under load, and the sum of it afterwards."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.collector import Collector, Sandbox, sandbox
from tests.e2e.traffic import Traffic
from tests.processes import Process, listening
from tests.torture.gateway import Gateway
from tests.torture.report import Report

QUICK, SLOW = "moesif/quick", "moesif/slow"
_MARGIN = 2.0  # seconds over shutdown_timeout: closing connections, and a busy machine
_STALLED = 45.0  # seconds without a single new arrival: the rest will never come
# Events that a sandbox holds for us, who read them after every round. It remembers 20 times as many ids, so
# that its own count of repeated ones is exact up to a million calls.
_KEPT = 50_000
_START_SECONDS = 60
_IN_START_SHARE = 0.35  # of the kills
_LONGEST_LIFE = 1.5  # seconds between the open port and the end
# What a client of a collector that comes and goes may be told.
_CODES = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
_RETRIES = {"retry_on_failure": {"initial_interval": "100ms", "max_interval": "1s"}}


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        seed: Of the moments, the traffic and the moods of the slow backend.
        kills: How often to SIGKILL.
        terms: How often to SIGTERM.
        noise: Requests that are no calls, percent.
        shutdown_timeout: The collector's, in whole seconds.
        threads: Gateways.
        pause: Seconds between two requests of a gateway.
    """

    seed: int
    kills: int
    terms: int
    noise: int = 5
    shutdown_timeout: int = 5
    threads: int = 3
    pause: float = 0.03


def torture(plan: Plan, directory: Path) -> Report:
    """Torture, drain, compare; takes about two seconds per kill.

    Args:
        plan: What to do.
        directory: Takes journal, configuration and logs.
    """
    begin = time.monotonic()
    with sandbox(directory, max_events=_KEPT) as quick, sandbox(directory, max_events=_KEPT) as slow:
        collector = Collector(
            directory,
            {QUICK: quick.url, SLOW: slow.url},
            exporter_options=_RETRIES,
        )
        collector.config["service"]["shutdown_timeout"] = f"{plan.shutdown_timeout}s"
        collector.config["service"]["telemetry"] = {"metrics": {"address": None}}
        traffic = Traffic(
            collector.target,
            make=Gateway(plan.seed, noise=plan.noise),
            threads=plan.threads,
            pause=plan.pause,
            repeat=0.05,
            persist=0.7,
            recovery=0.1,
            seed=plan.seed,
        )
        report = _Run(plan, collector, {QUICK: quick, SLOW: slow}, traffic).run()
    report.duration = time.monotonic() - begin
    return report


class _Run:
    def __init__(
        self, plan: Plan, collector: Collector, sandboxes: dict[str, Sandbox], traffic: Traffic
    ) -> None:
        self._plan = plan
        self._collector = collector
        self._sandboxes = sandboxes
        self._slow = sandboxes[SLOW]
        self._traffic = traffic
        self._random = random.Random(plan.seed)  # noqa: S311 - no secret
        self._start_seconds = 1.0
        self._report = Report(plan.seed)

    def run(self) -> Report:
        try:
            with self._traffic:
                self._rounds()
                self._last_round()
        except AssertionError as error:  # the counts up to there are worth seeing, too
            self._report.problems.append(_first_line(error))
        else:
            self._compare()
        self._count()
        return self._report

    # -- rounds ---------------------------------------------------------------------------------------

    def _rounds(self) -> None:
        rounds = [self._kill] * self._plan.kills + [self._terminate] * self._plan.terms
        self._random.shuffle(rounds)
        for end in rounds:
            self._mood()
            with self._collector.start() as process:
                end(process)
            for moesif in self._sandboxes.values():
                moesif.arrived()

    def _mood(self) -> None:
        """Let the slow backend be slow, down, busy for a moment, or away before it answers.

        What the sandbox answers late it has stored before, so that being slow alone would hide a cursor that
        moves too early; refusals show that, also of single batches while others go on.
        """
        mood = self._random.random()
        if mood < 0.25:
            self._slow.behave(status=503)
        elif mood < 0.55:
            self._slow.behave(status=503, retry_after=2, times=1)
        elif mood < 0.7:
            self._slow.behave(drop_connection=True, times=self._random.randint(1, 4))
        else:
            self._slow.behave(delay=self._random.uniform(0.1, 1.0))

    def _kill(self, process: Process) -> None:
        if self._random.random() < _IN_START_SHARE:
            time.sleep(self._random.uniform(0, self._start_seconds))
        else:
            self._live(process)
        self._report.kills += 1
        self._report.kills_in_start += not listening(self._collector.grpc_port)
        self._expect_running(process)
        process.kill()

    def _terminate(self, process: Process) -> None:
        self._live(process)
        self._report.terms += 1
        self._stop(process)

    def _live(self, process: Process) -> None:
        """Until it takes requests, and then a moment, in the middle of which the backend's mood changes."""
        self._come_up(process)
        self._mood()
        time.sleep(self._random.uniform(0, _LONGEST_LIFE / 2))

    def _come_up(self, process: Process) -> None:
        begin = time.monotonic()
        port = self._collector.grpc_port
        process.until(lambda: listening(port), "the OTLP port", timeout=_START_SECONDS)
        self._start_seconds = time.monotonic() - begin
        time.sleep(self._random.uniform(0, _LONGEST_LIFE / 2))

    def _expect_running(self, process: Process) -> None:
        if process.exit_code is not None:
            self._report.problems.append(f"the collector ended by itself, with {process.exit_code}")

    def _stop(self, process: Process) -> None:
        self._expect_running(process)
        begin = time.monotonic()
        process.terminate()
        try:
            code = process.wait(self._plan.shutdown_timeout + _MARGIN)
        except AssertionError as error:
            self._report.problems.append(f"SIGTERM: {_first_line(error)}")
        else:
            if code != 0:
                self._report.problems.append(f"exit code {code} after SIGTERM")
        self._report.longest_shutdown = max(self._report.longest_shutdown, time.monotonic() - begin)

    # -- the end --------------------------------------------------------------------------------------

    def _last_round(self) -> None:
        """Start on what is left, end the traffic, and let everything arrive."""
        self._slow.behave()
        with self._collector.start() as process:
            self._come_up(process)
            self._traffic.stop()
            self._drain(process)
            self._stop(process)

    def _drain(self, process: Process) -> None:
        """Until all have arrived everywhere, or nothing new comes any more."""
        wanted, last, stalled = self._traffic.acknowledged, -1, 0.0
        while process.exit_code is None:
            arrived = [moesif.arrived() for moesif in self._sandboxes.values()]
            if all(wanted <= ids.keys() for ids in arrived):
                return
            progress = sum(map(len, arrived))
            if progress > last:
                last, stalled = progress, time.monotonic() + _STALLED
            if time.monotonic() > stalled:
                return  # the comparison says what is missing
            time.sleep(0.1)

    def _compare(self) -> None:
        report, acknowledged = self._report, self._traffic.acknowledged
        for exporter, moesif in self._sandboxes.items():
            report.compare(exporter, moesif.arrived(), acknowledged, acknowledged | self._traffic.unanswered)
            if (told := moesif.stats()["repeated"]) != report.repeated[exporter]:
                report.problems.append(f"{exporter}: the sandbox has counted {told} repeated events")
        report.dead_letters = self._collector.dead_letters()
        if report.dead_letters:
            report.problems.append(f"{report.dead_letters} dead letters")
        if not acknowledged:
            report.problems.append("nothing was acknowledged: the run says nothing")

    def _count(self) -> None:
        report, traffic = self._report, self._traffic
        report.sent = len(traffic.acknowledged | traffic.unanswered)
        report.acknowledged = len(traffic.acknowledged)
        report.unanswered = report.sent - report.acknowledged
        report.requests = dict(traffic.requests)
        report.slowest_ack = traffic.slowest
        if odd := traffic.codes - _CODES:
            report.problems.append(f"clients were told {', '.join(sorted(odd))}")
        log = self._collector.log
        if tracebacks := log.read_text(errors="replace").count("Traceback"):
            report.problems.append(f"{tracebacks} tracebacks in {log.name}")


def _first_line(error: AssertionError) -> str:
    """Without the output of the process, which follows, and is in its log anyway."""
    return str(error).partition("\n")[0]
