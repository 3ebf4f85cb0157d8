"""How batches get to Moesif, and what each of its answers makes of them; against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version

import pytest

from otel_moesif import PausedError, PermanentError, RetryableError
from otel_moesif.exporters.moesif import FACTORY
from otel_moesif.exporters.moesif.answer import ANSWER_CAP, retry_after_seconds
from tests.ports import free_port

APPLICATION_ID = "eyJhcHAiOiJ0ZXN0In0.secret-part-wxyz"


@pytest.fixture
def events(events):
    """Events of just now: older ones Moesif would not take."""
    now = datetime.now(UTC)
    times = {"requestTimestamp": now, "responseTimestamp": now}
    return lambda *changes: events(*({**times, **change} for change in changes or ({},)))


@pytest.fixture
def ship(context):
    """Start an exporter, export batches, stop it."""

    def run(url, *batches, **options):
        async def life():
            config = FACTORY.config(endpoint=url, application_id=APPLICATION_ID, **options)
            exporter = FACTORY.build(config, context)
            await exporter.start()
            try:
                for batch in batches:
                    await exporter.export(batch)
            finally:
                await exporter.shutdown()

        asyncio.run(life())

    return run


def test_a_batch_is_one_gzipped_post(ship, backend, events):
    ship(backend.url, events({}, {"apiName": "Käse"}))
    [request] = backend.requests
    assert request.path == "/v1/events/batch"
    assert request.headers["x-moesif-application-id"] == APPLICATION_ID
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-encoding"] == "gzip"
    assert request.headers["user-agent"] == f"otel-moesif/{version('otel-moesif')}"
    [sent] = backend.received()
    assert [event["metadata"]["apiName"] for event in sent] == ["Pizza", "Käse"]


def test_without_compression(ship, backend, events):
    ship(backend.url, events(), compression="none")
    assert "content-encoding" not in backend.requests[0].headers
    assert len(json.loads(backend.requests[0].body)) == 1


def test_more_than_a_compressor_takes_at_once(ship, backend, events):
    ship(backend.url, events(*[{"apiName": f"é{number}"} for number in range(2000)]))
    [sent] = backend.received()
    assert [event["metadata"]["apiName"] for event in sent] == [f"é{number}" for number in range(2000)]


def test_a_path_before_v1(ship, backend, events):
    ship(f"{backend.url}/collector/v1/", events())
    assert backend.requests[0].path == "/collector/v1/events/batch"


def test_the_connection_is_kept(ship, backend, events):
    backend.answers = [(201, b"x" * 1000, {}), (200, b"", {}), (202, b"{}", {})]
    ship(backend.url, events(), events(), events())
    assert len(backend.requests) == 3
    assert len(backend.clients) == 1


def test_an_empty_batch_is_not_sent(ship, backend, events):
    ship(backend.url, events().slice(0, 0))
    assert backend.requests == []


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_a_success(ship, backend, events, status):
    backend.answers = [(status, b"", {})]
    ship(backend.url, events())


@pytest.mark.parametrize("status", [301, 401, 402, 403, 404, 405, 406, 408, 410, 429, 500, 502, 503, 504])
def test_these_are_tried_again(ship, backend, events, status):
    backend.answers = [(status, b"busy", {"Retry-After": "17"})]
    with pytest.raises(RetryableError, match=f"HTTP {status}: busy") as caught:
        ship(backend.url, events())
    assert caught.value.retry_after == 17


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "check application_id"),
        (402, "subscription at Moesif is not active"),
        (403, "check application_id"),
    ],
)
def test_what_only_somebody_can_mend_pauses_and_says_the_remedy(ship, backend, events, status, remedy):
    backend.answers = [(status, b"", {})]
    with pytest.raises(PausedError, match=remedy) as caught:
        ship(backend.url, events())
    assert caught.value.retry_after is None


@pytest.mark.parametrize("status", [400, 413, 422])
def test_these_are_final(ship, backend, events, status):
    backend.answers = [(status, b"request.uri is missing", {})]
    with pytest.raises(PermanentError, match=f"HTTP {status}: request.uri is missing"):
        ship(backend.url, events())


def test_an_answer_is_quoted_briefly_and_without_the_application_id(ship, backend, events):
    backend.answers = [(400, f"no {APPLICATION_ID}\n\x1b[31m".encode() + b"\xff" * 10 * ANSWER_CAP, {})]
    with pytest.raises(PermanentError) as caught:
        ship(backend.url, events())
    text = str(caught.value)
    assert text.startswith("HTTP 400: no …wxyz ?[31m")
    assert len(text) <= len("HTTP 400: ") + 300
    assert "secret" not in text


def test_nobody_listens(ship, events):
    port = free_port()
    with pytest.raises(RetryableError, match=f"cannot reach http://127.0.0.1:{port}: "):
        ship(f"http://127.0.0.1:{port}", events())


def test_no_answer_in_time(ship, events):
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(RetryableError, match=r"no answer within 0\.1 s"),
    ):
        ship(f"http://127.0.0.1:{silent.getsockname()[1]}", events(), timeout="100ms")


def test_a_connection_that_is_closed_is_tried_again(context, events):
    async def life():
        async def hang_up(reader, writer):
            await reader.read(1)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        exporter = FACTORY.build(FACTORY.config(endpoint=url, application_id=APPLICATION_ID), context)
        async with server:
            await exporter.start()
            with pytest.raises(RetryableError, match="cannot reach"):
                await exporter.export(events())
            await exporter.shutdown()

    asyncio.run(life())


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(ship, backend, events, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    ship(backend.url, events())
    assert len(backend.requests) == 1


def test_shutdown_is_safe_unstarted_and_twice(context, events):
    async def life():
        exporter = FACTORY.build(FACTORY.config(application_id=APPLICATION_ID), context)
        await exporter.shutdown()
        with pytest.raises(RetryableError, match="not started"):
            await exporter.export(events())
        await exporter.start()
        await exporter.shutdown()
        await exporter.shutdown()

    asyncio.run(life())


@pytest.mark.parametrize(
    ("endpoint", "whom"),
    [
        ("http://localhost:9500", "a local Moesif (sandbox or proxy) at http://localhost:9500"),
        ("http://[::1]:9500/v1/", "a local Moesif (sandbox or proxy) at http://[::1]:9500"),
        ("https://api.moesif.net/", "Moesif at https://api.moesif.net"),
    ],
)
def test_it_says_where_it_ships_to(ship, caplog, endpoint, whom):
    with caplog.at_level(logging.INFO, "test.exporter"):
        ship(endpoint)
    lines = [record.getMessage() for record in caplog.records if record.name == "test.exporter"]
    assert lines == [f"moesif: shipping to {whom}, application id …wxyz"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 1.5 ", 1.5),
        ("", None),
        (None, None),
        ("-1", None),
        ("soon", None),
        ("٣", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after_seconds(value) == seconds


def test_retry_after_as_a_date():
    now = datetime.now(UTC)
    assert 55 < retry_after_seconds(format_datetime(now + timedelta(minutes=1), usegmt=True)) <= 60
    assert retry_after_seconds(format_datetime(now - timedelta(minutes=1), usegmt=True)) == 0
