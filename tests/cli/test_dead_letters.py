"""``otel-moesif dead-letters``: seen, saved, tried again, dropped."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import stat
import subprocess
import sys
import time

import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.events import Events
from otel_moesif.held import to_ipc
from otel_moesif.journal.rows import Conversion, DeadLetter
from otel_moesif.journal.visitor import Visitor

TRACE_ID = bytes.fromhex("5b8efff798038103d269b633813fc60c")


def events(*ids: str) -> bytes:
    return Events(pl.DataFrame({"transactionId": ids, "apiName": ["Shop"] * len(ids)})).to_ipc()


def otlp() -> bytes:
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    spans.add(trace_id=TRACE_ID, span_id=b"\x01" * 8, name="GET /orders", kind=2)
    return message.SerializeToString()


def rows() -> bytes:
    return to_ipc(pl.DataFrame({"span": [b"\x01\x02"], "name": ["client"], "at": [None]}))


LETTERS = [
    DeadLetter("moesif", "events", "400 Bad\nRequest", events("a", "b"), 3, 2, response='{"error": "no"}'),
    DeadLetter("traces", "traces", "ValueError: who wrote this", otlp(), receiver="otlp"),
    DeadLetter("traces,apim_event,clients", "held", "left", rows()),
]


@pytest.fixture
def bury(journal):
    def bury(*letters: DeadLetter) -> None:
        journal.convert(Conversion(dead_letters=list(letters)))

    return bury


def left(tmp_path) -> list[int]:
    with Visitor(tmp_path / "journal") as visitor:
        return [letter.id for letter in visitor.dead_letters()]


# -- list ---------------------------------------------------------------------------------------------


def test_a_list_has_a_line_per_dead_letter_and_counts_them(on_journal, bury):
    bury(*LETTERS)
    said = on_journal("dead-letters", "list")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].split() == ["id", "time", "origin", "kind", "count", "attempts", "reason"]
    assert re.match(
        r" 1  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  moesif +events +2 +3  400 Bad Request *$", lines[1]
    )
    assert lines[-1] == "3 dead letters"
    assert len(lines) == 5


def test_a_long_list_shows_the_newest_and_says_so(on_journal, bury):
    bury(*[LETTERS[1]] * 60)
    lines = on_journal("dead-letters", "list").out.splitlines()
    assert lines[-1] == "60 dead letters; 10 older ones are not shown (--limit)"
    assert [line.split()[0] for line in lines[1:-1]] == [str(id_) for id_ in range(11, 61)]
    assert on_journal("dead-letters", "list", "--limit", 1).out.splitlines()[1].startswith("60 ")


def test_a_list_can_be_filtered(on_journal, bury):
    bury(*LETTERS)
    assert on_journal("dead-letters", "list", "--origin", "moesif").out.endswith("1 dead letter\n")
    assert on_journal("dead-letters", "list", "--before", "1h").out == "0 dead letters\n"
    assert on_journal("dead-letters", "list", "--before", "0s").out.endswith("3 dead letters\n")


def test_a_list_as_json_is_for_programs(on_journal, bury):
    bury(*LETTERS * 30)
    listed = json.loads(on_journal("dead-letters", "list", "--json").out)
    assert len(listed) == 90
    assert list(listed[0]) == [
        "id",
        "time",
        "origin",
        "kind",
        "receiver",
        "reason",
        "response",
        "attempts",
        "count",
    ]


def test_what_others_wrote_cannot_steer_the_terminal(on_journal, bury):
    reason = "bad [bold]\x1b[2J\x07 reason"
    bury(DeadLetter("moesif", "events", reason, events("a"), response="\x1b]0;title\x07"))
    for said in (on_journal("dead-letters", "list"), on_journal("dead-letters", "show", 1)):
        assert "[bold]" in said.out
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", said.out)


# -- show ---------------------------------------------------------------------------------------------


def test_events_are_shown_in_the_guides_shape(on_journal, bury):
    bury(*LETTERS)
    said = on_journal("dead-letters", "show", 1).out
    assert '"apiName": "Shop"' in said
    assert '{"error": "no"}' in said
    assert "400 Bad" in said
    shown = json.loads(on_journal("dead-letters", "show", 1, "--json").out)
    assert shown["transactionIds"] == ["a", "b"]
    assert [event["apiName"] for event in shown["events"]] == ["Shop", "Shop"]


def test_only_some_of_many_events_are_shown(on_journal, bury):
    bury(DeadLetter("moesif", "events", "no", events(*map(str, range(25))), count=25))
    said = on_journal("dead-letters", "show", 1).out
    assert said.count('"apiName"') == 20
    assert said.splitlines()[-1].startswith("5 more are not shown: `otel-moesif dead-letters export 1`")
    assert len(json.loads(on_journal("dead-letters", "show", 1, "--json").out)["events"]) == 25


def test_a_request_is_shown_as_otlp(on_journal, bury):
    bury(*LETTERS)
    said = on_journal("dead-letters", "show", 2).out
    shown = json.loads(said[said.index("{") :])
    (span,) = shown["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert span == {"traceId": TRACE_ID.hex(), "spanId": "01" * 8, "name": "GET /orders", "kind": 2}


def test_rows_that_were_held_are_shown(on_journal, bury):
    bury(*LETTERS)
    shown = json.loads(on_journal("dead-letters", "show", 3, "--json").out)
    assert shown["rows"] == [{"span": "0102", "name": "client", "at": None}]


@pytest.mark.parametrize("kind", ["events", "traces", "logs", "held"])
def test_what_cannot_be_read_is_said_to_be_so(on_journal, bury, kind):
    bury(
        DeadLetter("x", kind, "no", b"\xff nothing of the kind"),
        DeadLetter("x", kind, "damaged in the journal", LETTERS[0].body[:-100]),
    )
    for id_ in (1, 2):
        said = on_journal("dead-letters", "show", id_)
        assert said.code == 0
        assert "what it holds cannot be read: " in said.out
    lines = on_journal("dead-letters", "export").out.splitlines()
    assert base64.b64decode(json.loads(lines[1])["body"]) == LETTERS[0].body[:-100]
    assert "damaged" in json.loads(lines[1])["unreadable"]


def test_one_that_does_not_exist_is_one_line_and_exit_1(on_journal):
    said = on_journal("dead-letters", "show", 7)
    assert (said.code, said.out, said.err) == (1, "", "there is no dead letter 7\n")
    for verb in ("export", "replay", "purge"):
        assert on_journal("dead-letters", verb, 7, 8).err == "there is no dead letter 7, 8\n"


# -- export -------------------------------------------------------------------------------------------


def test_an_export_has_everything(on_journal, bury, tmp_path):
    bury(*LETTERS)
    said = on_journal("dead-letters", "export")
    assert said.err == "3 dead letters written\n"
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [event["apiName"] for event in lines[0]["events"]] == ["Shop", "Shop"]
    assert lines[0].items() >= {"id": 1, "attempts": 3, "count": 2, "response": '{"error": "no"}'}.items()
    assert base64.b64decode(lines[1]["request"]) == otlp()
    assert lines[1].items() >= {"kind": "traces", "receiver": "otlp", "origin": "traces"}.items()
    assert lines[2]["rows"][0]["name"] == "client"
    assert left(tmp_path) == [1, 2, 3]


def test_an_export_into_a_file_is_there_when_it_is_complete(on_journal, bury, tmp_path):
    bury(*LETTERS)
    (tmp_path / "out.jsonl").write_text("older\n")
    said = on_journal("dead-letters", "export", 2, 1, "--output", "out.jsonl")
    assert (said.code, said.out) == (0, "")
    assert [json.loads(x)["id"] for x in (tmp_path / "out.jsonl").read_text().splitlines()] == [1, 2]
    assert sorted(x.name for x in tmp_path.iterdir()) == ["journal", "out.jsonl"]


def test_an_export_that_fails_leaves_the_older_file(on_journal, bury, tmp_path):
    bury(*LETTERS)
    (tmp_path / "out.jsonl").write_text("older\n")
    assert on_journal("dead-letters", "export", 9, "--output", "out.jsonl").code == 1
    assert (tmp_path / "out.jsonl").read_text() == "older\n"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["journal", "out.jsonl"]


def test_an_export_does_not_replace_a_device_or_a_link(on_journal, bury, tmp_path):
    bury(*LETTERS)
    on_journal("dead-letters", "export", "--output", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116 - not what a link points to
    (tmp_path / "link").symlink_to("target")
    on_journal("dead-letters", "export", "--output", "link")
    assert (tmp_path / "link").is_symlink()
    assert len((tmp_path / "target").read_text().splitlines()) == 3


def test_a_place_that_cannot_be_written_is_one_line_and_exit_1(on_journal, bury):
    bury(*LETTERS)
    said = on_journal("dead-letters", "export", "--output", "nowhere/out.jsonl")
    assert (said.code, said.err) == (1, "cannot write nowhere/out.jsonl: No such file or directory\n")


# -- replay and purge ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_all_of_them_must_be_meant(on_journal, bury, tmp_path, verb):
    bury(*LETTERS)
    said = on_journal("dead-letters", verb, *(["--yes"] if verb == "purge" else []))
    assert (said.code, said.out) == (2, "")
    assert said.err == "otel-moesif: say which dead letters: ids, a filter, or --all\n"
    assert left(tmp_path) == [1, 2, 3]


def test_a_replay_says_what_it_cannot_take(on_journal, bury, journal, tmp_path):
    bury(*LETTERS, DeadLetter("moesif", "events", "damaged in the journal: wrong checksum", b"?", 0))
    said = on_journal("dead-letters", "replay", "--all").out.splitlines()
    assert said[0] == "3 dead letters will be tried again now"
    assert said[1].startswith("1 dead letter cannot be tried again")
    assert left(tmp_path) == [4]
    assert [item.origin for item in journal.inbox(1 << 20)] == [letter.origin for letter in LETTERS]


def test_a_replay_without_a_collector_says_when(on_journal, bury, journal, tmp_path):
    bury(*LETTERS)
    journal.close()
    said = on_journal("dead-letters", "replay", "--origin", "moesif").out
    assert said == "1 dead letter will be tried again when the collector starts; it does not run now\n"
    assert left(tmp_path) == [2, 3]


def test_purge_deletes_what_was_named(on_journal, bury, tmp_path):
    bury(*LETTERS)
    assert on_journal("dead-letters", "purge", "--before", "1h", "--yes").out == "0 dead letters deleted\n"
    assert on_journal("dead-letters", "purge", 1, 3, 1, "--yes").out == "2 dead letters deleted\n"
    assert left(tmp_path) == [2]
    assert on_journal("dead-letters", "purge", "--all", "-y").out == "1 dead letter deleted\n"


def test_purge_asks_nobody_where_nobody_is(on_journal, bury, tmp_path):
    bury(*LETTERS)
    said = on_journal("dead-letters", "purge", "--all")
    assert (said.code, said.out) == (2, "")
    assert said.err == "otel-moesif: nobody can be asked here: --yes to go on without\n"
    assert left(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize(("answer", "remaining"), [(b"n\n", [1, 2, 3]), (b"\n", [1, 2, 3]), (b"y\n", [])])
def test_purge_asks_whoever_sits_there(journal, bury, tmp_path, answer, remaining):
    bury(*LETTERS)
    master, slave = pty.openpty()
    try:
        os.write(master, answer)
        done = subprocess.run(
            [sys.executable, "-m", "otel_moesif", "dead-letters", "purge", "--all", "--directory", "journal"],
            stdin=slave,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            check=True,
        )
    finally:
        os.close(master)
        os.close(slave)
    assert "Delete 3 dead letters for good?" in done.stderr
    assert left(tmp_path) == remaining


# -- which journal ------------------------------------------------------------------------------------


def test_the_configuration_says_where_the_journal_is(command, bury, tmp_path):
    bury(*LETTERS)
    # its secrets are in the environment of the collector, not in that of whoever looks
    config = (
        "exporters: {moesif: {application_id: '${env:NOT_SET}'}}\nservice: {journal: {directory: journal}}\n"
    )
    (tmp_path / "collector.yaml").write_text(config)
    (tmp_path / "other.yaml").write_text("service: {journal: {directory: elsewhere}}\n")
    assert command("dead-letters", "list").out.endswith("3 dead letters\n")
    said = command("dead-letters", "list", "--config", "other.yaml")
    assert (said.code, said.err) == (1, "there is no journal in elsewhere (service.journal.directory)\n")
    said = command("dead-letters", "list", "-c", "other.yaml", "--set", "service.journal.directory=journal")
    assert said.code == 0


def test_without_configuration_a_line_says_what_helps(command):
    said = command("dead-letters", "list")
    assert (said.code, said.out) == (1, "")
    (line,) = said.err.splitlines()
    assert "--directory DIR" in line
    assert "--config FILE" in line


def test_a_journal_whose_place_is_not_said_is_a_wrong_configuration(command, tmp_path):
    (tmp_path / "collector.yaml").write_text("service: {journal: {directory: '${env:NOT_SET}'}}\n")
    said = command("dead-letters", "list")
    assert said.code == 2
    assert said.err.startswith("service::journal::directory: ")


# -- when ---------------------------------------------------------------------------------------------


def test_a_moment_without_a_zone_is_local_and_said_to_be(on_journal, bury, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        bury(*LETTERS)
        said = on_journal("dead-letters", "list", "--before", "2026-01-20 10:00")
        assert said.err == (
            "otel-moesif: --before: 2026-01-20 10:00 is taken as local time: 2026-01-20T10:00:00+05:30\n"
        )
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["soon", "5", "1x", "2026-13-01", "9999999999999d"])
def test_what_is_no_moment_is_one_line_and_exit_2(on_journal, text):
    said = on_journal("dead-letters", "list", "--before", text)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f'otel-moesif: --before: "{text}" is neither a time')
