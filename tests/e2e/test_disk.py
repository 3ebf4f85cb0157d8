"""Disks that are full or refuse: clients shall retry, the collector stays, recovers alone, loses nothing."""

from __future__ import annotations

import errno
import resource
import time
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from tests.e2e.collector import sandbox
from tests.e2e.traffic import TRACES, Traffic, call, channel, request
from tests.faults.shim import Disk, FaultyCollector, RamDisk

MIB = 1 << 20
SMALL_DISK = 16 * MIB
# With this bound the log is short, as it should be on a small disk; the default is for larger ones.
LOG = 3 * 16 * MIB  # docs/durability.md, "Bounds"
SMALL = {"max_size": "64MiB"}
# What a collector with a full disk may hold in memory: its own queues of 64 MiB each, and itself.
MEMORY = 600 * MIB
# A refused request is answered at once, whatever the disk does.
PATIENCE = 5


@pytest.fixture
def moesif(tmp_path):
    with sandbox(tmp_path, max_events=1_000_000) as running:
        yield running


@pytest.fixture
def disk(tmp_path):
    with RamDisk(tmp_path / "disk", SMALL_DISK) as mounted:
        yield mounted


def collector_on(directory, moesif, **journal):
    journal = {"directory": str(directory / "journal"), **journal}
    return FaultyCollector(directory.parent / "collector", {"moesif": moesif.url}, journal)


def test_a_disk_that_the_journal_has_filled_recovers_when_the_backend_does(disk, moesif):
    """No room comes from elsewhere: delivering has to make it."""
    recovers_from_its_own_backlog(collector_on(disk.path, moesif, **SMALL), moesif)


@pytest.mark.slow
@pytest.mark.parametrize("size", [SMALL_DISK, 48 * MIB, 128 * MIB])
@pytest.mark.timeout(200)
def test_also_with_the_default_bound_which_is_larger_than_the_disk(tmp_path, moesif, size):
    with RamDisk(tmp_path / "disk", size) as disk:
        recovers_from_its_own_backlog(collector_on(disk.path, moesif), moesif)


def recovers_from_its_own_backlog(collector, moesif):
    moesif.behave(status=503)
    with collector.run() as process, Traffic(collector.target, calls=200, recovery=0.1) as traffic:
        refused(process, traffic, timeout=60)
        assert resident(process) < MEMORY
        moesif.behave()
        accepting(process, traffic)
        traffic.stop()
        delivered(process, moesif, traffic)


