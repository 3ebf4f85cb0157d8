"""How often the converter runs: a pass costs milliseconds however few records it has."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from otel_moesif.component import Signal
from otel_moesif.config.model import DeduplicateSettings, MetricsSettings
from otel_moesif.converter import ENOUGH_BYTES, ENOUGH_RECORDS, Converter
from otel_moesif.event_log import EventLog
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import RawRequest
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.stream import Stream
from otel_moesif.telemetry import Telemetry
from tests.processes import until


@pytest.fixture
def passes(monkeypatch):
    """Of each pass its time and its requests."""
    found = []
    real = Stream.convert

    def convert(self, batch, now, **options):
        found.append((time.monotonic(), len(batch)))
        return real(self, batch, now, **options)

    monkeypatch.setattr(Stream, "convert", convert)
    return found


@pytest.fixture
def converter(tmp_path):
    journal = Journal(JournalSettings(directory=tmp_path))
    telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
    converter = Converter(journal, [], EventLog(journal), DeduplicateSettings(), telemetry)
    converter.start()
    yield converter
    converter.shutdown(5)
    journal.close()


def requests(first: int, count: int, body: bytes = b"x") -> list[RawRequest]:
    return [RawRequest("nobody", Signal.TRACES, body, id=first + number) for number in range(count)]


def test_the_first_record_waits_for_a_moment_and_steady_ones_for_a_second(converter, passes):
    begin = time.monotonic()
    sent = 0
    while time.monotonic() < begin + 1.6:
        converter.stored(requests(sent, 1), [1])
        sent += 1
        time.sleep(0.02)
    until(lambda: sum(count for _, count in passes) == sent, "all of them", timeout=30)
    times = [when - begin for when, _ in passes]
    assert 0.15 < times[0] < 0.9
    assert all(later - earlier > 0.9 for earlier, later in pairwise(times))
    assert len(times) <= 3


@pytest.mark.parametrize(
    ("body", "records"), [(b"x", ENOUGH_RECORDS), (bytes(ENOUGH_BYTES // 4), 1)], ids=["records", "bytes"]
)
def test_when_there_is_enough_no_time_is_lost(converter, passes, body, records):
    waits = []
    for turn in range(3):
        begin = time.monotonic()
        converter.stored(requests(4 * turn, 4, body), [records // 4 or 1] * 4)
        until(lambda turn=turn: sum(count for _, count in passes) == 4 * (turn + 1), "a pass", timeout=30)
        waits.append(passes[-1][0] - begin)
    assert min(waits) < 0.15  # the best: a busy machine makes any of them longer
