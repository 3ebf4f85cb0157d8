"""A power cut at any moment: what was acknowledged is on disk, as `service.journal.fsync` promises."""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.collector import sandbox
from tests.e2e.traffic import Traffic
from tests.faults.shim import FaultyCollector, PowerCut

# Acknowledged calls after which the power may fail. They make a few MiB of log, and with a bound of 64 MiB
# the log is copied into the database at 1 MiB: so the power fails in checkpoints too.
EARLIEST, LATEST = 500, 6000
SMALL = {"max_size": "64MiB"}
INTERVAL = 1.0


@pytest.fixture(scope="module")
def moesif(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.mark.parametrize("torn", [False, True], ids=["only what was synced", "and blocks that were not"])
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 9))])
def test_acknowledged_calls_survive_power_cuts(tmp_path, moesif, seed, torn):
    chance = random.Random(seed)  # noqa: S311 - no secret
    collector = FaultyCollector(tmp_path, {"moesif": moesif.url}, SMALL)
    acknowledged = set()
    for cut in range(2):  # the second time, the collector has started on what the first cut left
        # With a backend that is down all has to come out of the journal; with one that is up, the cursor
        # moves and rows are deleted meanwhile.
        moesif.behave(status=503 if (seed + cut) % 2 else None)
        power = PowerCut(collector, tmp_path / f"cut-{cut}")
        acknowledged |= traffic_until_the_cut(collector, chance)
        if torn:
            power.tear(chance.getrandbits(32))
        collector.use(power.left)
    assert not acknowledged - delivered_after(collector, moesif, acknowledged)
    # Blocks out of order cannot always be told from damage; what is made anew then has everything too.
    if not torn:
        assert not list(power.left.glob("journal-corrupt-*")), "a power cut is no damage"


@pytest.mark.slow
def test_without_fsync_the_same_cut_loses_calls(tmp_path, moesif):
    """The control: the harness can fail, and `off` is no better than it says."""
    moesif.behave(status=503)
    collector = FaultyCollector(tmp_path, {"moesif": moesif.url}, {**SMALL, "fsync": "off"})
    power = PowerCut(collector, tmp_path / "cut")
    acknowledged = traffic_until_the_cut(collector, random.Random(3))  # noqa: S311 - no secret
    collector.use(power.left)
    with pytest.raises(AssertionError, match="did not come true"):
        delivered_after(collector, moesif, acknowledged, timeout=3)
    assert len(acknowledged - set(moesif.transactions())) > len(acknowledged) // 2


@pytest.mark.slow
def test_with_an_interval_only_the_last_calls_are_lost(tmp_path, moesif):
    moesif.behave(status=503)
    journal = {**SMALL, "fsync": "interval", "fsync_interval": f"{INTERVAL}s"}
    collector = FaultyCollector(tmp_path, {"moesif": moesif.url}, journal)
    power = PowerCut(collector, tmp_path / "cut")
    with collector.run() as process, Traffic(collector.target, calls=50) as traffic:
        process.until(lambda: len(traffic.acknowledged) >= EARLIEST, "acknowledgements")
        old = set(traffic.acknowledged)
        time.sleep(INTERVAL + 0.5)  # the time that is promised, and that of a sync on a busy disk
        process.kill()
        traffic.stop()
    collector.use(power.left)
    delivered_after(collector, moesif, old)
    assert len(traffic.acknowledged - old) > EARLIEST, "nothing came that could have been lost"


def traffic_until_the_cut(collector, chance):
    """Send until the power fails at a random moment; gives what was acknowledged."""
    calls = chance.randint(EARLIEST, LATEST)
    with collector.run() as process, Traffic(collector.target, calls=50, pause=0) as traffic:
        process.until(lambda: len(traffic.acknowledged) >= calls, "acknowledgements", timeout=20)
        time.sleep(chance.random() * 0.02)  # any moment of a commit, not only the one after an answer
        process.kill()
        traffic.stop()
    assert traffic.codes <= {"UNAVAILABLE", "CANCELLED"}
    return traffic.acknowledged


def delivered_after(collector, moesif, wanted, timeout=15):
    """Start on what the power cut left, with a backend that works; gives what is there in the end."""
    moesif.behave()
    collector.env = {}
    with collector.run() as process:
        process.until(lambda: set(moesif.transactions()) >= wanted, "delivery", timeout=timeout)
    return set(moesif.transactions())
