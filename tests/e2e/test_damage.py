"""A journal that the disk has damaged: it comes up, delivers what is readable, and is never silent."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing, contextmanager
from typing import NamedTuple

import httpx
import pytest

from tests.e2e.collector import Sandbox, sandbox
from tests.e2e.traffic import TRACES, Traffic, call, channel, request
from tests.faults.shim import FaultyCollector

CALLS = 2000
# Per request. A damaged request becomes a dead letter that counts as one.
CALLS_EACH = 50
PAGE = 4096
# How often a start may be tried until the collector runs: a supervisor's restart, not a crash loop.
ATTEMPTS = 2
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def moesif(backend):
    """An empty sandbox that takes everything."""
    backend.behave()
    httpx.delete(f"{backend.url}/sandbox/events", trust_env=False).raise_for_status()
    return Sandbox(backend.port)


@pytest.fixture(scope="module")
def journals(tmp_path_factory, backend):
    """Journals full of calls, by how their collector ended, each with what was acknowledged."""
    backend.behave(status=503)
    found = {}
    for end in ("stop", "kill"):
        collector = FaultyCollector(tmp_path_factory.mktemp("journal") / end, {"moesif": backend.url})
        with collector.run() as process, Traffic(collector.target, calls=CALLS_EACH) as traffic:
            process.until(lambda t=traffic: len(t.acknowledged) >= CALLS, "acknowledgements", timeout=20)
            if end == "stop":
                traffic.stop()
                process.terminate()
                assert process.wait(20) == 0
            process.kill()
            traffic.stop()
        found[end] = collector.journal, traffic.acknowledged
    return found


# -- damages --------------------------------------------------------------------------------------------


def cut(path, chance):
    """Of the file only a beginning is left."""
    with path.open("r+b") as file:
        file.truncate(chance.randrange(1, path.stat().st_size))


def noise(path, chance):
    """Up to four pages are overwritten, anywhere."""
    length = chance.randint(1, 4 * PAGE)
    with path.open("r+b") as file:
        file.seek(chance.randrange(0, max(1, path.stat().st_size - length)))
        file.write(chance.randbytes(length))


def much_noise(path, chance):
    """Every eighth page has some, from the second on."""
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // PAGE):
            if chance.random() < 1 / 8:
                file.seek(page * PAGE + chance.randrange(PAGE - 100))
                file.write(chance.randbytes(100))


def header(path, chance):
    """The beginning is noise."""
    with path.open("r+b") as file:
        file.write(chance.randbytes(100))


def empty(path, chance):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("end", "damage", "suffix", "seed", "recoverable"),
    [
        ("stop", noise, "", 3, False),
        ("stop", header, "", 4, True),
        ("kill", noise, "-wal", 8, False),
        pytest.param("stop", cut, "", 1, False, marks=SLOW),
        pytest.param("stop", noise, "", 2, False, marks=SLOW),
        pytest.param("stop", empty, "", 5, False, marks=SLOW),
        pytest.param("kill", noise, "", 6, False, marks=SLOW),
        pytest.param("kill", header, "", 7, True, marks=SLOW),
        pytest.param("kill", header, "-wal", 9, True, marks=SLOW),
        *(pytest.param("stop", noise, "", seed, False, marks=SLOW) for seed in range(10, 16)),
        *(pytest.param("kill", noise, "-wal", seed, False, marks=SLOW) for seed in range(20, 26)),
    ],
)
def test_a_journal_damaged_while_stopped(tmp_path, moesif, journals, end, damage, suffix, seed, recoverable):
    journal, acknowledged = journals[end]
    collector = FaultyCollector(tmp_path / "collector", {"moesif": moesif.url})
    shutil.copytree(journal, collector.journal)
    damage(collector.journal / f"journal.db{suffix}", random.Random(seed))  # noqa: S311 - no secret
    with started(collector) as process:
        settle(collector, process, moesif)
        report = Report.of(collector, process)
    lost = acknowledged - set(moesif.transactions())
    assert not (lost and recoverable)
    assert_told(report, lost)


@SLOW
def test_a_log_that_was_cut_off_starts_and_keeps_what_comes_before(tmp_path, moesif, journals):
    """Nobody can tell it from a kill within a commit, so that there is nothing to report."""
    journal, acknowledged = journals["kill"]
    collector = FaultyCollector(tmp_path / "collector", {"moesif": moesif.url})
    shutil.copytree(journal, collector.journal)
    log = collector.journal / "journal.db-wal"
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size * 9 // 10)
    with started(collector) as process:
        settle(collector, process, moesif)
    assert len(acknowledged & set(moesif.transactions())) > CALLS // 2


@pytest.mark.parametrize(
    ("damage", "suffix", "down", "seed"),
    [
        (much_noise, "", True, 1),
        pytest.param(much_noise, "-wal", False, 1, marks=SLOW),
        *(
            pytest.param(damage, suffix, down, seed, marks=SLOW)
            for damage in (much_noise, noise, header)
            for suffix in ("", "-wal")
            for down in (True, False)
            for seed in (2, 3)
        ),
    ],
)
def test_a_journal_damaged_while_it_is_in_use(tmp_path, moesif, damage, suffix, down, seed):
    collector = FaultyCollector(tmp_path / "collector", {"moesif": moesif.url}, {"max_size": "64MiB"})
    moesif.behave(status=503 if down else None)
    with collector.run() as process, Traffic(collector.target, calls=CALLS_EACH) as traffic:
        # So many that the database has events of its own, and the log has begun anew.
        process.until(lambda: len(traffic.acknowledged) >= 10 * CALLS, "acknowledgements", timeout=20)
        damage(collector.journal / f"journal.db{suffix}", random.Random(seed))  # noqa: S311 - no secret
        survived = goes_on(process, traffic)
        first = Report.of(collector, process) if survived else None
        process.kill()
        traffic.stop()
    assert survived or process.exit_code == 1, process.output()
    if first:  # noticed between the report and the kill, which took the count along
        first = first._replace(salvaged=first.salvaged + len(_made_anew(process)) - len(first.lines))
    moesif.behave()
    with started(collector) as process:
        settle(collector, process, moesif)
        report = Report.of(collector, process, first)
    assert_told(report, traffic.acknowledged - set(moesif.transactions()))


# -- what all of them have in common ----------------------------------------------------------------------


class Report(NamedTuple):
    """What the collector says about the damage.

    Attributes:
        salvaged: How often it made the journal anew, by its metric.
        lines: The lines in its log that say so.
        aside: Old files that are set aside.
        errors: All lines of severity error.
        buried: Calls in the dead letters, as events or in requests.
        unreadable: Rows that it says are lost, and damaged frames of the log.
    """

    salvaged: float
    lines: list[str]
    aside: list[str]
    errors: list[str]
    buried: int
    unreadable: float

    @classmethod
    def of(cls, collector, process, earlier=None):
        lines, made = process.output().splitlines(), _made_anew(process)
        with closing(sqlite3.connect(f"file:{collector.journal}/journal.db?mode=ro", uri=True)) as journal:
            query = "select coalesce(sum(case kind when 'events' then count else ? end), 0) from dead_letters"
            (buried,) = journal.execute(query, (CALLS_EACH,)).fetchone()
        frames = sum("frames of the log are damaged" in line for line in made)
        return cls(
            collector.metric("otelcol_journal_salvages_total") + (earlier.salvaged if earlier else 0),
            made,
            [path.name for path in collector.journal.glob("journal-corrupt-*.db")],
            [line for line in lines if "  error  " in line],
            buried,
            collector.metric("otelcol_journal_unreadable_rows_total")
            + (earlier.unreadable if earlier else 0)
            + frames,
        )


def _made_anew(process):
    return [line for line in process.output().splitlines() if "made anew" in line]


def assert_told(report, lost):
    """What is lost is accounted for, and a journal made anew is one line, one count, one file."""
    assert len(report.lines) == report.salvaged == len(report.aside) <= 1, report
    if lost:
        assert report.errors, f"{len(lost)} calls are lost without a word"
        assert report.unreadable or report.buried >= len(lost), (len(lost), report)
    assert not any("Traceback" in line for line in report.errors), report


@contextmanager
def started(collector):
    """Start it; the first attempt may fail, with exit code 1, but not the second."""
    for attempt in range(ATTEMPTS):
        with collector.start() as process:
            try:
                process.until(collector.listening, "the OTLP port", timeout=20)
            except AssertionError:
                if process.exit_code != 1 or attempt + 1 == ATTEMPTS:
                    raise
                continue
            yield process
            return


def goes_on(process, traffic):
    """Wait until requests are acknowledged again or the process has ended; whether it has not."""
    before = len(traffic.acknowledged)
    try:
        process.until(lambda: len(traffic.acknowledged) >= before + CALLS, "acknowledgements", timeout=20)
    except AssertionError:
        if process.exit_code is None:
            raise
    return process.exit_code is None


def settle(collector, process, moesif):
    """Wait until all that is stored has been delivered: what comes last is stored last."""
    body, transactions = request(1)
    with channel(collector.target) as connection:
        call(connection, TRACES, body)
    process.until(lambda: moesif.transactions().keys() >= set(transactions), "the newest call", timeout=20)
    queue = "otelcol_exporter_queue_size"
    process.until(lambda: not collector.metric(queue), "an empty queue", timeout=20)