@pytest.mark.parametrize(
    "end",
    [
        "goes on",
        pytest.param("killed", marks=pytest.mark.slow),
        pytest.param("stopped", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_kept_requests_have_filled_too_recovers_without_them(disk, moesif, end):
    """Each conversion writes the request once more: what delivers must have room none the less."""
    collector = collector_on(disk.path, moesif, **SMALL, keep_raw="1h")
    moesif.behave(status=503)
    with collector.run() as process, Traffic(collector.target, calls=400, recovery=0.1) as traffic:
        refused(process, traffic, timeout=60)
        time.sleep(3)  # let the converter meet it
        if end == "goes on":
            moesif.behave()
            accepting(process, traffic, timeout=60)
            traffic.stop()
            delivered(process, moesif, traffic)
            return
        if end == "stopped":
            process.terminate()
            assert process.wait(60) == 0
        process.kill()
        traffic.stop()
    moesif.behave()
    with collector.run() as process, Traffic(collector.target, calls=1) as more:
        accepting(process, more, timeout=60)
        more.stop()
        delivered(process, moesif, traffic, more)


@pytest.mark.slow
def test_a_start_on_a_disk_that_the_journal_has_filled_delivers_too(disk, moesif):
    collector = collector_on(disk.path, moesif, **SMALL)
    moesif.behave(status=503)
    with collector.run() as process, Traffic(collector.target, calls=200, recovery=0.1) as traffic:
        refused(process, traffic, timeout=60)
        process.kill()
        traffic.stop()
    with collector.run() as process, Traffic(collector.target, calls=1) as more:
        moesif.behave()
        accepting(process, more)
        more.stop()
        delivered(process, moesif, traffic, more)


@pytest.mark.slow
def test_a_disk_that_becomes_larger_is_used(disk, moesif):
    collector = collector_on(disk.path, moesif, **SMALL)
    moesif.behave(status=503)
    with collector.run() as process, Traffic(collector.target, calls=200, recovery=0.1) as traffic:
        refused(process, traffic, timeout=60)
        disk.resize(2 * SMALL_DISK)
        accepting(process, traffic)  # while the backend is still down
        traffic.stop()
        moesif.behave()
        delivered(process, moesif, traffic)


def test_a_disk_that_others_have_filled_recovers_when_they_leave(disk, moesif):
    collector = collector_on(disk.path, moesif, **SMALL)
    with collector.run() as process, Traffic(collector.target, calls=50, recovery=0.1) as traffic:
        process.until(lambda: len(traffic.acknowledged) >= 500, "acknowledgements")
        ballast = disk.fill()
        refused(process, traffic, timeout=60)
        ballast.unlink()
        accepting(process, traffic)
        traffic.stop()
        delivered(process, moesif, traffic)


def test_a_journal_at_its_bound_refuses_and_recovers(tmp_path, moesif):
    bound = 6 * MIB
    collector = collector_on(tmp_path / "here", moesif, max_size=str(bound), on_full="refuse")
    moesif.behave(status=503)
    with collector.run() as process, Traffic(collector.target, calls=200, recovery=0.1) as traffic:
        refused(process, traffic, timeout=60)
        # The events of what waits raw need room too; the log has a bound of its own.
        assert collector.journal.joinpath("journal.db").stat().st_size < 2 * bound
        assert collector.journal.joinpath("journal.db-wal").stat().st_size < LOG
        moesif.behave()
        accepting(process, traffic)
        traffic.stop()
        delivered(process, moesif, traffic)
        assert collector.metric("otelcol_exporter_dropped_events_total") == 0


def test_a_journal_that_drops_the_oldest_counts_each_call_that_it_has_dropped(tmp_path, moesif):
    bound = 6 * MIB
    collector = collector_on(tmp_path / "here", moesif, max_size=str(bound), on_full="drop_oldest")
    moesif.behave(status=503)
    dropped = "otelcol_exporter_dropped_events_total"
    with collector.run() as process, Traffic(collector.target, calls=200) as traffic:
        process.until(lambda: collector.metric(dropped) > 20_000, "dropped events", timeout=60)
        traffic.stop()
        assert collector.journal.joinpath("journal.db").stat().st_size < 2 * bound
        assert not traffic.codes, "whoever drops the oldest refuses nothing"
        counted = collector.metric(dropped)
        process.kill()  # what was dropped is still in its memory, and would arrive none the less
    moesif.behave()
    arrived = settled(collector, moesif)
    assert len(traffic.acknowledged - arrived) == counted


@pytest.mark.parametrize(
    ("changes", "syncs"),
    [
        (errno.EROFS, errno.EROFS),
        pytest.param(errno.EIO, 0, marks=pytest.mark.slow),
        (0, errno.EIO),
        pytest.param(errno.EDQUOT, 0, marks=pytest.mark.slow),
    ],
    ids=["read-only", "cannot write", "cannot sync", "over quota"],
)
def test_a_disk_that_refuses_for_a_while(tmp_path, moesif, changes, syncs):
    collector = collector_on(tmp_path / "here", moesif)
    disk = Disk(collector, tmp_path / "refuses")
    with collector.run() as process, Traffic(collector.target, calls=50, recovery=0.1) as traffic:
        process.until(lambda: len(traffic.acknowledged) >= 500, "acknowledgements")
        disk.refuse(changes, syncs)
        refused(process, traffic)
        time.sleep(1)  # let all that has work with the disk meet it
        disk.refuse()
        accepting(process, traffic)
        traffic.stop()
        delivered(process, moesif, traffic)


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_can_be_raised(tmp_path, moesif):
    """RLIMIT_FSIZE (ulimit -f)."""
    collector = collector_on(tmp_path / "here", moesif)
    unlimited = resource.RLIM_INFINITY
    with collector.run() as process, Traffic(collector.target, calls=200, recovery=0.1) as traffic:
        process.until(lambda: len(traffic.acknowledged) >= 500, "acknowledgements")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4 * MIB, unlimited))
        refused(process, traffic, timeout=30)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        accepting(process, traffic)
        traffic.stop()
        delivered(process, moesif, traffic)


def test_a_directory_that_cannot_be_written_is_one_line_and_exit_1(tmp_path, moesif):
    with RamDisk(tmp_path / "disk", MIB, "ro") as disk:
        collector = collector_on(disk.path, moesif)
        with collector.start() as process:
            assert process.wait(20) == 1, process.output()
    (line,) = [line for line in process.output().splitlines() if str(disk.path) in line]
    assert "Read-only file system" in line
    assert "Traceback" not in process.output()


# -- what all of them have in common ----------------------------------------------------------------------


def refused(process, traffic, timeout=15):
    """Wait until clients are refused, with UNAVAILABLE and RetryInfo, and see that it stays so."""
    process.until(lambda: traffic.codes, "a refusal", timeout)
    process.until(lambda: refusal(traffic.target), "a refusal with RetryInfo", timeout=4 * PATIENCE)
    assert traffic.codes == {"UNAVAILABLE"}


def refusal(target):
    """Whether a request is refused now: in time, and as OTLP says."""
    with channel(target) as connection:
        try:
            call(connection, TRACES, request(1)[0], timeout=PATIENCE)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error  # noqa: PT017 - it may also succeed
            (status,) = [
                value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"
            ]
            retry = RetryInfo()
            assert Status.FromString(status).details[0].Unpack(retry)
            assert 0 < retry.retry_delay.seconds <= 60
            return True
    return False


def accepting(process, traffic, calls=200, timeout=30):
    """Wait until requests are taken again, for good: nobody has helped the process."""
    before = len(traffic.acknowledged)
    process.until(lambda: len(traffic.acknowledged) >= before + calls, "acknowledgements again", timeout)


def delivered(process, moesif, *traffics):
    """Wait until everything that was ever acknowledged is there."""
    wanted = set().union(*(traffic.acknowledged for traffic in traffics))
    unique = (
        "unique_transaction_ids"  # to ask for all of them again and again would take the time of all others
    )
    process.until(lambda: moesif.stats()[unique] >= len(wanted), "as many calls", timeout=90)
    process.until(lambda: moesif.arrived().keys() >= wanted, "every acknowledged call", timeout=30)
    assert set().union(*(traffic.codes for traffic in traffics)) <= {"UNAVAILABLE"}
    assert "Traceback" not in process.output()


def settled(collector, moesif):
    """Deliver what an earlier run has left; gives what is there in the end."""
    with collector.run() as process, channel(collector.target) as connection:
        body, newest = request(1)
        call(connection, TRACES, body)
        process.until(lambda: moesif.arrived().keys() >= set(newest), "the newest call", timeout=30)
        queue = "otelcol_exporter_queue_size"
        process.until(lambda: not collector.metric(queue), "an empty queue", timeout=30)
        assert not collector.metric("otelcol_exporter_dropped_events_total")
    return set(moesif.transactions())


def resident(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
