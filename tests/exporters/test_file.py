"""The file exporter: the guide's shape, whole lines, and nothing lost or doubled by a failure."""

from __future__ import annotations

import asyncio
import json
import resource
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import polars as pl
import pytest

from otel_moesif import Events, StartError
from otel_moesif.exporters.file import FACTORY


@pytest.fixture
def build(context, tmp_path):
    def make(path="events.jsonl", **options):
        return FACTORY.build(FACTORY.config(path=tmp_path / path, **options), context)

    return make


def export(exporter, *batches):
    asyncio.run(exporter.start())
    for batch in batches:
        exporter.export(batch)
    asyncio.run(exporter.shutdown())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["response", "faulty"])
def test_an_event_is_exactly_the_documented_one(build, tmp_path, guide, kind):
    expected = guide(kind)
    row = {**expected, **expected["properties"]}
    del row["properties"]
    row["requestTimestamp"] = datetime.fromisoformat(row["requestTimestamp"])
    export(build(), Events(pl.DataFrame([row])))
    if kind == "response":
        # the guide's table of fields has it, its example has not
        expected["platform"] = "UNKNOWN"
    assert lines(tmp_path / "events.jsonl") == [expected]


def test_batches_follow_one_another_also_after_a_restart(build, tmp_path, events):
    export(build(), events({"apiName": "a"}, {"apiName": "b"}), events({"apiName": "c"}))
    export(build(fsync=True), events({"apiName": "d"}))
    assert [event["apiName"] for event in lines(tmp_path / "events.jsonl")] == ["a", "b", "c", "d"]


def test_an_event_is_one_line_whatever_is_in_it(build, tmp_path, events):
    export(build(), events({"apiName": "a\nb", "customProperties": '{\n  "tier": "gold"\n}'}))
    [event] = lines(tmp_path / "events.jsonl")
    assert event["apiName"] == "a\nb"
    assert event["properties"]["tier"] == "gold"


def test_an_empty_batch_writes_nothing(build, tmp_path, events):
    export(build(), events().slice(0, 0))
    assert (tmp_path / "events.jsonl").read_bytes() == b""


def test_a_line_that_a_crash_cut_off_is_ended_at_start(build, tmp_path, events):
    path = tmp_path / "events.jsonl"
    path.write_text('{"apiName": "whole"}\n{"apiName": "ha')
    export(build(), events({"apiName": "next"}))
    whole, half, after = path.read_text().splitlines()
    assert (json.loads(whole), half) == ({"apiName": "whole"}, '{"apiName": "ha')
    assert json.loads(after)["apiName"] == "next"


def test_a_batch_that_does_not_fit_leaves_the_file_as_it_was(build, tmp_path, events):
    """A real failure: the kernel writes up to the limit, then refuses."""
    exporter, path = build(), tmp_path / "events.jsonl"
    asyncio.run(exporter.start())
    exporter.export(events({"apiName": "first"}))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            exporter.export(events({"apiName": "second"}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    exporter.export(events({"apiName": "second"}))
    assert [event["apiName"] for event in lines(path)] == ["first", "second"]
    asyncio.run(exporter.shutdown())


def test_batches_from_several_threads_do_not_mix(build, tmp_path, events):
    exporter = build()
    asyncio.run(exporter.start())
    batches = [events(*[{"apiName": str(batch)}] * 50) for batch in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(exporter.export, batches))
    asyncio.run(exporter.shutdown())
    names = [event["apiName"] for event in lines(tmp_path / "events.jsonl")]
    assert len(names) == 1000
    assert all(len(set(names[start : start + 50])) == 1 for start in range(0, 1000, 50))


@pytest.mark.parametrize("rotate", ["rename", "unlink"])
def test_a_rotated_file_is_followed(build, tmp_path, events, rotate):
    exporter, path = build(), tmp_path / "events.jsonl"
    asyncio.run(exporter.start())
    exporter.export(events({"apiName": "old"}))
    if rotate == "rename":
        path.rename(tmp_path / "events.jsonl.1")
    else:
        path.unlink()
    exporter.export(events({"apiName": "new"}))
    assert [event["apiName"] for event in lines(path)] == ["new"]
    asyncio.run(exporter.shutdown())


def test_the_directory_is_made(build, tmp_path, events):
    export(build("some/where/events.jsonl"), events())
    assert len(lines(tmp_path / "some" / "where" / "events.jsonl")) == 1


def test_what_cannot_be_written_is_said_at_start(build, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"cannot write events to .*events.jsonl: File exists"):
        asyncio.run(build("file/events.jsonl").start())
    (tmp_path / "directory").mkdir()
    with pytest.raises(StartError, match="Is a directory"):
        asyncio.run(build("directory").start())


def test_shutdown_is_safe_unstarted_and_twice(build, events):
    exporter = build()
    asyncio.run(exporter.shutdown())
    with pytest.raises(OSError, match="not started"):
        exporter.export(events())
    asyncio.run(exporter.start())
    asyncio.run(exporter.shutdown())
    asyncio.run(exporter.shutdown())
