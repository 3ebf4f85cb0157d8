"""One of two backends is ill: the other one, the gateways, the memory and the data do not suffer.

Times are scaled 1:100, so that seconds stand for minutes: with ``initial_interval`` 10 ms instead of 1 s and
``max_interval`` 300 ms instead of 30 s, the three seconds of a fault are the five minutes of a real one. The
exporter's ``timeout`` is 1 s; answers that never end take that long.
"""

from __future__ import annotations

import itertools
import shutil
import ssl
import subprocess
import time
from dataclasses import dataclass

import psutil
import pytest

from tests.e2e.collector import Collector, Sandbox, sandbox
from tests.e2e.faulty_backend import FAULTS, Fault, FaultyBackend
from tests.e2e.traffic import Traffic
from tests.processes import Process, until

ILL, WELL = "moesif/ill", "moesif/well"
CALLS = 10_000  # per fault, at least
SECONDS = 2.5  # of a fault, at least
TIMEOUT = 1.0
CONSUMERS = 8  # many of them, to see that they do not multiply the probes
MAX_INTERVAL = 0.3
# From 10 ms to 300 ms by factors of 1.5 are nine attempts; full jitter waits half of the bound on average.
GROWTH, MEAN_WAIT = 9, MAX_INTERVAL / 2
GROWN = 50 << 20
OPTIONS = {
    "timeout": f"{TIMEOUT:g}s",
    "retry_on_failure": {"initial_interval": "10ms", "max_interval": f"{MAX_INTERVAL * 1000:g}ms"},
    "sending_queue": {"num_consumers": CONSUMERS, "batch": {"flush_timeout": "100ms"}},
}


@dataclass
class Setting:
    """What all faults share: one collector, which is as good as new after each of them."""

    collector: Collector
    process: Process
    backend: FaultyBackend
    healthy: Sandbox


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    directory = tmp_path_factory.mktemp("faults")
    with sandbox(directory, max_events=CALLS * 10 * len(FAULTS)) as healthy, FaultyBackend() as backend:
        collector = Collector(directory, {ILL: backend.url, WELL: healthy.url}, exporter_options=OPTIONS)
        with collector.run() as process:
            with Traffic(collector.target, calls=200) as warm_up:
                until(lambda: len(warm_up.acknowledged) >= CALLS, "the first calls", timeout=20)
            _arrive(healthy.arrived, warm_up.acknowledged, WELL)
            _arrive(lambda: backend.taken, warm_up.acknowledged, ILL)
            yield Setting(collector, process, backend, healthy)
            process.terminate()
            assert process.wait(25) == 0, process.output()
        assert collector.dead_letters() == 0
        assert "Traceback" not in process.output()


@dataclass
class Episode:
    """One fault from its beginning to full recovery; the tests judge what was seen."""

    fault: Fault
    sent: set[str]
    attempts: list[float]
    lasted: float
    grown: float
    setting: Setting


@pytest.fixture(scope="module", params=FAULTS, ids=str)
def episode(request, setting):
    fault, backend, memory = request.param, setting.backend, psutil.Process(setting.process.pid).memory_info
    with backend.ill(fault):
        begin, before = time.monotonic(), memory().rss
        sent = _send(setting.collector, setting.healthy)
        until(lambda: time.monotonic() - begin >= SECONDS)
        lasted, grown = time.monotonic() - begin, memory().rss - before
        attempts = list(backend.attempts)
        assert not sent & backend.taken.keys()
    yield Episode(fault, sent, attempts, lasted, grown, setting)
    # Also when a test failed: the next fault shall meet a collector without a backlog.
    _arrive(lambda: backend.taken, sent, ILL)


def test_an_ill_backend_is_nobody_elses_business(episode):
    assert episode.grown < GROWN, f"{episode.grown / (1 << 20):.0f} MiB more"
    _arrive(lambda: episode.setting.backend.taken, episode.sent, ILL)
    # Its return sent nothing to the other one again.
    assert max(episode.setting.healthy.arrived().values()) == 1
    assert episode.setting.process.exit_code is None


def test_an_ill_backend_is_probed_no_more_often_and_no_sooner_than_it_may(episode):
    attempts, fault = episode.attempts, episode.fault
    assert attempts or fault.refuses
    assert len(attempts) <= _most_attempts(fault, episode.lasted)
    assert not fault.retry_after or _honoured(attempts, fault.retry_after), attempts


def test_a_certificate_that_nobody_signed_is_refused_and_costs_nothing_else(tmp_path):
    certificate = _self_signed(tmp_path)
    with sandbox(tmp_path) as healthy, FaultyBackend(certificate) as backend:
        collector = Collector(tmp_path, {ILL: backend.url, WELL: healthy.url}, exporter_options=OPTIONS)
        with collector.run() as process:
            sent = _send(collector, healthy)
            assert backend.attempts
            assert not backend.taken
            process.terminate()
            assert process.wait(25) == 0, process.output()
        assert "certificate" in process.output().lower()  # whoever reads the log knows why
        # Whoever runs it corrects the endpoint; what waited was kept for the exporter's id.
        with FaultyBackend() as honest:
            collector.config["exporters"][ILL]["endpoint"] = honest.url
            with collector.run():
                _arrive(lambda: honest.taken, sent, ILL)
            assert max(healthy.arrived().values()) == 1


def _send(collector: Collector, healthy: Sandbox) -> set[str]:
    """Send `CALLS` calls; they are acknowledged quickly, and the healthy backend has them at once."""
    with Traffic(collector.target, calls=200, pause=0.05) as traffic:
        until(lambda: len(traffic.acknowledged) >= CALLS, "acknowledgements", timeout=30)
    assert not traffic.unanswered
    assert traffic.slowest < 2
    _arrive(healthy.arrived, traffic.acknowledged, WELL, timeout=5)
    return traffic.acknowledged


def _arrive(arrived, sent: set[str], where: str, timeout: float = 20) -> None:
    until(lambda: sent <= arrived().keys(), f"every call at {where}", timeout=timeout, pause=0.1)


def _most_attempts(fault: Fault, lasted: float) -> float:
    """One probe per backoff interval (twice that, for jitter), and what was in flight when it fell ill."""
    each = max(fault.retry_after, MEAN_WAIT + (TIMEOUT if fault.hangs else 0))
    growth = 0 if fault.hangs or fault.retry_after else GROWTH
    return CONSUMERS + 2 * (growth + lasted / each)


def _honoured(attempts: list[float], retry_after: float) -> bool:
    """Whether no attempt follows the first answers sooner than they asked for."""
    later = [attempt for attempt in attempts if attempt > attempts[0] + 0.9 * retry_after]
    burst = len(attempts) - len(later)  # in flight before the first answer
    gaps = [after - before for before, after in itertools.pairwise([attempts[burst - 1], *later])]
    return burst <= CONSUMERS and all(gap >= 0.9 * retry_after for gap in gaps)


def _self_signed(directory) -> ssl.SSLContext:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("no openssl to make a certificate with")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
