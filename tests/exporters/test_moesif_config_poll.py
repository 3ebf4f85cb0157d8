"""How Moesif's sampling rates are kept up to date; against a real HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from datetime import timedelta

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_moesif.exporters.moesif import client as http
from otel_moesif.exporters.moesif import config_poll
from otel_moesif.exporters.moesif.config_poll import CURRENT, REQUESTS, ConfigPoll, PollSettings
from tests.exporters.sending import APPLICATION_ID, settings_for

ETAG = "X-Moesif-Config-ETag"
LOGGER = logging.getLogger("test.config_poll")

# Seconds between two requests where a test is to see many of them; what else is to happen, happens at once.
SOON = 0.02
NEVER = 3600.0


def answer(rate=100, etag="one", status="200 OK", more="", body=None):
    """The bytes of an HTTP answer."""
    text = json.dumps({"sample_rate": rate}).encode() if body is None else body
    tag = f"{ETAG}: {etag}\r\n" if etag else ""
    return f"HTTP/1.1 {status}\r\n{tag}{more}Content-Length: {len(text)}\r\n\r\n".encode() + text


def failing(status, more=""):
    return answer(status=status, etag="", more=more, body=APPLICATION_ID.encode())


UNCHANGED = b"HTTP/1.1 304 Not Modified\r\n\r\n"
NOTHING = b""  # closes the connection
SILENCE = None


class Server:
    """Gives its answers in turn, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.times = []
        self.url = ""

    async def handle(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            self.requests.append((head[0], headers))
            self.times.append(asyncio.get_running_loop().time())
            given = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            if given is SILENCE:
                await reader.read()  # until the other side has enough
            else:
                writer.write(given)
                await writer.drain()
        writer.close()

    @property
    def gaps(self):
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


class Life:
    """A poll, its server, and what it counted."""

    def __init__(self, poll, server, reader):
        self.poll, self.server, self._reader = poll, server, reader

    def _points(self, name):
        data = self._reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def results(self):
        """Result → how many requests had it."""
        assert all(point.attributes["exporter"] == "moesif" for point in self._points(REQUESTS))
        return {point.attributes["result"]: point.value for point in self._points(REQUESTS)}

    def current(self):
        [point] = self._points(CURRENT)
        return point.value

    async def until(self, condition):
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def asked(self, times):
        """Wait for so many requests, answers included."""
        await self.until(lambda: sum(self.results().values()) >= times)


@contextlib.asynccontextmanager
async def asking(url, seconds=5.0):
    """A way to ask for the config."""
    settings = settings_for(url, timeout=f"{seconds}s")
    async with http.make_client(settings) as client:
        yield lambda etag: http.get(client, "/v1/config", APPLICATION_ID, settings, etag=etag)


def live(test, *answers, interval=NEVER, least_pause=SOON, timeout=5.0, chance=0.5):
    """Run a test with a started poll."""

    async def life():
        server = Server(*answers)
        listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        settings = PollSettings(
            timedelta(seconds=interval),
            name="…wxyz",
            attributes={"exporter": "moesif"},
            least_pause=least_pause,
        )
        async with asking(server.url, timeout) as ask:
            poll = ConfigPoll(ask, settings, provider.get_meter("test"), LOGGER, lambda: chance)
            await poll.start()
            try:
                await test(Life(poll, server, reader))
            finally:
                await poll.shutdown()
                provider.shutdown()
                listening.close()

    asyncio.run(life())


def test_before_the_first_answer_everything_is_kept():
    async def test(life):
        assert life.poll.config.keeps_everything
        assert not await life.poll.asked(0.01)

    live(test, SILENCE)


def test_it_asks_at_once_with_the_application_id():
    async def test(life):
        assert await life.poll.asked(10)
        assert life.poll.config.sample_rate == 40
        [(line, headers)] = life.server.requests
        assert line == "GET /v1/config HTTP/1.1"
        assert headers["x-moesif-application-id"] == APPLICATION_ID.lower()
        assert "if-none-match" not in headers
        assert life.results() == {"changed": 1}
        assert life.current() == 1

    live(test, answer(40))


@pytest.mark.parametrize("etag", ["one", '"one"', 'W/"one"'])
def test_later_it_asks_for_news_only_with_the_etag_as_it_came(etag):
    async def test(life):
        await life.asked(3)
        assert life.poll.config.sample_rate == 40
        assert life.poll.config.etag == "one"
        assert [headers.get("if-none-match") for _, headers in life.server.requests[:3]] == [
            None,
            etag.lower(),
            etag.lower(),
        ]
        assert life.results()["unchanged"] >= 2
        assert life.results()["changed"] == 1

    live(test, answer(40, etag), UNCHANGED, interval=SOON)


def test_the_same_answer_again_is_no_change_and_keeps_what_is_compiled():
    async def test(life):
        await life.poll.asked(10)
        first = life.poll.config.regex_config
        await life.asked(3)
        assert life.poll.config.regex_config is first
        assert life.poll.config.etag == "two"
        assert life.results()["changed"] == 1

    live(test, answer(40, "one"), answer(40, "two"), interval=SOON)


def test_a_new_config_takes_the_place_of_the_old_one():
    async def test(life):
        await life.until(lambda: life.poll.config.sample_rate == 30)
        assert life.poll.config.etag == "two"

    live(test, answer(40, "one"), answer(30, "two"), interval=SOON)


def test_an_event_answered_under_another_config_makes_it_ask_at_once():
    async def test(life):
        await life.poll.asked(10)
        life.poll.seen('"two"')
        await life.until(lambda: life.poll.config.sample_rate == 30)
        assert life.server.requests[1][1]["if-none-match"] == "one"

    live(test, answer(40, "one"), answer(30, "two"))


def test_an_event_answered_under_the_same_config_does_not():
    async def test(life):
        await life.poll.asked(10)
        for etag in ("one", '"one"', 'W/"one"', "", None):
            life.poll.seen(etag)
        life.poll.seen("two")  # the proof that the others would have been heard by now
        await life.asked(2)
        await asyncio.sleep(5 * SOON)
        assert len(life.server.requests) == 2

    live(test, answer(40, "one"), answer(30, "two"))


def test_many_such_answers_are_one_request_at_a_time_and_not_too_often():
    async def test(life):
        await life.poll.asked(10)
        for number in range(60):
            life.poll.seen(f"tag-{number}")
            await asyncio.sleep(0.01)
        await life.asked(4)
        assert min(life.server.gaps) >= 0.15

    live(test, answer(40, "one"), UNCHANGED, least_pause=0.15)


def test_an_etag_seen_right_after_a_change_is_not_lost():
    async def test(life):
        await life.poll.asked(10)
        life.poll.seen("two")
        await life.until(lambda: life.poll.config.sample_rate == 30)
        life.poll.seen("three")
        await life.until(lambda: life.poll.config.sample_rate == 20)

    live(test, answer(40, "one"), answer(30, "two"), answer(20, "three"), least_pause=0.1)


def test_an_etag_that_config_never_has_is_asked_for_once():
    async def test(life):
        await life.poll.asked(10)
        for _ in range(20):
            life.poll.seen("elsewhere")
            await asyncio.sleep(SOON / 2)
        assert len(life.server.requests) == 2

    live(test, answer(40, "one"), UNCHANGED)


def test_an_etag_seen_while_it_is_fetched_already_makes_no_second_request():
    async def test(life):
        await life.until(lambda: life.server.requests)
        life.poll.seen("one")
        await life.poll.asked(10)
        await asyncio.sleep(10 * SOON)
        assert life.results() == {"changed": 1}

    live(test, answer(40, "one", body=b'{"sample_rate":40}'), SILENCE)


FAILURES = [
    (NOTHING, "unreachable"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "unreachable"),  # cut off
    (b"garbage\r\n\r\n", "unreachable"),
    (answer(body=b"<html>" + APPLICATION_ID.encode()), "invalid"),
    (answer(body=b"[1]"), "invalid"),
    (failing("401 Unauthorized"), "refused"),
    (failing("402 Payment Required"), "refused"),
    (failing("500 Oops"), "http_error"),
    (failing("302 Found", "Location: /elsewhere\r\n"), "http_error"),
    (SILENCE, "unreachable"),
]


@pytest.mark.parametrize(("given", "result"), FAILURES)
def test_whatever_fails_the_last_good_config_stays_and_it_is_told_once(given, result, caplog):
    caplog.set_level("INFO", "test.config_poll")

    async def test(life):
        await life.until(lambda: life.results().get(result, 0) >= 3)
        assert life.poll.config.sample_rate == 40
        assert life.current() == 0
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(told) == 1
        assert "moesif …wxyz" in told[0]
        assert "the last known ones count" in told[0]
        life.server.answers[:] = [answer(30, "two")]
        await life.until(lambda: life.poll.config.sample_rate == 30)
        assert "can be had again" in caplog.text
        assert life.current() == 1
        assert "secret" not in caplog.text

    live(test, answer(40), given, interval=SOON, timeout=0.1 if given is SILENCE else 5)


def test_without_any_good_answer_everything_is_kept_and_that_is_told(caplog):
    async def test(life):
        await life.asked(2)
        assert life.poll.config.keeps_everything
        assert "every call is kept" in caplog.text

    live(test, failing("401 Unauthorized"))


def test_nobody_listening_is_a_failure_like_others():
    async def test(life):
        settings = PollSettings(timedelta(seconds=SOON), least_pause=SOON)
        async with asking("http://127.0.0.1:1") as ask:
            poll = ConfigPoll(ask, settings, MeterProvider().get_meter("test"), LOGGER)
            await poll.start()
            assert await poll.asked(10)
            assert poll.config.keeps_everything
            await poll.shutdown()

    live(test, answer())


def test_after_a_failure_it_tries_sooner_than_after_a_whole_interval():
    async def test(life):
        await life.until(lambda: life.poll.config.sample_rate == 40)

    live(test, NOTHING, NOTHING, answer(40), interval=NEVER)


def test_failures_in_a_row_are_tried_less_and_less_often():
    async def test(life):
        await life.asked(5)
        # doubled each time, times the chance
        assert life.server.gaps[0] >= 2 * SOON * 0.75
        assert life.server.gaps[3] >= 16 * SOON * 0.75

    live(test, NOTHING, interval=NEVER)


def test_an_answer_may_ask_to_wait():
    async def test(life):
        await life.asked(2)
        assert life.server.gaps[0] >= 1

    live(test, failing("503 Busy", "Retry-After: 1\r\n"))


def test_a_304_without_a_config_is_a_failure():
    async def test(life):
        await life.asked(1)
        assert life.results() == {"http_error": 1}

    live(test, UNCHANGED)


def test_an_answer_that_is_too_large_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(config_poll, "CONFIG_CAP", 1000)
    monkeypatch.setattr(http, "CONFIG_CAP", 1000)

    async def test(life):
        await life.until(lambda: life.results().get("too_large"))
        assert life.poll.config.sample_rate == 40

    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b" " * 2000
    live(test, answer(40), endless, interval=SOON)


def test_an_etag_that_cannot_be_sent_back_is_not_sent():
    async def test(life):
        await life.asked(2)
        assert life.poll.config.sample_rate == 40
        assert "if-none-match" not in life.server.requests[1][1]

    live(test, answer(40, "x" * 300), interval=SOON)


@pytest.mark.parametrize(("chance", "least"), [(0.0, 0.27), (0.999, 0.325)])
def test_the_interval_varies_by_a_tenth(chance, least):
    async def test(life):
        await life.asked(3)
        assert min(life.server.gaps) >= least

    live(test, answer(40), interval=0.3, chance=chance)


def test_what_cannot_be_used_is_told_once_and_without_its_values(caplog):
    caplog.set_level("INFO", "test.config_poll")
    regex = [{"conditions": [{"path": "request.secret", "value": "secret("}], "sample_rate": 5}]
    bodies = [json.dumps({"sample_rate": rate, "regex_config": regex}).encode() for rate in (40, 30)]

    async def test(life):
        await life.until(lambda: life.poll.config.sample_rate == 30)
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "rule 1" in warnings[0]
        assert "secret" not in caplog.text
        assert "sampling rates: 30 % of all calls" in caplog.text

    live(test, answer(body=bodies[0]), answer(body=bodies[1]), interval=SOON)


def test_shutdown_ends_a_request_that_hangs_and_is_safe_at_any_time():
    async def test(life):
        await life.until(lambda: life.server.requests)
        await life.poll.shutdown()
        await life.poll.shutdown()
        settings = PollSettings(timedelta(seconds=1))
        async with asking(life.server.url) as ask:
            await ConfigPoll(ask, settings, MeterProvider().get_meter("test"), LOGGER).shutdown()

    live(test, SILENCE)


def test_against_the_sandbox_rates_come_change_and_stay():
    sandbox_module = pytest.importorskip("otel_moesif_sandbox", reason="the sandbox plugin is not installed")

    async def life():
        async with (
            sandbox_module.Sandbox("127.0.0.1:0") as sandbox,
            asking(sandbox.url) as ask,
        ):
            sandbox.set_config({"sample_rate": 25})
            settings = PollSettings(timedelta(seconds=NEVER), least_pause=SOON)
            reader = InMemoryMetricReader()
            poll = ConfigPoll(ask, settings, MeterProvider([reader]).get_meter("test"), LOGGER)
            await poll.start()
            watch = Life(poll, None, reader)
            await watch.until(lambda: poll.config.sample_rate == 25)
            sandbox.set_config({"sample_rate": 10, "user_sample_rate": {"alice": 50}})
            told = await ask(None)
            poll.seen(told.config_etag)
            await watch.until(lambda: poll.config.sample_rate == 10)
            assert poll.config.user_sample_rate == {"alice": 50}
            assert poll.config.etag == told.config_etag.strip('"')
            await poll.shutdown()

    asyncio.run(life())
