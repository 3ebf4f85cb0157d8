"""SIGKILL in the middle of traffic: what a gateway was told is safe, is safe."""

from __future__ import annotations

from tests.e2e.collector import Collector, sandbox
from tests.e2e.traffic import Traffic
from tests.processes import until


def test_no_acknowledged_call_is_lost_by_a_kill(tmp_path):
    with sandbox(tmp_path) as moesif:
        collector = Collector(tmp_path, {"moesif": moesif.url})
        with Traffic(collector.target, calls=20) as traffic:
            for step in (400, 1200):  # the second time, it starts on what the first kill left
                with collector.run() as process:
                    until(lambda step=step: len(traffic.acknowledged) >= step, "acknowledgements", timeout=15)
                    process.kill()
            traffic.stop()
        with collector.run():
            arrived = until(lambda: _all(traffic.acknowledged, moesif), "every acknowledged call", timeout=15)
    assert arrived <= traffic.acknowledged | traffic.unanswered, "calls that nobody sent"
    assert traffic.codes <= {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


def _all(wanted, moesif):
    arrived = set(moesif.transactions())
    return arrived if wanted <= arrived else set()
