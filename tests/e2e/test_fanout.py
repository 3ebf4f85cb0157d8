"""Two exporters, one of them with a dead backend: the other one, the memory and the data do not suffer."""

from __future__ import annotations

import psutil
import pytest

from tests.e2e.collector import Collector, Sandbox, sandbox
from tests.e2e.traffic import Traffic
from tests.processes import free_port, until

CALLS = 30_000
QUICK_RETRIES = {"retry_on_failure": {"initial_interval": "100ms", "max_interval": "500ms"}}


@pytest.mark.parametrize("fault", ["refuses connections", "answers 503"])
def test_a_dead_backend_is_nobody_elses_business(tmp_path, fault):
    with sandbox(tmp_path) as healthy:
        ill_port = free_port()
        urls = {"moesif/a": f"http://127.0.0.1:{ill_port}", "moesif/b": healthy.url}
        collector = Collector(tmp_path, urls, exporter_options=QUICK_RETRIES)
        with collector.run() as process:
            if fault == "answers 503":
                with sandbox(tmp_path, ill_port) as ill:
                    ill.behave(status=503)
                    sent = _while_a_is_down(collector, process, healthy)
                    assert not ill.events()
                    ill.behave()
                    _catches_up(ill, sent)
            else:
                sent = _while_a_is_down(collector, process, healthy)
                with sandbox(tmp_path, ill_port) as well:
                    _catches_up(well, sent)
            assert set(healthy.transactions()) == sent  # and A's return sent nothing to B again
            assert max(healthy.transactions().values()) == 1


def _while_a_is_down(collector, process, healthy: Sandbox) -> set[str]:
    """Send `CALLS` calls; B has them at once, and the collector's memory does not hold A's."""
    with Traffic(collector.target, calls=200, pause=0.02) as traffic:
        until(lambda: len(traffic.acknowledged) >= CALLS // 10, "the first tenth", timeout=20)
        until(lambda: healthy.stats()["events"] >= CALLS // 10, "B's first tenth")
        before = psutil.Process(process.pid).memory_info().rss
        until(lambda: len(traffic.acknowledged) >= CALLS, "acknowledgements", timeout=30)
        traffic.stop()
    assert not traffic.unanswered
    assert traffic.slowest < 2
    until(lambda: set(healthy.transactions()) >= traffic.acknowledged, "B has everything", timeout=5)
    grown = psutil.Process(process.pid).memory_info().rss - before
    assert grown < 50 << 20, f"{grown / (1 << 20):.0f} MiB more for A's backlog"
    return traffic.acknowledged


def _catches_up(moesif: Sandbox, sent: set[str]) -> None:
    until(lambda: set(moesif.transactions()) >= sent, "A has everything", timeout=20, pause=0.2)
