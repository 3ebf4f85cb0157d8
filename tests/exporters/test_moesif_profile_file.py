"""Which profiles were sent is known after a restart, whatever happened to the clock or the file."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif import RetryableError
from otel_moesif.config import load, validate
from otel_moesif.exporters.moesif.profile_file import ProfileFile
from otel_moesif.exporters.moesif.profiles import Profiles
from otel_moesif.exporters.moesif.settings import ProfileSettings
from otel_moesif.graph import build, try_out
from otel_moesif.plugins import Registry
from tests.exporters.delivery import until
from tests.exporters.side_line import Line, names
from tests.exporters.test_moesif_exporter import Meters, running, with_sandbox
from tests.exporters.test_moesif_profiles import HOUR, Clock, frame

NOW = 1_800_000_000.0
NEVER = 1000.0  # seconds
LOGGER = logging.getLogger("test.profiles")


class Life:
    """One run of a process: profiles that remember with the help of a file.

    Args:
        path: Of the file.
        at: What the clock says at the start.
        options: Of the profiles.
    """

    def __init__(self, path, at=NOW, *, pause=NEVER, waiting=list, remembered=1000, endpoint="", **options):
        self.clock = Clock()
        self.clock.now = at
        given = ProfileSettings(**{"enabled": True, "interval": "1h", **options})
        self.profiles = Profiles("user", given, self.clock, remembered, endpoint)
        self.file = ProfileFile(path, self.profiles, waiting, LOGGER, pause)

    async def __aenter__(self):
        await self.file.start()
        return self

    async def __aexit__(self, *_):
        await self.file.shutdown()

    def call(self, *users, app="app"):
        return sorted(names(self.profiles.seen(frame(*({"user": user} for user in users)), app)))


def run(path, *calls, at=NOW, **options):
    """A run with calls one after the other: what profiles each of them made."""

    async def live():
        async with Life(path, at, **options) as life:
            return [life.call(*users) for users in calls]

    return asyncio.run(live())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "components" / "exporters" / "moesif" / "users.sent"


def test_a_restart_remembers_until_the_interval_is_over(path):
    assert run(path, "ab") == [["a", "b"]]
    assert run(path, "abc", at=NOW + HOUR - 1) == [["c"]]
    assert run(path, "abc", at=NOW + HOUR) == [["a", "b"]]
    assert run(path, "abc", at=NOW + HOUR) == [[]]


def test_each_application_endpoint_and_content_is_told_apart_after_a_restart(path):
    async def one_application():
        async with Life(path) as life:
            assert life.call("a", app="one") == ["a"]

    async def another():
        async with Life(path) as life:
            assert life.call("a", app="one") == []
            assert life.call("a", app="two") == ["a"]

    asyncio.run(one_application())
    asyncio.run(another())
    assert run(path, "a", endpoint="http://sandbox", metadata={"api": "apiName"}) == [["a"]]
    assert run(path, "a", endpoint="http://moesif", metadata={"api": "apiName"}) == [["a"]]
    assert run(path, "a", endpoint="http://moesif", metadata={"name": "apiName"}) == [["a"]]
    assert run(path, "a", endpoint="http://moesif", metadata={"name": "apiName"}) == [[]]


PINNED = [17791145827577831365, 10639288338565218145, 3255406319536625377]


def test_keys_are_the_same_in_every_process_and_version():
    """Who changes them makes every collector send all profiles again after its update."""
    users = Profiles("user", ProfileSettings(enabled=True))
    texts = [json.dumps({"user_id": name}) for name in ("a", "zoë", "x" * 300)]
    assert users.keys("app", texts).to_list() == PINNED
    assert Profiles("company", ProfileSettings()).keys("app", ['{"company_id":"a"}']).item() not in PINNED


@pytest.mark.parametrize("step", [-1, -HOUR / 2, -HOUR, -30 * 24 * HOUR])
@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_after_the_clock_was_set_back_nothing_is_sent_early_and_all_is_due_an_interval_later(
    path, step, restart
):
    async def live():
        life = Life(path)
        await life.file.start()
        assert life.call("a") == ["a"]
        then = NOW + step
        for seconds in (0, HOUR / 2, HOUR - 1):
            if restart:
                await life.file.shutdown()
                life = Life(path, then + seconds)
                await life.file.start()
            life.clock.now = then + seconds
            assert life.call("a") == []
        life.clock.now = then + HOUR
        assert life.call("a") == ["a"]
        assert life.call("a") == []
        await life.file.shutdown()

    asyncio.run(live())


def test_a_clock_that_is_set_forward_costs_one_profile_more_also_when_it_returns(path):
    assert run(path, "a") == [["a"]]
    assert run(path, "a", "a", at=NOW + 365 * 24 * HOUR) == [["a"], []]
    assert run(path, "a", "a", at=NOW + 1) == [[], []]
    assert run(path, "a", at=NOW + 1 + HOUR) == [["a"]]


def test_what_waits_to_be_sent_is_due_again_when_the_process_dies(path):
    async def live():
        async def post(*_):
            raise RetryableError("busy")

        line = Line(post)
        life = Life(path, pause=0.01, waiting=lambda: line.queue.waiting("user"))
        await life.file.start()
        life.call("sent", "Wörld")  # by what nobody asked about
        line.queue.put("user", "app", life.profiles.seen(frame({"user": "w"}, {"user": 'é"'}), "app"))
        await until(lambda: path.exists() and line.requests)
        crashed = await asyncio.to_thread(path.read_bytes)
        await line.queue.shutdown(1)
        await life.file.shutdown()
        return crashed

    content = asyncio.run(live())
    path.write_bytes(content)
    assert run(path, ["sent", "Wörld", "w", 'é"']) == [["w", 'é"']]


def test_a_killed_process_loses_what_the_last_pause_brought_and_no_more(path):
    async def live():
        life = Life(path, pause=0.01)
        await life.file.start()
        life.call("a")
        await until(path.exists)
        assert run_beside() == [[]]  # nobody shut it down
        life.profiles.forget("app", ['{"user_id":"a"}'])
        before = path.stat().st_mtime_ns
        await until(lambda: path.stat().st_mtime_ns != before)
        await life.file.shutdown()

    def run_beside():
        other = Life(path)
        other.file._read()
        return [other.call("a")]

    asyncio.run(live())
    assert run(path, "a") == [["a"]]


def test_nothing_is_written_while_nothing_changes(path):
    run(path)
    assert not path.exists()
    run(path, "a")
    before = path.stat()
    run(path, "a", pause=0.001)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_only_the_owner_can_look_into_it(path):
    run(path, "a")
    for directory in path.parents[:3]:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_those_sent_last_are_kept_when_the_file_has_more_than_are_to_be_remembered(path):
    run(path, "a", "b", "c")
    assert run(path, "c", "b", "a", remembered=2) == [[], [], ["a"]]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_is_ignored_with_one_line_and_replaced(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("profiles") / "users.sent"
    run(path, "ab")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    LOGGER.addHandler(handler)
    try:
        assert run(path, "abc") == [["a", "b", "c"]]
    finally:
        LOGGER.removeHandler(handler)
    (line,) = [record.getMessage() for record in heard]
    assert str(path) in line
    assert "damaged" in line or "not of version" in line
    assert run(path, "abc") == [[]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is damaged"),
        (b"otel-moesif profiles 2\nwhatever", "it is not of version 1"),
        (bytes(200_000), "it is larger than"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(path, caplog, content, said):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert run(path, "a") == [["a"]]
    (record,) = caplog.records
    assert f"ignoring {path}: {said}" in record.getMessage()
    assert run(path, "a") == [[]]


def test_a_place_that_cannot_be_written_costs_one_line_and_no_profile(path, caplog):
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("in the way")

    async def live():
        async with Life(path, pause=0.001) as life:
            assert life.call("a") == ["a"]
            await until(lambda: any("cannot write" in line for line in caplog.messages))
            assert life.call("b") == ["b"]

    asyncio.run(live())
    assert len([line for line in caplog.messages if "cannot write" in line]) == 1


def test_a_million_ids_fit_into_a_file(path):
    many = pl.Series("user_id", range(1_000_000)).cast(pl.String)
    life = Life(path, remembered=1_000_000)
    life.profiles._memory.admit(life.profiles._keys(many, "app"))

    async def write():
        async with life:
            life.call("a")

    asyncio.run(write())
    assert path.stat().st_size < 9_000_000
    assert run(path, ["a", "999999"], ["0"], remembered=1_000_000) == [[], ["0"]]  # the oldest made room


def recent():
    now = datetime.now(UTC)
    return {"requestTimestamp": now, "responseTimestamp": now}


def test_an_exporter_that_starts_again_sends_no_second_profile(tmp_path, events):
    async def body(sandbox):
        meters = Meters()
        meters.context = replace(meters.context, directory=tmp_path / "moesif")
        other = Meters()
        other.context = replace(meters.context, directory=tmp_path / "moesif%2Feu")
        options = {"users": {"enabled": True}, "companies": {"enabled": True}}

        async def deliver(of, *users):
            async with running(sandbox, of, **options) as exporter:
                rows = ({**recent(), "userName": user, "companyId": "alice"} for user in users)
                await exporter.export(events(*rows))
            return sandbox.stats["users"]["received"], sandbox.stats["companies"]["received"]

        assert await deliver(meters, "alice") == (1, 1)
        assert await deliver(meters, "alice") == (1, 1)
        assert await deliver(meters, "alice", "bob") == (2, 1)
        assert await deliver(other, "alice", "bob") == (4, 2)  # knows nothing of the first one

    with_sandbox(body)


def test_what_did_not_arrive_before_a_stop_is_sent_after_it(tmp_path, events):
    async def body(sandbox):
        meters = Meters()
        meters.context = replace(meters.context, directory=tmp_path)
        sandbox.behave(kind="users", status=503)
        for received in (0, 1):
            async with running(sandbox, meters, users={"enabled": True}) as exporter:
                await exporter.export(events({**recent(), "userName": "alice"}))
            assert sandbox.stats["users"]["received"] == received
            sandbox.behave()

    with_sandbox(body)


CONFIG = """
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
processors: {apim_event: {}}
exporters:
  moesif: {application_id: one, users: {enabled: true}}
  moesif/eu west: {application_id: one, users: {enabled: true}}
  file: {path: events.jsonl}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [apim_event], exporters: [moesif, moesif/eu west, file]}
"""


def test_a_collector_gives_each_component_a_directory_and_who_only_looks_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    registry = Registry.load()
    config = validate(load([tmp_path / "config.yaml"], [], {}), registry)

    def directories(graph):
        return [exporter._context.directory for name, exporter in graph.exporters.items() if name != "file"]

    looking = try_out(config, registry)
    assert directories(looking) == [None, None]
    running = build(config, registry, looking.pipelines[0]._telemetry, tmp_path / "components")
    places = [tmp_path / "components" / "exporters" / name for name in ("moesif", "moesif%2Feu%20west")]
    assert directories(running) == places

    async def live(graph):
        for name in ("moesif", "moesif/eu west"):
            await graph.exporters[name].start()
            await graph.exporters[name].shutdown()

    for graph in (looking, running):
        asyncio.run(live(graph))
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
