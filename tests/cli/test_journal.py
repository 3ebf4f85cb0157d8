"""``otel-moesif journal``: what is in it, and what may leave it."""

from __future__ import annotations

import json

import pytest

from otel_moesif.component import Signal
from otel_moesif.journal.rows import Conversion, DeadLetter, NewChunk, Position, RawRequest


@pytest.fixture
def filled(journal, tmp_path):
    """Events for an exporter that is there and one that has left, kept requests, dead letters."""
    journal.register(["moesif", "old"])
    ids = journal.append(
        [RawRequest("otlp", Signal.TRACES, b"a"), RawRequest("otlp", Signal.TRACES, b"b")]
    ).ids
    chunks = [NewChunk(["moesif", "old"], 10, b"e"), NewChunk(["old"], 7, b"e")]
    letters = [DeadLetter("moesif", "events", "no", b"", count=4)]
    stored, _ = journal.convert(Conversion(done=ids, keep=True, chunks=chunks, dead_letters=letters))
    journal.append([RawRequest("otlp", Signal.TRACES, b"c")])
    journal.register(["moesif"])
    journal.advance("moesif", Position(stored[0], 4))
    (tmp_path / "journal" / "journal-corrupt-20260101T000000Z.db").write_bytes(b"x" * 2048)
    return journal


def test_the_status_is_a_table_for_people(on_journal, filled):
    said = on_journal("journal", "status")
    assert (said.code, said.err) == (0, "")
    rows = dict(line.split("  ", 1) for line in said.out.splitlines())
    rows = {name: value.strip() for name, value in rows.items()}
    assert rows["collector"] == "running"
    assert "free inside" in rows["on disk"]
    assert rows["requests to convert"].startswith("1, the oldest ")
    assert rows["events for moesif"].startswith("6, the oldest ")
    assert rows["events for moesif"].endswith("; in a pipeline")
    assert rows["events for old"].startswith("17, the oldest ")
    assert "in no pipeline (`otel-moesif journal prune --exporter old` drops them)" in rows["events for old"]
    assert rows["requests kept"].startswith("2, since 20")
    assert rows["dead letters"] == "1 (4 events and requests)"
    assert rows["damaged, set aside"] == "journal-corrupt-20260101T000000Z.db, 2.0 KiB"


def test_the_status_as_json_is_for_programs(on_journal, filled):
    filled.close()
    found = json.loads(on_journal("journal", "status", "--json").out)
    assert found["running"] is False
    assert found["kept"] == 2
    assert found["raw"] == 1
    assert {x["exporter"]: (x["events"], x["configured"]) for x in found["backlogs"]} == {
        "moesif": (6, True),
        "old": (17, False),
    }


def test_the_configuration_at_hand_says_who_is_still_in_a_pipeline(command, filled, tmp_path):
    (tmp_path / "collector.yaml").write_text(
        "service: {journal: {directory: journal}, pipelines: {traces: {exporters: [old, new]}}}\n"
    )
    found = json.loads(command("journal", "status", "--json").out)
    assert {x["exporter"]: x["configured"] for x in found["backlogs"]} == {"moesif": False, "old": True}
    found = json.loads(command("journal", "status", "--json", "--directory", "journal").out)
    assert {x["exporter"]: x["configured"] for x in found["backlogs"]} == {"moesif": True, "old": False}


def test_a_replay_under_way_is_shown(on_journal, filled):
    on_journal("replay", "--since", "1h", "--exporter", "moesif", "--no-wait")
    assert "replay 1" in (said := on_journal("journal", "status").out)
    assert "0 of 2 requests done for moesif" in said
    (replay,) = json.loads(on_journal("journal", "status", "--json").out)["replays"]
    assert replay == {"id": 1, "done": 0, "total": 2, "exporters": ["moesif"]}


def test_pruning_says_what_it_freed(on_journal, filled):
    said = on_journal("journal", "prune", "--exporter", "old", "--yes")
    assert (said.code, said.out) == (0, "17 events for old dropped\n")
    assert on_journal("journal", "prune", "--kept", "--yes").out == "2 kept requests dropped\n"
    assert on_journal("journal", "prune", "--give-back").out.endswith(" given back to the disk\n")
    assert filled.backlog() == {"moesif": 6}


def test_pruning_an_exporter_in_use_is_one_line_and_exit_1(on_journal, filled):
    said = on_journal("journal", "prune", "--exporter", "moesif", "--yes")
    assert (said.code, said.out) == (1, "")
    assert said.err == "moesif is in use by the collector that runs; stop it first\n"
    assert on_journal("journal", "prune", "--exporter", "nope", "--yes").code == 1


@pytest.mark.parametrize("what", [("--exporter", "old"), ("--kept",)])
def test_pruning_asks_nobody_where_nobody_is(on_journal, filled, what):
    said = on_journal("journal", "prune", *what)
    assert (said.code, said.out) == (2, "")
    assert "--yes" in said.err


@pytest.mark.parametrize("what", [(), ("--kept", "--give-back"), ("--exporter", "old", "--kept")])
def test_exactly_one_thing_is_pruned(on_journal, filled, what):
    said = on_journal("journal", "prune", *what, "--yes")
    assert (said.code, said.out) == (2, "")
    assert said.err == "otel-moesif: say what to prune: one of --exporter ID, --kept, --give-back\n"


def test_where_there_is_no_journal_one_line_says_so(command):
    said = command("journal", "status", "--directory", "nowhere")
    assert (said.code, said.out) == (1, "")
    assert said.err == "there is no journal in nowhere (service.journal.directory)\n"
