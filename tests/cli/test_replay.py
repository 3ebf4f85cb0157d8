"""``otel-moesif replay``: asked for, followed, left alone, cancelled."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from otel_moesif.component import Signal
from otel_moesif.journal.rows import Conversion, RawRequest
from tests.processes import Process, until


@pytest.fixture
def kept(journal):
    """A journal with three kept requests."""
    journal.register(["moesif"])
    ids = [journal.append([RawRequest("otlp", Signal.TRACES, b"x")]).ids[0] for _ in range(3)]
    journal.convert(Conversion(done=ids, keep=True))
    return journal


def take_up(journal) -> None:
    """Do what the collector does with a replay, as soon as there is one."""
    part = until(lambda: journal.next_replay(1 << 20), "a replay")
    journal.convert(Conversion(replay=(part.id, part.last, len(part.requests))))
    journal.convert(Conversion(replayed=part.id))


def test_with_a_collector_it_waits_until_it_is_done(on_journal, kept):
    collector = threading.Thread(target=take_up, args=[kept])
    collector.start()
    said = on_journal("replay", "--since", "1h")
    collector.join()
    assert (said.code, said.err.strip()) == (0, "")
    assert said.out == "replay 1: 3 requests converted again; their events are being delivered\n"


def test_without_a_collector_it_says_when_it_will_be_done(on_journal, kept):
    kept.close()
    said = on_journal("replay", "--since", "1h")
    assert said.code == 0
    assert said.out.splitlines() == [
        "replay 1: 3 requests will be converted again when the collector starts",
        "no collector runs on this journal now",
    ]


def test_nobody_has_to_wait(on_journal, kept):
    said = on_journal("replay", "--since", "1h", "--exporter", "moesif", "--no-wait")
    assert said.code == 0
    assert "journal status" in said.out
    assert "replay --cancel 1" in said.out
    assert kept.next_replay(1 << 20).exporters == ["moesif"]
    assert on_journal("replay", "--cancel", 1).out == "replay 1: cancelled\n"
    assert kept.next_replay(1 << 20) is None
    assert on_journal("replay", "--cancel", 1).code == 1


def waiting(tmp_path) -> Process:
    arguments = ["replay", "--since", "1h", "--directory", str(tmp_path / "journal")]
    return Process([sys.executable, "-m", "otel_moesif", *arguments], tmp_path / "log")


def test_ctrl_c_leaves_it_going_on(kept, tmp_path):
    with waiting(tmp_path) as process:
        process.until(lambda: kept.next_replay(1 << 20), "the replay")
        until(lambda: is_followed(process), "the progress")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait() == 130
    assert "replay 1 goes on; `otel-moesif journal status`" in process.output()
    assert "Traceback" not in process.output()
    assert kept.next_replay(1 << 20)


def is_followed(process) -> bool:
    """Nobody announces that the progress is shown; but a thread of its own does that."""
    return len(list(os.scandir(f"/proc/{process.pid}/task"))) > 1


def test_a_collector_that_stops_meanwhile_is_noticed(kept, tmp_path):
    with waiting(tmp_path) as process:
        process.until(lambda: kept.next_replay(1 << 20), "the replay")
        kept.close()
        assert process.wait() == 1
    assert "the collector has stopped; replay 1 goes on when it starts again" in process.output()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say from when on"),
        (("--since", "1h", "--until", "2h"), "--since must be before --until"),
        (("--since", "2099-01-01T00:00:00Z"), "--since must be before --until (or before now)"),
        (("--since", "soon"), '--since: "soon" is neither'),
        (("--cancel", "1", "--since", "1h"), "--cancel goes with no other option"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_2(on_journal, kept, options, said):
    done = on_journal("replay", *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert kept.next_replay(1 << 20) is None


def test_where_nothing_was_kept_one_line_says_why(on_journal, kept):
    said = on_journal("replay", "--since", "2h", "--until", "1h")
    assert (said.code, said.out) == (1, "")
    assert "service.journal.keep_raw" in said.err
    assert "no pipeline has nope" in on_journal("replay", "--since", "1h", "--exporter", "nope").err


def test_a_day_is_a_duration(on_journal, kept):
    assert on_journal("replay", "--since", "1d12h", "--until", "1d", "--no-wait").code == 1
    assert on_journal("replay", "--since", "1d12h", "--until", "0s", "--no-wait").code == 0
