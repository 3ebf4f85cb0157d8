"""Garbage on both ports: no crash, no hang, no 5xx but 503, no growth, and honest clients are served."""

from __future__ import annotations

import pytest

from tests.e2e.collector import sandbox
from tests.e2e.frontdoor.garbage import collector_for_garbage, soak
from tests.e2e.frontdoor.watch import warm_up


@pytest.mark.parametrize(
    ("seconds", "seed"), [(4, 1), pytest.param(90, 2, marks=[pytest.mark.slow, pytest.mark.timeout(200)])]
)
def test_garbage_is_survived(tmp_path, seconds, seed):
    with sandbox(tmp_path) as moesif:
        collector = collector_for_garbage(tmp_path, moesif.url)
        with collector.run() as process:
            warm_up(collector)
            outcome = soak(collector, process.pid, seconds, seed)
            assert process.exit_code is None, process.output()
    assert len(outcome.sent) >= 10, "most kinds were tried"
    assert not outcome.bad()
    assert not outcome.hung
    assert outcome.growth_mib < 30
    assert "Traceback" not in process.output()
    assert len(process.output()) < 100_000, "garbage does not fill the log"
    outcome.honest.check()
